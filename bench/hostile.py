"""Cost of hostile traces, by shape, at a size and at four times that, and their effect on another tenant.

    # each shape through the Postgres store
    python bench/hostile.py [--spans 1000] [--shape circle] [--order shuffled] [--system]
    # an honest tenant beside a hostile one
    python bench/hostile.py --beside [--shape circle] [--spans 3000] [--seconds 20] [--system]

Of each shape (`tests/tasks/hostile_traces.py`): milliseconds of processor time and MiB of memory for each
MiB of its OTLP body, at both sizes, in groups of 2,048; the growth of the time from the one to the other;
the longest stall of the event loop, in processor time of its thread and by the clock (on a busy machine
other processes cause part of that).

*Beside* posts single spans of one tenant to `spanpost run`, first alone, then while another tenant posts the
shape repeatedly, each time as a new trace.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
from gateway import Running
from options import parse, postgres
from table import tell

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tasks.hostile_traces import ORDERS, SHAPES, body_of

from spanpost.model.observations import Observation
from spanpost.runtime.process import exclude_from_collection
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade

GROUP = 2048
MIB = 2**20
#: Seconds that the answer to a hostile body may take.
_ANSWER = 150.0
CONTEXT = multiprocessing.get_context("spawn")
_TABLES = "task_state, audit_rows, agent_tasks, agent_checkpoints, timers, task_redirects, quarantine"


class Heartbeat:
    """Longest stall of the event loop: by the clock, and in its own thread's processor time, seconds."""

    def __init__(self) -> None:
        self.worst = self.worked = 0.0
        self._task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            wall, work = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - wall - 0.001)
            self.worked = max(self.worked, time.thread_time() - work)

    def stop(self) -> None:
        self._task.cancel()


def _peak(*, is_reset: bool = False) -> float:
    """Return the most memory that this process had since that was reset, MiB."""
    if is_reset:
        Path("/proc/self/clear_refs").write_text("5")
    said = Path("/proc/self/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024


async def one(dsn: str, observations: Sequence[Observation]) -> dict[str, float]:
    """Record a trace in groups; return what it took."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"TRUNCATE {_TABLES}")
    await connection.close()
    store = PostgresStore(dsn)
    await store.open()
    heart = Heartbeat()
    await asyncio.sleep(0)
    before = _peak(is_reset=True)
    began = time.process_time()
    aside = 0
    for start in range(0, len(observations), GROUP):
        aside += sum((await store.record(observations[start : start + GROUP])).dropped.values())
    took = time.process_time() - began
    heart.stop()
    memory = _peak() - before
    await store.close()
    return {"took": took, "memory": memory, "worked": heart.worked, "worst": heart.worst, "aside": aside}


async def shapes(dsn: str, names: list[str], order: str, size: int, *, as_json: bool) -> None:
    """Print the cost of each shape."""
    await upgrade(dsn)
    exclude_from_collection()
    rows = []
    for name in names:
        row: dict[str, Any] = {"shape": name}
        found = []
        for n in (size, 4 * size):
            observations = ORDERS[order](SHAPES[name](n))
            mib = len(body_of(observations)) / MIB
            found.append({**await one(dsn, observations), "spans": len(observations), "mib": mib})
        for which, one_of in zip(("n", "4n"), found, strict=True):
            row[f"ms {which}"] = one_of["took"] * 1000 / one_of["mib"]
            row[f"mib {which}"] = one_of["memory"] / one_of["mib"]
        small, large = found
        row["growth"] = (large["took"] / large["spans"]) / (small["took"] / small["spans"])
        row["worked"] = max(f["worked"] for f in found) * 1000
        row["worst"] = max(f["worst"] for f in found) * 1000
        row["aside"] = large["aside"]
        rows.append(row)
        print(".", end="", file=sys.stderr, flush=True)
    headings = {
        "shape": f"{size} spans, {order}",
        "ms n": "ms a MiB",
        "ms 4n": "at 4n",
        "growth": "growth a span",
        "mib n": "MiB a MiB",
        "mib 4n": "at 4n ",
        "worked": "loop works, ms",
        "worst": "loop away, ms",
        "aside": "set aside",
    }
    tell(rows, headings, as_json=as_json, form=".1f")


def honest(port: int, token: str, seconds: float, waits: list[float], answers: Counter[int]) -> None:
    """Post one span after the other, each a run of its own, for so long."""
    dice = Random()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {token}"}
    until = time.monotonic() + seconds
    [plain] = SHAPES["traces"](1)
    while time.monotonic() < until:
        body = body_of([msgspec.structs.replace(plain, trace_id=dice.randbytes(16), span_id=dice.randbytes(8))])
        began = time.perf_counter()
        connection.request("POST", "/v1/traces", body, headers)
        response = connection.getresponse()
        response.read()
        waits.append(time.perf_counter() - began)
        answers[response.status] += 1
        time.sleep(0.02)


def hostile(port: int, token: str, name: str, size: int, stop: Event, answers: Queue[int]) -> None:
    """Post a trace again and again, each time with other ids.

    Runs in its own process, so that its work does not slow the measured one.
    """
    dice = Random()
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {token}"}
    observations = SHAPES[name](size)
    while not stop.is_set():
        traces = {o.trace_id: dice.randbytes(16) for o in observations}
        body = body_of([msgspec.structs.replace(o, trace_id=traces[o.trace_id]) for o in observations])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("POST", "/v1/traces", body, headers)
            answers.put(connection.getresponse().status)
        except OSError:
            answers.put(0)
        connection.close()


def beside(dsn: str, names: list[str], size: int, seconds: float, *, as_json: bool) -> None:
    """Print the waits of an honest tenant, alone and beside each shape."""
    asyncio.run(upgrade(dsn))
    tokens = {tenant: f"spt_{tenant}" for tenant in ("honest", "hostile")}
    known = [{"tenant": tenant, "sha256": [sha256(token.encode()).hexdigest()]} for tenant, token in tokens.items()]
    rows = []
    with tempfile.TemporaryDirectory(prefix="spanpost-bench-") as home:
        running = Running(dsn, Path(home) / "gateway", 0, [f"SPANPOST_GATEWAY__TOKENS={json.dumps(known)}"])
        try:
            for name in ("", *names):
                waits: list[float] = []
                answers: Counter[int] = Counter()
                theirs: Counter[int] = Counter()
                stop, answered, sending = CONTEXT.Event(), CONTEXT.Queue(), None
                if name:
                    sending = CONTEXT.Process(
                        target=hostile, args=(running.port, tokens["hostile"], name, size, stop, answered), daemon=True
                    )
                    sending.start()
                    theirs[answered.get(timeout=_ANSWER)] += 1
                honest(running.port, tokens["honest"], seconds, waits, answers)
                stop.set()
                if sending is not None:
                    sending.join(_ANSWER)
                while not answered.empty():
                    theirs[answered.get(timeout=_ANSWER)] += 1
                cuts = statistics.quantiles(waits, n=100)
                rows.append(
                    {
                        "shape": name or "alone",
                        "p50": cuts[49] * 1000,
                        "p99": cuts[98] * 1000,
                        "worst": max(waits) * 1000,
                        "refused": sum(n for status, n in answers.items() if status != 200),
                        "bodies": sum(theirs.values()),
                        "taken": theirs[200],
                    }
                )
        finally:
            running.stop()
    for row in rows:
        row["ratio"] = row["p50"] / rows[0]["p50"]
        row["ratio99"] = row["p99"] / rows[0]["p99"]
    headings = {
        "shape": f"{size} spans beside",
        "p50": "p50, ms",
        "ratio": "of alone",
        "p99": "p99, ms",
        "ratio99": "of alone ",
        "worst": "worst, ms",
        "refused": "refused",
        "bodies": "hostile bodies",
        "taken": "of them 200",
    }
    tell(rows, headings, as_json=as_json, form=".1f")


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=1000)
    asker.add_argument("--shape", default="", help="shapes whose names hold this, several with |")
    asker.add_argument("--order", default="as sent", choices=ORDERS)
    asker.add_argument("--beside", action="store_true")
    asker.add_argument("--seconds", type=float, default=20.0)
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--json", action="store_true")
    asked = parse(asker, {"spans": 20, "shape": "circle|traces", "seconds": 1.0})
    chosen = [name for name in SHAPES if any(part in name for part in asked.shape.split("|"))]
    with postgres(asked) as address:
        if asked.beside:
            beside(address, chosen, asked.spans, asked.seconds, as_json=asked.json)
        else:
            asyncio.run(shapes(address, chosen, asked.order, asked.spans, as_json=asked.json))
