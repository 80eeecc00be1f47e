"""The cost of spanpost for the agent's thread, beside no processor and the SDK's BatchSpanProcessor, in one run.

Interleaved rounds, median of each. Three things are measured:

- callbacks: `on_start` and `on_end` called on one span, nothing else: the cost of their code (over a no-op
  processor);
- span: start and end, six attributes, as fast as possible. Beside the callbacks this includes the memory and
  garbage collection of spans until another thread has read them, and that thread's share of the interpreter lock;
- event: `add_event` with two attributes, on a span that stays open.

"durable" is spanpost with a spool (``intake.durable``), on the disk of the working directory.

Figures are CPU time of the agent's own thread (what it pays) and of the whole process (what the worker costs
beside it).

    python bench/hotpath.py [--rounds 15] [--spans 2000] [--json]
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span
from options import parse

from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.receivers.spool import Spool
from spanpost.receivers.spool_files import SpoolSettings
from spanpost.receivers.worker import Feed

ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 340,
    "gen_ai.conversation.id": "c-1",
}
EVENT = {"agent.checkpoint.message": "read 12 files", "agent.progress": 40.0}


class Nowhere(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def none() -> SpanProcessor | None:
    return None


def batch() -> SpanProcessor:
    # The queue holds a round: a full one would only be cheaper.
    return BatchSpanProcessor(Nowhere(), max_queue_size=65_536)


def spanpost() -> SpanProcessor:
    return SdkSpanProcessor(Feed(lambda batch: None, capacity=65_536))


def spooled() -> SpanProcessor:
    directory = Path(
        tempfile.mkdtemp(prefix="spanpost-bench-", dir=Path.cwd())
    )  # a disk: where temporary files are may be memory
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return SdkSpanProcessor(Feed(lambda batch: None, capacity=65_536, spool=Spool(SpoolSettings(directory, "bench"))))


def callbacks(processor: SpanProcessor, span: Any, readable: ReadableSpan, number: int) -> None:
    for _ in range(number):
        processor.on_start(span, parent_context=None)
        processor.on_end(readable)


def spans(provider: TracerProvider, number: int) -> None:
    tracer = provider.get_tracer("bench")
    for _ in range(number):
        tracer.start_span("chat gpt-5", attributes=ATTRIBUTES).end()


def events(span: Span, number: int) -> None:
    for _ in range(number):
        span.add_event("agent.checkpoint", EVENT)


def measure(what: str, make: Callable[[], SpanProcessor | None], number: int) -> tuple[float, float, float]:
    """Return microseconds per span (or event): agent's thread CPU, process CPU, wall."""
    provider = TracerProvider(shutdown_on_exit=False)
    processor = make()
    if processor is not None:
        provider.add_span_processor(processor)
    run: Callable[[], Any]
    spans(provider, 50)  # the first span starts the worker
    if what == "callbacks":
        span: Any = (
            TracerProvider(shutdown_on_exit=False).get_tracer("bench").start_span("chat gpt-5", attributes=ATTRIBUTES)
        )
        readable = span._readable_span()
        called = processor or SpanProcessor()

        def run() -> None:
            callbacks(called, span, readable, number)
    elif what == "span":

        def run() -> None:
            spans(provider, number)
    else:
        span = provider.get_tracer("bench").start_span("task")

        def run() -> None:
            events(span, number)

    provider.force_flush()
    gc.collect()
    thread, process, wall = time.thread_time_ns(), time.process_time_ns(), time.perf_counter_ns()
    run()
    thread, wall = time.thread_time_ns() - thread, time.perf_counter_ns() - wall
    provider.force_flush()
    process = time.process_time_ns() - process
    provider.shutdown()
    losses = processor.feed.losses.totals() if isinstance(processor, SdkSpanProcessor) else {}
    if isinstance(processor, SdkSpanProcessor) and processor.feed.spool is not None:
        losses |= processor.feed.spool.bypassed.totals()
    if losses:
        raise SystemExit(f"losses would make it look cheap: {losses}")
    return thread / number / 1e3, process / number / 1e3, wall / number / 1e3


WAYS: dict[str, Callable[[], SpanProcessor | None]] = {
    "no processor": none,
    "BatchSpanProcessor": batch,
    "spanpost": spanpost,
    "spanpost, durable": spooled,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--spans", type=int, default=2000)
    arguments.add_argument("--json", action="store_true")
    given = parse(arguments, {"rounds": 1, "spans": 100})
    figures: dict[str, dict[str, list[tuple[float, float, float]]]] = {
        w: {n: [] for n in WAYS} for w in ("callbacks", "span", "event")
    }
    for done in range(given.rounds):
        if sys.stderr.isatty():
            print(f"\rround {done + 1} of {given.rounds}", end="", file=sys.stderr)
        for what in figures:
            for name, make in WAYS.items():
                figures[what][name].append(measure(what, make, given.spans))
    if sys.stderr.isatty():
        print(file=sys.stderr)

    rows = []
    for what, by_way in figures.items():
        # Differences are taken within a round, so that the machine's variation cancels; the median is over
        # rounds.
        for name, measured in by_way.items():
            medians = [statistics.median(m[i] for m in measured) for i in range(3)]
            extra = statistics.median(m[0] - n[0] for m, n in zip(measured, by_way["no processor"], strict=True))
            rows.append(
                {
                    "per": what,
                    "way": name,
                    "thread_us": medians[0],
                    "process_us": medians[1],
                    "wall_us": medians[2],
                    "extra_us": extra,
                }
            )
    if given.json:
        print(json.dumps(rows))
        return
    print("| per | way | agent's thread, µs CPU | over no processor | process, µs CPU | wall, µs |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        figures_of = f"{r['thread_us']:.2f} | {r['extra_us']:+.2f} | {r['process_us']:.2f} | {r['wall_us']:.2f}"
        print(f"| {r['per']} | {r['way']} | {figures_of} |")


if __name__ == "__main__":
    main()
