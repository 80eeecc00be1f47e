"""Cost of folding, and how it grows: per event of one task, per span of many tasks, memory of open tasks.

    python bench/fold.py            everything, a minute or two
    python bench/fold.py --small    a hundredth of it

Processor time of this process (time.process_time), the memory store, one thread; in yards as well
(`yardstick.py`). Histories are agent-shaped: a root, model calls and tool calls below it, a checkpoint event
on every fourth span.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc

from options import parse
from yardstick import yard

from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.store.memory import MemoryStore
from spanpost.tasks import batches

ORIGIN = Origin(resource={"service.name": "bench"}, scope="bench")
SECOND = 10**9
BASE = 1_790_000_000 * SECOND


def root(trace: bytes, *, is_open: bool, children: int) -> Observation:
    end = 0 if is_open else BASE + (children + 1) * SECOND
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "bench",
        "agent.task.name": "bench task",
    }
    return Observation(
        part=Part.STARTED if is_open else Part.ENDED,
        trace_id=trace,
        span_id=b"\0" * 7 + b"\1",
        name="invoke_agent bench",
        at_ns=end or BASE,
        start_ns=BASE,
        end_ns=end,
        status=Status.OK,
        attributes=attributes,
        origin=ORIGIN,
    )


def child(trace: bytes, i: int) -> list[Observation]:
    start = BASE + i * SECOND
    if i % 2:
        name, attributes = (
            "execute_tool shell",
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "shell", "gen_ai.tool.call.id": f"call_{i}"},
        )
    else:
        name = "chat gpt-x"
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-x",
            "gen_ai.response.model": "gpt-x-2026",
            "gen_ai.usage.input_tokens": 500 + i % 9000,
            "gen_ai.usage.output_tokens": 20 + i % 700,
            "gen_ai.response.finish_reasons": ["stop"],
        }
    span_id = (i + 2).to_bytes(8, "big")
    out = [
        Observation(
            part=Part.ENDED,
            trace_id=trace,
            span_id=span_id,
            parent_id=b"\0" * 7 + b"\1",
            name=name,
            at_ns=start + SECOND // 2,
            start_ns=start,
            end_ns=start + SECOND // 2,
            attributes=attributes,
            origin=ORIGIN,
        )
    ]
    if i % 4 == 0:
        event = {"agent.checkpoint.message": f"step {i}", "agent.progress": i % 100}
        out.append(
            Observation(
                part=Part.EVENT,
                trace_id=trace,
                span_id=span_id,
                name="agent.checkpoint",
                at_ns=start,
                attributes=event,
                origin=ORIGIN,
            )
        )
    return out


def growth(sizes: list[int]) -> None:
    print("cost per event of one task as it grows (batches of 512; reading apart from folding)")
    print(f"{'events':>10} {'read µs':>9} {'fold µs':>9} {'yards':>7}")
    for size in sizes:
        trace = b"\1" * 16
        observations = [root(trace, is_open=True, children=0)]
        i = 0
        while len(observations) < size:
            observations += child(trace, i)
            i += 1
        store = MemoryStore(remember=10**9)
        last = max(512, size // 5)  # the last fifth: what an event costs when the task is that large
        read = fold = counted = 0.0
        for start in range(0, len(observations), 512):
            batch = observations[start : start + 512]
            t0 = time.process_time()
            batches.prepare(batch)
            t1 = time.process_time()
            store.record_now(batch)
            t2 = time.process_time()
            if start + len(batch) > len(observations) - last:
                read += t1 - t0
                fold += (t2 - t1) - (t1 - t0)
                counted += len(batch)
        print(
            f"{size:>10,} {read / counted * 1e6:>9.1f} {fold / counted * 1e6:>9.1f} "
            f"{(read + fold) / counted * 1e6 / yard():>7.1f}"
        )


def spread(tasks: int, per_task: int) -> None:
    observations = []
    for t in range(tasks):
        trace = (t + 1).to_bytes(16, "big")
        for i in range(per_task - 1):
            observations += child(trace, i)
        observations.append(root(trace, is_open=False, children=per_task))
    store = MemoryStore()
    t0 = time.process_time()
    for start in range(0, len(observations), 512):
        store.record_now(observations[start : start + 512])
    took = time.process_time() - t0
    spans = tasks * per_task
    print(
        f"{tasks:,} tasks of {per_task} spans, children first: {took / spans * 1e6:.1f} µs per span, "
        f"{took / spans * 1e6 / yard():.1f} yards, "
        f"{spans / took:,.0f} spans/s (read and fold)"
    )


def memory(tasks: int) -> None:
    gc.collect()
    tracemalloc.start()
    store = MemoryStore()
    for t in range(tasks):
        trace = (t + 1).to_bytes(16, "big")
        observations = [root(trace, is_open=True, children=0)]
        for i in range(10):
            observations += child(trace, i)
        store.record_now(observations)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{tasks:,} open tasks of 11 spans: {used / 2**20:.0f} MiB, {used / tasks / 1024:.1f} KiB a task")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[100, 10_000, 100_000], help="events of one task")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of 20 spans")
    parser.add_argument("--open", type=int, default=10_000, help="open tasks")
    asked = parse(parser, {"events": [100, 1000], "tasks": 10, "open": 100})
    print(f"CPython {sys.version.split()[0]}")
    growth(asked.events)
    spread(asked.tasks, 20)
    memory(asked.open)


if __name__ == "__main__":
    main()
