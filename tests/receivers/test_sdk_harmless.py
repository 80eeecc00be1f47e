"""The in-process receiver never raises, blocks or leaks in the agent's thread, and reports its losses."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider

from spanpost.model.observations import Part
from spanpost.receivers.queue import Loss, Losses, Queue
from spanpost.receivers.sdk import SdkLogProcessor, SdkSpanProcessor
from spanpost.receivers.worker import Feed
from spanpost.testing.receivers import SeenRequest, Stuck

#: Far longer than a call of the agent takes on a busy machine. Waiting for a receiver that never answers takes longer.
AT_ONCE = 30.0


def followed(receive: Any, **options: Any) -> tuple[TracerProvider, SdkSpanProcessor]:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SdkSpanProcessor(Feed(receive, **options))
    provider.add_span_processor(processor)
    return provider, processor


@pytest.mark.proves("no-wait")
def test_a_receiver_that_hangs_is_not_felt() -> None:
    """While the receiver hangs the agent continues; overflow is counted, and queued spans arrive later."""
    stuck = Stuck()
    provider, processor = followed(stuck, capacity=100)
    tracer = provider.get_tracer("t")
    first = tracer.start_span("first")
    assert stuck.is_entered.wait(60)
    began = time.monotonic()
    for _ in range(200):
        with tracer.start_as_current_span("task") as span:
            span.add_event("one")
    assert time.monotonic() - began < AT_ONCE
    assert processor.feed.losses.totals() == {"queue_full": 500}
    stuck.released.set()
    assert provider.force_flush()
    assert len(stuck.of(Part.ENDED)) == 33
    assert first.is_recording()
    provider.shutdown()


@pytest.mark.proves("counted-losses")
def test_observations_in_the_queue_are_never_evicted() -> None:
    """A full queue refuses the newcomer and keeps its content, in order."""
    queue = Queue(capacity=3)
    assert [queue.put(n) for n in range(5)] == [True, True, True, False, False]
    assert [queue.take() for _ in range(4)] == [0, 1, 2, None]
    assert queue.losses.totals() == {"queue_full": 2}


def test_chatter_gives_way_to_newer_chatter() -> None:
    """Plain log lines have a small queue of their own, whose oldest line is dropped and counted."""
    queue = Queue(capacity=1, chatter_capacity=2)
    for n in range(5):
        queue.put_chatter(n)
    assert queue.put("news")
    assert [queue.take_chatter() for _ in range(3)] == [3, 4, None]
    assert queue.losses.totals() == {"superseded": 3}


@pytest.mark.proves("counted-losses")
def test_losses_are_exact_from_many_threads() -> None:
    """Losses counted by many threads at once add up."""
    losses = Losses()
    threads = [threading.Thread(target=lambda: [losses.count(Loss.QUEUE_FULL) for _ in range(2_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert losses.totals() == {"queue_full": 16_000}


def test_a_receiver_that_raises_is_counted() -> None:
    """A refusal of a receiver is counted, a flush reports it once, and later batches are still sent to it."""
    seen = SeenRequest()
    fails = [True]

    def receive(batch: list[Any]) -> None:
        if fails.pop() if fails else False:
            raise RuntimeError("no database")
        seen(batch)

    provider, processor = followed(receive)
    provider.get_tracer("t").start_span("lost").end()
    assert not provider.force_flush()
    provider.get_tracer("t").start_span("kept").end()
    assert provider.force_flush()
    assert "kept" in {o.name for o in seen.of(Part.ENDED)}
    assert processor.feed.losses.totals().keys() == {"receive"}
    provider.shutdown()


def test_flush_is_bounded_and_honest() -> None:
    """A flush that cannot finish returns False in its time, and while it is overdue further ones do so at
    once.
    """
    stuck = Stuck()
    provider, processor = followed(stuck)
    provider.get_tracer("t").start_span("task").end()
    assert stuck.is_entered.wait(60)
    began = time.monotonic()
    assert not provider.force_flush(50)
    first = time.monotonic() - began
    assert 0.04 < first < 1.9  # without the given limit, it would be two seconds
    assert not any(provider.force_flush(30_000) for _ in range(50))
    assert time.monotonic() - began - first < AT_ONCE
    stuck.released.set()
    overdue = processor.feed._overdue
    assert overdue is not None
    assert overdue.wait(60)
    assert provider.force_flush()
    assert len(stuck.of(Part.ENDED)) == 1
    provider.shutdown()


@pytest.mark.proves("bounded-end")
@pytest.mark.slow
def test_flush_waits_two_seconds_at_most() -> None:
    """With any time-out of the caller a flush takes 2 s at most."""
    stuck = Stuck()
    provider, processor = followed(stuck)
    provider.get_tracer("t").start_span("task").end()
    began = time.monotonic()
    assert not processor.force_flush(60_000)
    assert 1.9 < time.monotonic() - began < 2.0 + AT_ONCE
    stuck.released.set()


@pytest.mark.proves("bounded-end", "after-shutdown")
@pytest.mark.slow
def test_shutdown_is_bounded_and_happens_once() -> None:
    """Shutdown leaves a hanging receiver after 3 s; a second one does nothing, and later spans are counted."""
    stuck = Stuck()
    provider, processor = followed(stuck)
    tracer = provider.get_tracer("t")
    tracer.start_span("task").end()
    assert stuck.is_entered.wait(60)
    began = time.monotonic()
    processor.shutdown()
    assert time.monotonic() - began < 3.0 + AT_ONCE
    began = time.monotonic()
    processor.shutdown()
    tracer.start_span("late").end()
    assert time.monotonic() - began < AT_ONCE
    assert processor.feed.losses.totals() == {"closed": 1}
    stuck.released.set()


@pytest.mark.proves("bounded-end", "after-shutdown")
def test_a_handler_of_a_signal_may_shut_down_in_the_middle_of_a_shutdown() -> None:
    """A second close that a signal begins between any two steps of the first in one thread does not block."""
    stuck = Stuck()
    provider, processor = followed(stuck)
    provider.get_tracer("t").start_span("a").end()
    assert stuck.is_entered.wait(60)
    feed = processor.feed
    steps: list[str] = []

    def interrupt(frame: Any, event: str, argument: Any) -> Any:
        if feed.is_closed:
            steps.append(frame.f_code.co_name)
            feed.close(0.001)
        return interrupt

    sys.settrace(interrupt)
    try:
        is_done = feed.close(0.3)
    finally:
        sys.settrace(None)
        stuck.released.set()
    assert not is_done
    assert steps.count("wait") >= 2


def test_shutdown_hands_on_what_is_queued() -> None:
    """Observations queued before a shutdown have arrived when it returns."""
    seen = SeenRequest()
    provider, _ = followed(seen)
    for number in range(2_000):
        provider.get_tracer("t").start_span(f"s{number}").end()
    provider.shutdown()
    assert [o.name for o in seen.of(Part.ENDED)] == [f"s{n}" for n in range(2_000)]


def test_the_last_of_two_receivers_closes_the_feed() -> None:
    """The log processor's shutdown leaves the shared feed open for the spans that end after it."""
    seen = SeenRequest()
    provider, processor = followed(seen)
    logs = SdkLogProcessor(processor.feed)
    span = provider.get_tracer("t").start_span("task")
    logs.shutdown()
    logs.shutdown()
    span.end()
    provider.shutdown()
    assert [o.name for o in seen.of(Part.ENDED)] == ["task"]
    assert not seen.of(Part.LOG)


@pytest.mark.proves("no-wait", "foreign-objects")
def test_nothing_that_is_handed_in_raises() -> None:
    """Callbacks with unreadable arguments count the failure and return."""
    processor = SdkSpanProcessor(SeenRequest())
    logs = SdkLogProcessor(processor.feed)
    processor.on_start(object())  # type: ignore[arg-type]
    processor.on_end(object())  # type: ignore[arg-type]
    logs.on_emit(object())
    logs.emit(None)
    assert processor.feed.losses.totals() == {"callback": 4}


@pytest.mark.proves("one-bad-span", "foreign-objects")
def test_an_unreadable_span_loses_nothing_but_itself() -> None:
    """A span with unreadable attributes is counted, and those around it are recorded."""
    seen = SeenRequest()
    provider, processor = followed(seen)
    tracer = provider.get_tracer("t")
    tracer.start_span("before").end()
    bad = tracer.start_span("bad")
    bad._resource = None  # type: ignore[attr-defined]
    bad._status = None  # type: ignore[attr-defined]
    bad.end()
    tracer.start_span("after").end()
    assert provider.force_flush()
    assert [o.name for o in seen.of(Part.ENDED)] == ["before", "after"]
    assert processor.feed.losses.totals().keys() == {"convert"}
    provider.shutdown()


def test_an_interrupt_during_a_callback_reaches_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C that arrives while a callback runs is not swallowed."""
    provider, processor = followed(SeenRequest())

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(processor.feed, "wake", interrupted)
    with pytest.raises(KeyboardInterrupt):
        provider.get_tracer("t").start_span("task")


def test_on_start_can_be_reassigned() -> None:
    """Instance methods can be replaced, as Traceloop does, and the original still works from within."""
    seen = SeenRequest()
    provider, processor = followed(seen)
    original, names = processor.on_start, []

    def on_start(span: Any, parent_context: Any = None) -> None:
        original(span, parent_context)
        names.append(span.name)

    processor.on_start = on_start  # type: ignore[method-assign]
    provider.get_tracer("t").start_span("task").end()
    assert provider.force_flush()
    assert (names, [o.name for o in seen.of(Part.ENDED)]) == (["task"], ["task"])
    provider.shutdown()


def test_no_thread_before_the_first_span() -> None:
    """Making a processor starts no thread; the first span does."""
    before = set(threading.enumerate())
    provider, _ = followed(SeenRequest())
    assert set(threading.enumerate()) == before
    assert provider.force_flush()
    provider.get_tracer("t").start_span("task").end()
    assert provider.force_flush()
    [worker] = set(threading.enumerate()) - before
    assert worker.daemon
    provider.shutdown()


@pytest.mark.slow
def test_an_ended_span_is_freed_without_the_garbage_collector() -> None:
    """After its end and a flush nothing of ours holds a span, and no cycle does."""
    provider, processor = followed(lambda batch: None)
    tracer = provider.get_tracer("t")
    gc.collect()
    gc.disable()
    try:
        spans = []
        for number in range(20):
            span = tracer.start_span(f"s{number}", otel_context.Context())
            span.add_event("one")
            if number % 2:
                assert provider.force_flush()
            span.end()
            spans.append(weakref.ref(span))
            del span
        assert provider.force_flush()
        assert provider.force_flush()  # the worker has released its last batch
        assert [ref() for ref in spans] == [None] * 20
        assert not processor.feed.live
    finally:
        gc.enable()
    provider.shutdown()


def test_a_lost_end_is_found_by_a_scan() -> None:
    """A followed span whose end did not fit into the queue is reported as ended by a later scan."""
    stuck = Stuck()
    provider, processor = followed(stuck, capacity=2, scan_interval=0.02)
    tracer = provider.get_tracer("t")
    span = tracer.start_span("task")
    assert stuck.is_entered.wait(60)
    for _ in range(2):
        tracer.start_span("filler")
    span.end()
    assert processor.feed.losses.totals() == {"queue_full": 1}
    stuck.released.set()
    assert stuck.wait_for(lambda o: any(x.part is Part.ENDED and x.name == "task" for x in o))
    provider.shutdown()
