"""A run followed live, and the same run read from exported OTLP, give the same result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanpost.agent import agent_task
from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.queries import TaskQuery
from spanpost.receivers.recordings import read_recording
from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.receivers.worker import Feed
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report


class Run:
    """A provider that is followed live and exported too."""

    def __init__(self) -> None:
        self.store = MemoryStore(FoldRules(windows={"m": 1000}))
        self.exported = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.feed = Feed(lambda batch: self._take(batch), scan_interval=0.02)
        self.provider.add_span_processor(SdkSpanProcessor(self.feed))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.tracer = self.provider.get_tracer("an.agent")

    def _take(self, batch: Any) -> None:
        self.store.record_now(batch)

    def live(self) -> dict[str, Any]:
        """Return the result of the run as it was followed live."""
        assert self.provider.force_flush()
        assert not self.feed.losses.totals()
        return outcome(self.store)

    def final(self, directory: Path) -> dict[str, Any]:
        """Return the result of the exported spans alone."""
        file = directory / "exported.pb"
        file.write_bytes(encode_spans(self.exported.get_finished_spans()).SerializeToString())
        store = MemoryStore(FoldRules(windows={"m": 1000}))
        for decoded in read_recording(file):
            assert not decoded.dropped
            store.record_now(decoded.observations)
        return outcome(store)


def outcome(store: MemoryStore) -> dict[str, Any]:
    """Return the tasks and their reported checkpoints."""
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    checkpoints = [c for c in store.checkpoints_now(limit=10**9) if c.kind in REPORTED_KINDS]
    tasks = sorted(store.tasks_now(TaskQuery(limit=10**9)), key=lambda t: t.task_id)
    whole = report(tasks, sorted(checkpoints, key=lambda c: c.id), {})
    return whole


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.provider.shutdown()


def call(run: Run, input: int = 10) -> None:
    """Make one model call."""
    with run.tracer.start_as_current_span("chat m") as span:
        span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
        span.set_attributes({"gen_ai.usage.input_tokens": input, "gen_ai.usage.output_tokens": 2})


def tool(run: Run, *, fails: bool = False) -> None:
    """Make one tool call."""
    with run.tracer.start_as_current_span("execute_tool search", record_exception=fails) as span:
        span.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"})
        if fails:
            raise KeyError("no such page")


def steps(run: Run) -> None:
    """Work with helpers: steps, progress, an artifact, a tool that fails and is recovered, a full context.

    The first step is reported by an event: an attribute that is set again shows its first value to a scan alone.
    """
    with agent_task("Tidy up", agent="ann", tracer=run.tracer) as task:
        task.checkpoint("planning", step="plan", step_index=1, step_count=2)
        call(run, 100)
        task.checkpoint("planned", progress=50)
        with pytest.raises(KeyError):
            tool(run, fails=True)
        task.step("do", 2, 2)
        call(run, 900)
        task.artifact("report", "file:///report.md", "file")
        task.set(progress=100)


def test_a_step_begins_when_its_event_says(run: Run, tmp_path: Path) -> None:
    """A step that a checkpoint names begins then, though the earlier start of the task's span carries its
    name too.
    """
    with agent_task("Tidy up", tracer=run.tracer) as task:
        task.checkpoint("planning", step="plan", step_index=1)
        task.checkpoint("doing", step="do", step_index=2)
    for outcome in (run.live(), run.final(tmp_path)):
        [one] = outcome["tasks"]
        moments = [step["at"] for step in one["steps"]]
        assert moments == sorted(set(moments))
        assert one["started_at"] not in moments


def equal_events(run: Run) -> None:
    """Report the same checkpoint twice in one moment, and again a moment later."""
    with agent_task("Repeat", tracer=run.tracer) as task:
        for at in (5, 5, 6, 5):
            task.span.add_event("agent.checkpoint", {"agent.checkpoint.message": "again"}, timestamp=at * 10**18 // 4)


def odd_times(run: Run) -> None:
    """Give events invalid times: seconds in place of nanoseconds, zero and a float."""
    with agent_task("Odd", tracer=run.tracer) as task:
        for at in (0, 1, 2**63 - 1):
            task.span.add_event("agent.checkpoint", {"agent.checkpoint.message": f"at {at}"}, timestamp=at)


def failure(run: Run) -> None:
    """Fail by an exception that leaves the task."""

    @agent_task("Fail", tracer=run.tracer)
    def fail() -> None:
        call(run)
        raise ValueError("bad input")


def same_id_nested(run: Run) -> None:
    """Enter one task twice, nested, as a worker does that receives its own id."""
    with agent_task("Outer", task_id="job-7", tracer=run.tracer) as outer:
        call(run)
        outer.checkpoint("half", progress=50)
        with agent_task("Outer", task_id="job-7", tracer=run.tracer) as inner:
            call(run)
            inner.checkpoint("more", progress=75)
        outer.checkpoint("done", progress=100)


def late_words(run: Run) -> None:
    """Set a span's kind and name after its children have ended."""
    with run.tracer.start_as_current_span("POST /run") as root:
        with run.tracer.start_as_current_span("?") as span:
            call(run)
            span.update_name("invoke_agent bob")
            span.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"})
            tool(run)
        root.set_attribute("http.status_code", 200)


def sub_agents(run: Run) -> None:
    """Give work to agents in threads and in asyncio tasks."""
    with agent_task("Lead", agent="lead", tracer=run.tracer) as lead:
        context = trace.set_span_in_context(lead.span)

        def work(name: str) -> None:
            span = run.tracer.start_span(f"invoke_agent {name}", context)
            span.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name})
            with trace.use_span(span, end_on_exit=True):
                call(run)
                tool(run)
                span.add_event("agent.checkpoint", {"agent.checkpoint.message": f"{name} was here"})

        async def both() -> None:
            await asyncio.gather(*(asyncio.to_thread(work, f"async-{n}") for n in range(4)))

        threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(both())
        for thread in threads:
            thread.join()


def decorated(run: Run) -> None:
    """Run tasks by the decorator: plain, generator, coroutine."""

    @agent_task("Plain", tracer=run.tracer)
    def plain() -> None:
        call(run)

    @agent_task("Stream", tracer=run.tracer)
    def stream() -> Iterator[int]:
        call(run)
        yield 1
        call(run)

    @agent_task("Later", tracer=run.tracer)
    async def later() -> None:
        call(run)

    plain()
    list(stream())
    asyncio.run(later())


RUNS = (steps, equal_events, odd_times, failure, same_id_nested, late_words, sub_agents, decorated)


@pytest.mark.proves("live-and-final")
@pytest.mark.parametrize("work", RUNS, ids=lambda work: work.__name__)
def test_what_was_followed_live_equals_what_was_exported(work: Callable[[Run], None], run: Run, tmp_path: Path) -> None:
    """Tasks, figures and reported checkpoints, ids included, are the same live and from the exported spans
    alone.
    """
    work(run)
    live, final = run.live(), run.final(tmp_path)
    assert live["tasks"] == final["tasks"]
    assert live["checkpoints"] == final["checkpoints"]


@pytest.mark.proves("live-and-final")
def test_equal_events_are_each_reported(run: Run) -> None:
    """Events of one name and one time on one span are as many occurrences, not one."""
    equal_events(run)
    assert [c["text"] for c in run.live()["checkpoints"] if c["kind"] == "checkpoint"] == ["again"] * 4


def shown(run: Run) -> dict[str, Any]:
    """Return the one task as it is shown now."""
    assert run.provider.force_flush()
    [task] = report(run.store.tasks_now(TaskQuery()), [], {})["tasks"]
    return task  # type: ignore[no-any-return]


def test_the_newest_progress_is_shown_however_it_was_said(run: Run) -> None:
    """An attribute set late wins over an earlier event; an unchanged one loses to a later event."""
    looked = threading.Event()
    follower = run.feed._follower
    scan = follower.scan

    def noted(*, is_drained: bool) -> list[Any]:
        seen = scan(is_drained=is_drained)
        looked.set()
        return seen

    def wait_for_a_scan() -> None:
        assert run.provider.force_flush()
        for _ in range(2):  # one may have been under way
            looked.clear()
            assert looked.wait(60)
        assert run.provider.force_flush()

    follower.scan = noted  # type: ignore[method-assign]
    span = run.tracer.start_span(
        "task", attributes={"agent.task.name": "t", "agent.progress": 10, "agent.action": "begin"}
    )
    span.add_event("agent.checkpoint", {"agent.progress": 20})
    assert shown(run)["progress"] == 20
    span.set_attributes({"agent.progress": 30, "agent.status": "paused"})
    wait_for_a_scan()
    assert (shown(run)["progress"], shown(run)["status"]) == (30, "paused")
    span.add_event("agent.checkpoint", {"agent.progress": 40})
    span.set_attribute("agent.action", "something else")
    wait_for_a_scan()
    assert shown(run)["progress"] == 40
    span.end()


@pytest.mark.proves("one-bad-span", "far-times")
@pytest.mark.parametrize("at", [1.5, -1, 2**64, float("inf"), "soon"], ids=str)
def test_a_time_that_is_none_spoils_nothing(run: Run, at: Any) -> None:
    """An event with an impossible timestamp is reported, and so are all others."""
    span = run.tracer.start_span("task", attributes={"agent.task.name": "t"}, start_time=None)
    span.add_event("agent.checkpoint", {"agent.checkpoint.message": "odd"}, timestamp=at)
    span.add_event("agent.checkpoint", {"agent.checkpoint.message": "even"})
    span.end()
    assert {c["text"] for c in run.live()["checkpoints"] if c["kind"] == "checkpoint"} == {"odd", "even"}
