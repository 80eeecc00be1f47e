"""From a person's decision to the agent's wake-up, through a gateway, while others wait.

    python bench/control.py [--waiting 1000] [--rounds 200] [--system]

A gateway (`spanpost run`) before a PostgreSQL that writes to disk. So many agents wait at it; of them one is answered after the other, by
another process (`Ledger.intervene`, as the desk of a second replica would). Measured is from the call of `intervene` to the agent's
next line: the commit, the notification, the look at the row and the answer of the long poll are in it. Told beside: `intervene` alone, and
the processor time that the gateway took in ten seconds of which nobody was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from uuid import uuid4

from spanpost.agent import gateway
from spanpost.agent.control import approval, install
from spanpost.domain.interventions import Verb
from spanpost.ledger.base import ApprovalQuery
from spanpost.ledger.postgres import PostgresLedger
from spanpost.ledger.sql.schema import upgrade
from spanpost.testing.exercise_people import an_act
from spanpost.testing.postgres import system_binaries, throwaway_postgres


def start(dsn: str, port: int, waiting: int) -> subprocess.Popen[bytes]:
    """Start a gateway, and wait until it is ready."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))},
        "DATABASE_URL": dsn,
        "SPANPOST_METRICS__PORT": "0",
        "SPANPOST_GATEWAY__HTTP_PORT": str(port),
        "SPANPOST_GATEWAY__GRPC_PORT": "-1",
        "SPANPOST_GATEWAY__MAX_WAITERS": str(waiting + 10),
        "SPANPOST_LOG__LEVEL": "WARNING",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from spanpost.cli import main; main()", "run"], env=environment, cwd=tempfile.mkdtemp()
    )
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the gateway ended")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process took so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(dsn: str, pid: int, waiting: int, rounds: int) -> dict[str, float]:
    """Return what was measured, in milliseconds."""
    ledger = PostgresLedger(dsn, pool_size=2)
    await ledger.open()
    woken: dict[str, float] = {}
    done = asyncio.Event()

    async def agent(id: str) -> None:
        await approval("Deploy?", id=id)
        woken[id] = time.perf_counter()
        done.set()

    ids = [f"{uuid4()}" for _ in range(waiting)]
    agents = []
    for id in ids:
        agents.append(asyncio.create_task(agent(id)))
        await asyncio.sleep(0.002)  # not a storm of beginners: what is measured is what follows
    while len(rows := await ledger.approvals(ApprovalQuery(state="open", limit=waiting))) < waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    await asyncio.sleep(3.0)
    began = processor_seconds(pid)
    await asyncio.sleep(10.0)
    idle = processor_seconds(pid) - began
    took, alone = [], []
    for row in rows[:rounds]:
        done.clear()
        clicked = time.perf_counter()
        await ledger.intervene(an_act(Verb.APPROVE, row.key))
        alone.append((time.perf_counter() - clicked) * 1e3)
        async with asyncio.timeout(30):
            while row.approval_id not in woken:
                done.clear()
                await done.wait()
        took.append((woken[row.approval_id] - clicked) * 1e3)
    for each in agents:
        each.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
    await ledger.close()
    took.sort()
    return {
        "median_ms": statistics.median(took),
        "p99_ms": took[min(len(took) - 1, int(len(took) * 0.99))],
        "most_ms": took[-1],
        "intervene_median_ms": statistics.median(alone),
        "gateway_idle_percent_of_a_core": idle * 10,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--port", type=int, default=14318)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    options = parser.parse_args()
    with throwaway_postgres(pg_bin=system_binaries() if options.system else None, durable=True) as dsn:
        asyncio.run(upgrade(dsn))
        process = start(dsn, options.port, options.waiting)
        install(gateway.Gateway(f"http://127.0.0.1:{options.port}"))
        try:
            figures = asyncio.run(measure(dsn, process.pid, options.waiting, min(options.rounds, options.waiting)))
        finally:
            process.terminate()
            process.wait(15)
    print(json.dumps({"waiting": options.waiting} | {name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
