"""Spans per second through the Postgres store, beside a bare `unnest` insert of the same rows in the same
run.

    python bench/store.py [--spans 20000] [--batch 512] [--system] [--rounds 3] [--profile]

fsync and synchronous_commit are on. The load: traces of an agent with model and tool calls, each trace in
one batch (whole) or spread over several (split, children first). Rounds of the two designs alternate; each
figure is the median.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from options import parse, postgres
from yardstick import yard

from spanpost.model.observations import Observation
from spanpost.routing.routes import Routes
from spanpost.store import audit, rows
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.tasks import batches as walk
from spanpost.tasks.folded import FoldRules
from spanpost.testing.observed import ended

#: Spans in a trace: a root span, then model and tool calls in turn. About 440 B each on the wire.
IN_TRACE = 16
NOW = datetime.now(UTC)


def traces(first: int, count: int) -> list[list[Observation]]:
    """Return traces as an exporter sends them: children before their root span."""
    out = []
    for trace in range(first, first + count):
        spans = []
        for i in range(2, IN_TRACE + 1):
            if i % 2:
                more = {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": f"tool {i % 5}",
                    "gen_ai.tool.call.id": f"c{trace}-{i}",
                }
            else:
                more = {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.response.model": "gpt-4o-2024-08-06",
                    "gen_ai.response.id": f"r{trace}-{i}",
                    "gen_ai.usage.input_tokens": 100 * i,
                    "gen_ai.usage.output_tokens": 20,
                    "gen_ai.system": "openai",
                    "server.address": "api.openai.com",
                }
            spans.append(ended(trace=trace, span=i, parent=1, name="work", attributes=more, at=float(i), seconds=0.5))
        attributes = {
            "agent.task.name": f"task {trace}",
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "coder",
        }
        out.append([*spans, ended(trace=trace, span=1, name="agent", attributes=attributes, seconds=60.0)])
    return out


def whole(found: Sequence[list[Observation]], size: int) -> list[list[Observation]]:
    """Return batches in which traces lie whole."""
    flat = [o for trace in found for o in trace]
    return [flat[i : i + size] for i in range(0, len(flat), size)]


def split(found: Sequence[list[Observation]], size: int) -> list[list[Observation]]:
    """Return batches over which each trace is spread: the first spans of many traces, then the next of the same."""
    out = []
    per = max(1, size // 4)
    for i in range(0, len(found), per):
        for part in range(4):
            out.append([o for trace in found[i : i + per] for o in trace[part::4]])
    return out


#: The bare way: one array for each column.
_COLUMNS = {name: kind for name, kind in audit.EVENT_COLUMNS.items() if name != "set_id"}
_ARRAYS = ", ".join(f"${i}::{'text' if t == 'jsonb' else t}[]" for i, t in enumerate(_COLUMNS.values(), 1))
_VALUES = ", ".join(f"{c}::jsonb" if t == "jsonb" else c for c, t in _COLUMNS.items())
BARE = (
    f"INSERT INTO audit_rows ({', '.join(_COLUMNS)}) SELECT {_VALUES} FROM unnest({_ARRAYS}) AS "
    f"given({', '.join(_COLUMNS)})"
    " ON CONFLICT DO NOTHING"
)


def arrays_of(batch: Sequence[Observation]) -> list[list[Any]]:
    """Return the audit rows of a batch, one array for each column."""
    found = []
    for p in walk.prepare(batch):
        o = p.source
        found.append(
            (
                audit.event_at(o),
                NOW,
                audit.hash_of(p),
                UUID(bytes=p.event_id),
                0,
                int(o.part),
                o.kind,
                int(p.reading.role),
                int(o.status),
                0,
                o.index,
                o.start_ns,
                o.end_ns,
                0,
                o.tenant,
                o.trace_id,
                o.span_id,
                o.parent_id or None,
                UUID(bytes=p.event_id),
                b"12345678",
                rows.json_text(o.origin.resource),
                o.origin.scope,
                o.name,
                rows.json_text(o.attributes),
                "",
                "[]",
                None,
                "",
            )
        )
    return [list(column) for column in zip(*found, strict=True)]


async def bare(dsn: str, ready: Sequence[list[list[Any]]]) -> float:
    """Insert the same rows with one unnest a batch, prepared beforehand: nothing but the database."""
    connection = await asyncpg.connect(dsn)
    began = time.perf_counter()
    for arrays in ready:
        async with connection.transaction():
            await connection.execute(BARE, *arrays)
    took = time.perf_counter() - began
    await connection.close()
    return took


async def through(store: PostgresStore, batches: Sequence[Sequence[Observation]], at_once: int) -> float:
    """Record the batches, so many at once."""
    waiting = list(reversed(batches))
    began = time.perf_counter()

    async def feed() -> None:
        while waiting:
            recorded = await store.record(waiting.pop())
            assert not recorded.dropped, recorded.dropped

    await asyncio.gather(*(feed() for _ in range(at_once)))
    return time.perf_counter() - began


async def main(dsn: str, spans: int, size: int, rounds: int, profiled: bool) -> None:
    await upgrade(dsn)
    store = PostgresStore(dsn, rules=FoldRules(routes=Routes(sinks=("console",))))
    await store.open()
    number = 1
    speeds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    count = spans // IN_TRACE

    for _ in range(rounds):
        for name, shape, at_once in (
            ("bare unnest", whole, 0),
            ("store, whole traces, 1 at once", whole, 1),
            ("store, whole traces, 2 at once", whole, 2),
            ("store, split traces, 1 at once", split, 1),
        ):
            batches = shape(traces(number, count), size)
            number += count
            ready = [] if at_once else [arrays_of(batch) for batch in batches]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            profile = cProfile.Profile() if profiled and at_once == 1 else None
            if profile is not None:
                profile.enable()
            took = await (through(store, batches, at_once) if at_once else bare(dsn, ready))
            if profile is not None:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            speeds.setdefault(name, []).append(spans / took)
            cpu.setdefault(name, []).append((resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / spans * 1e6)
    again = whole(traces(1 + count, count), size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    took = await through(store, again, 1)
    speeds["store, all repeats"] = [spans / took]
    cpu["store, all repeats"] = [(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / spans * 1e6]
    print(f"{spans} spans, batches of {size}, {rounds} rounds, median (least, most)")
    one = yard()
    base = statistics.median(speeds["bare unnest"])
    for name, found in speeds.items():
        middle = statistics.median(found)
        print(
            f"  {name:34} {middle:8,.0f} spans/s ({min(found):,.0f}, {max(found):,.0f})  {middle / base:5.2f} "
            f"of the bare  {statistics.median(cpu[name]):6.1f} µs of Python a span, "
            f"{statistics.median(cpu[name]) / one:.1f} yards"
        )
    size_of = await store.run(lambda c: c.fetchval("SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"))
    kept = (await store.counts())["agent_events"]
    tree = await store.run(
        lambda c: c.fetchrow("SELECT count(*), pg_total_relation_size('task_state') FROM task_state")
    )
    print(
        f"  {size_of / kept:,.0f} B an event with its indexes; {tree[0] / kept:.2f} state records an event, "
        f"{tree[1] / kept:,.0f} B"
    )
    await store.close()


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=20_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--rounds", type=int, default=3)
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--profile", action="store_true")
    asked = parse(asker, {"spans": 320, "batch": 64, "rounds": 1})
    with postgres(asked) as address:
        asyncio.run(main(address, asked.spans, asked.batch, asked.rounds, asked.profile))
