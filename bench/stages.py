"""The time of each stage of recording: OTLP bodies are decoded, read, folded and written, one transaction each.

    python bench/stages.py [--spans 10000] [--batch 512] [--system] [--rounds 2] [--profile]
                           [--load whole|split|stacked|strangers]

fsync and synchronous_commit are on; one body at a time, so that stages do not overlap; microseconds a span.
*Python* is processor time of this process, *wait* the time in which it waited for PostgreSQL, *server* the
processor time of all processes of PostgreSQL. The floor is the same bodies by `floor`: parsed, walked,
COPYed into one table, committed.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from itertools import zip_longest
from pathlib import Path
from typing import Any

import asyncpg
import loads
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from options import parse, postgres
from yardstick import yard

from spanpost.receivers.decode import decode_traces
from spanpost.routing.routes import Routes
from spanpost.store import audit, outbox, rows
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.store.task_state import Changed, FetchedRecords
from spanpost.tasks import batches as walk
from spanpost.tasks.fold import Fold
from spanpost.tasks.folded import FoldRules

_TICK = 1e6 / os.sysconf("SC_CLK_TCK")


class Stages:
    """Processor time and waiting by stage; of nested stages the inner one has the time."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._stack: list[str] = []
        self._at = (0.0, 0.0)

    def _turn(self) -> None:
        now = (time.process_time(), time.perf_counter())
        if self._stack:
            kept = self.spent.setdefault(self._stack[-1], [0.0, 0.0])
            kept[0] += now[0] - self._at[0]
            kept[1] += now[1] - self._at[1]
        self._at = now

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Count a function's time as a stage."""
        inner: Callable[..., Any] = getattr(owner, attribute)
        if asyncio.iscoroutinefunction(inner):

            @wraps(inner)
            async def outer(*args: Any, **more: Any) -> Any:
                with self.of(name):
                    return await inner(*args, **more)
        else:

            @wraps(inner)
            def outer(*args: Any, **more: Any) -> Any:
                with self.of(name):
                    return inner(*args, **more)

        setattr(owner, attribute, outer)


def server_cpu(postmaster: int) -> float:
    """Return microseconds of processor time of PostgreSQL's processes, ended ones included."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == postmaster:
            total += int(words[11]) + int(words[12])
        elif int(path.parent.name) == postmaster:
            total += sum(map(int, words[11:15]))
    return total * _TICK


def _value(v: Any) -> Any:
    kind = v.WhichOneof("value")
    return [_value(x) for x in v.array_value.values] if kind == "array_value" else getattr(v, kind) if kind else None


async def floor(dsn: str, bodies: list[bytes]) -> float:
    """Return the seconds that parsing, walking, COPY and commit of the same bodies take."""
    c = await asyncpg.connect(dsn)
    await c.execute(
        "DROP TABLE IF EXISTS floor; CREATE TABLE floor (trace_id bytea, span_id bytea, parent_id bytea, name "
        "text, kind int,"
        " start_ns bigint, end_ns bigint, status int, attrs text, events text, PRIMARY KEY (trace_id, span_id))"
    )
    await c.execute("CREATE TEMP TABLE given (LIKE floor) ON COMMIT DELETE ROWS")
    await c.execute(
        "ALTER TABLE floor ALTER attrs TYPE jsonb USING attrs::jsonb, ALTER events TYPE jsonb USING events::jsonb"
    )
    began = time.perf_counter()
    for body in bodies:
        found = []
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                for s in of_scope.spans:
                    events = [
                        {"n": e.name, "t": e.time_unix_nano, "a": {a.key: _value(a.value) for a in e.attributes}}
                        for e in s.events
                    ]
                    attributes = {a.key: _value(a.value) for a in s.attributes}
                    found.append(
                        (
                            s.trace_id,
                            s.span_id,
                            s.parent_span_id,
                            s.name,
                            s.kind,
                            s.start_time_unix_nano,
                            s.end_time_unix_nano,
                            s.status.code,
                            json.dumps(attributes),
                            json.dumps(events),
                        )
                    )
        async with c.transaction():
            await c.copy_records_to_table("given", records=found)
            await c.execute(
                "INSERT INTO floor SELECT trace_id, span_id, parent_id, name, kind, start_ns, end_ns, status, "
                "attrs::jsonb,"
                " events::jsonb FROM given ON CONFLICT DO NOTHING"
            )
    took = time.perf_counter() - began
    await c.close()
    return took


async def feed(store: PostgresStore, stages: Stages | None, bodies: list[bytes]) -> float:
    """Decode and record the bodies, one at a time; return the seconds."""
    began = time.perf_counter()
    for body in bodies:
        if stages is None:
            await store.record(decode_traces(body).observations)
            continue
        with stages.of("decode"):
            decoded = decode_traces(body)
        with stages.of("rest"):
            recorded = await store.record(decoded.observations)
        assert not recorded.dropped, recorded.dropped
    return time.perf_counter() - began


#: Tenths of the load *mixed*: traces of agents that come whole, in parts and in layers, and other spans.
MIXED = {"whole": 4, "split": 2, "stacked": 2, "strangers": 2}


def batches(load: str, count: int, size: int, seed: int) -> list[bytes]:
    """Return the bodies of a load."""
    now = time.time_ns() - 3600 * loads.SECOND
    if load == "whole":
        cut = loads.whole(loads.agents(count, seed, now), size)
    elif load == "split":
        cut = loads.split(loads.agents(count, seed, now), size)
    elif load == "stacked":
        cut = loads.split(loads.stacked(count, seed, now), size)
    elif load == "mixed":
        parts = [batches(one, count * tenths // 10, size, seed) for one, tenths in MIXED.items()]
        return [one for turn in zip_longest(*parts) for one in turn if one is not None]
    else:
        cut = loads.whole(loads.strangers(count, seed, now), size)
    return [loads.body(spans) for spans in cut]


async def main(dsn: str, asked: argparse.Namespace) -> None:
    await upgrade(dsn)
    stages = Stages()
    watch = stages.watch
    watch(walk, "prepare", "read")
    watch(walk, "fold", "fold")
    watch(Fold, "close", "fold")
    watch(PostgresStore, "_follow", "trail")
    watch(walk, "domains", "trail")
    watch(audit, "events", "encode")
    watch(rows, "ready_tasks", "encode")
    watch(audit, "identities", "encode")
    watch(FetchedRecords, "fetch_domains", "state: fetch")
    watch(FetchedRecords, "fetch", "state: fetch")
    watch(FetchedRecords, "changed", "encode")
    watch(Changed, "save", "state: save")
    watch(audit, "write_events", "events")
    watch(rows, "write_tasks", "tasks, artifacts")
    watch(rows, "write_checkpoints", "checkpoints")
    watch(outbox, "put", "deliveries")
    watch(PostgresStore, "_without_known", "known events?")
    watch(PostgresStore, "lock", "lock")
    watch(PostgresStore, "_write", "timers")
    store = PostgresStore(dsn, rules=FoldRules(routes=Routes(sinks=("console",))))
    await store.open()
    postmaster = await store.run(lambda c: c.fetchval("SELECT pg_read_file('postmaster.pid')"))
    pid = int(postmaster.split()[0])
    gc.collect()
    gc.freeze()
    for load in asked.load:
        stages.spent.clear()
        speeds, floors, server = [], [], 0.0
        made = partial(batches, load, asked.spans, asked.batch)
        first = 1000 * asked.load.index(load)  # no trace occurs in two loads
        for i in range(asked.rounds):
            floors.append(asked.spans / await floor(dsn, made(first + 500 + i)))
            before = server_cpu(pid)
            profile = cProfile.Profile() if asked.profile else None
            bodies = made(first + i)
            if profile:
                profile.enable()
            speeds.append(asked.spans / await feed(store, stages, bodies))
            if profile:
                profile.disable()
                stats = pstats.Stats(profile).sort_stats(asked.sort)
                stats.print_stats(asked.lines)
                if asked.callers:
                    stats.print_callers(asked.callers)
            server += server_cpu(pid) - before
        all_spans = asked.spans * asked.rounds
        base = statistics.median(floors)
        print(
            f"{load}: {asked.spans:,} spans in bodies of {asked.batch}, {asked.rounds} rounds; one yard {yard():.1f} µs"
        )
        print(f"  {'stage':20} {'Python µs':>10} {'wait µs':>10}")
        total = [0.0, 0.0]
        for name, (cpu, wall) in sorted(stages.spent.items(), key=lambda item: -item[1][1]):
            print(f"  {name:20} {cpu / all_spans * 1e6:10.1f} {(wall - cpu) / all_spans * 1e6:10.1f}")
            total[0] += cpu
            total[1] += wall - cpu
        print(
            f"  {'all':20} {total[0] / all_spans * 1e6:10.1f} {total[1] / all_spans * 1e6:10.1f}   server "
            f"{server / all_spans:.1f} µs"
        )
        print(
            f"  {statistics.median(speeds):,.0f} spans/s, floor {base:,.0f}: "
            f"{statistics.median(speeds) / base:.2f} of it",
            flush=True,
        )
    await store.close()


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=10_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--rounds", type=int, default=2)
    asker.add_argument("--load", action="append", choices=("whole", "split", "stacked", "strangers"))
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--profile", action="store_true")
    asker.add_argument("--sort", default="tottime")
    asker.add_argument("--callers", help="print the callers of these functions (a pattern)")
    asker.add_argument("--lines", type=int, default=40)
    asked = parse(asker, {"spans": 400, "batch": 100, "rounds": 1})
    asked.load = asked.load or ["whole", "stacked"]
    with postgres(asked) as address:
        asyncio.run(main(address, asked))
