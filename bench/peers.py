"""The gateway beside others that take OTLP and keep spans: the same bodies, the same PostgreSQL server, one
after the other.

    python -m venv phoenix && phoenix/bin/pip install 'arize-phoenix[pg]'
    python -m venv mlflow && mlflow/bin/pip install mlflow psycopg2-binary
    python bench/peers.py --system --phoenix phoenix --mlflow mlflow [--spans 5000]

*Acknowledged* is the time until every body was answered 200, *queryable* until every span is a row. Processor
time is that of the peer's processes and of PostgreSQL until then, milliseconds a span. The floor parses the
same bodies, copies them into one table and commits each. Each has a database of its own; fsync and
synchronous_commit are on.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
from gateway import Running
from options import parse, postgres
from stages import batches, floor, server_cpu
from yardstick import yard

from spanpost.store.sql.schema import upgrade
from spanpost.testing.ports import free_port
from spanpost.testing.postgres import with_database

_TICK = 1 / os.sysconf("SC_CLK_TCK")
#: Seconds until the wait for unqueryable spans ends.
_STALL_RULES = 600.0
#: Seconds for one server's start: on a busy machine Phoenix needed more than three minutes.
_START = 600


class Peer(NamedTuple):
    """A server under test: what to send to it, its process, and how to count what can be queried."""

    name: str
    url: str
    headers: dict[str, str]
    pid: int
    dsn: str
    count: str


def processes(pid: int) -> list[int]:
    """Return a process and all below it."""
    below = [pid]
    for each in below:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            below += map(int, task.read_text().split())
    return below


def cpu(pid: int) -> float:
    """Return the seconds of processor time of a process and all below it that live."""
    spent = 0.0
    for each in processes(pid):
        words = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        spent += (int(words[11]) + int(words[12])) * _TICK
    return spent


def memory(pid: int) -> float:
    """Return the peak memory of a process and of all below it, added up, MiB."""
    lines = [line for each in processes(pid) for line in Path(f"/proc/{each}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def started(command: list[str], home: Path, health: str, **environment: str) -> Iterator[int]:
    """Run a server until the end of the block; its log is in its home. Stop it and its children."""
    home.mkdir()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=os.environ | environment, stdout=log, stderr=log)
    try:
        for _ in range(_START * 2):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(health, timeout=2).close()
                yield process.pid
                return
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"{command[0]} does not start:\n{(home / 'log').read_text()[-3000:]}")
    finally:
        below = processes(process.pid) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for each in below:
                try:
                    os.kill(each, 9)
                except ProcessLookupError:
                    continue


@contextmanager
def ours(dsn: str, home: Path) -> Iterator[Peer]:
    asyncio.run(upgrade(dsn))
    running = Running(dsn, home, 0, [])
    try:
        count = "SELECT count(*) FROM agent_events WHERE part = 0"
        yield Peer("spanpost", f"http://127.0.0.1:{running.port}/v1/traces", {}, running.process.pid, dsn, count)
    finally:
        running.stop()


@contextmanager
def phoenix(dsn: str, home: Path, where: Path) -> Iterator[Peer]:
    port = free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(home),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_SQL_DATABASE_URL": dsn,
    }
    command = [str(where / "bin" / "phoenix"), "serve"]
    with started(command, home, f"http://127.0.0.1:{port}/healthz", **environment) as pid:
        yield Peer("Phoenix", f"http://127.0.0.1:{port}/v1/traces", {}, pid, dsn, "SELECT count(*) FROM spans")


@contextmanager
def mlflow(dsn: str, home: Path, where: Path, workers: int) -> Iterator[Peer]:
    port = free_port()
    command = [
        str(where / "bin" / "mlflow"),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        str(workers),
    ]
    command += [
        "--backend-store-uri",
        dsn.replace("postgresql://", "postgresql+psycopg2://"),
        "--artifacts-destination",
        str(home),
    ]
    path = f"{where / 'bin'}{os.pathsep}{os.environ['PATH']}"
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PATH": path}
    with started(command, home, f"http://127.0.0.1:{port}/health", **quiet) as pid:
        headers = {"x-mlflow-experiment-id": "0"}
        yield Peer(
            f"MLflow, {workers} workers",
            f"http://127.0.0.1:{port}/v1/traces",
            headers,
            pid,
            dsn,
            "SELECT count(*) FROM spans",
        )


async def counted(peer: Peer) -> int:
    connection = await asyncpg.connect(peer.dsn)
    try:
        return int(await connection.fetchval(peer.count))
    finally:
        await connection.close()


def measure(peer: Peer, bodies: list[bytes], spans: int, postmaster: int) -> None:
    """Load one and print its row."""
    where = urlsplit(peer.url)
    before, cpu_before, server_before = asyncio.run(counted(peer)), cpu(peer.pid), server_cpu(postmaster)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=300)
    began = time.perf_counter()
    for body in bodies:
        while True:
            connection.request("POST", where.path, body, {"content-type": "application/x-protobuf", **peer.headers})
            response = connection.getresponse()
            said = response.read()
            if response.status == 200:
                break
            if response.status not in (429, 503):
                raise SystemExit(f"{peer.name} answers {response.status}: {said[:300]!r}")
            time.sleep(float(response.headers.get("retry-after") or 1))
    acknowledged = time.perf_counter() - began
    while (kept := asyncio.run(counted(peer)) - before) < spans and time.perf_counter() - began < _STALL_RULES:
        time.sleep(0.1)
    took = time.perf_counter() - began
    spent, server = cpu(peer.pid) - cpu_before, server_cpu(postmaster) - server_before
    print(
        f"| {peer.name} | {spans / acknowledged:,.0f} | {kept / took:,.0f} | {spent / spans * 1000:.2f} "
        f"| {server / spans / 1000:.2f} | {memory(peer.pid):,.0f} | {kept:,} of {spans:,} |",
        flush=True,
    )


def main(asked: argparse.Namespace) -> None:
    with (
        postgres(asked) as server,
        tempfile.TemporaryDirectory() as home,
    ):

        async def database(name: str) -> int:
            connection = await asyncpg.connect(server)
            await connection.execute(f"CREATE DATABASE {name}")
            postmaster = await connection.fetchval("SELECT pg_read_file('postmaster.pid')")
            await connection.close()
            return int(postmaster.split()[0])

        print(
            f"{asked.spans:,} spans in bodies of {asked.batch}, one connection; one yard {yard():.1f} µs; load "
            f"{os.getloadavg()[0]:.0f}"
        )
        print(
            "| | acknowledged/s | queryable/s | peer, CPU ms a span | PostgreSQL, CPU ms a span | memory, MiB | kept |"
        )
        print("|---|---|---|---|---|---|---|")
        for number, name in enumerate(["spanpost", "floor", "mlflow", "phoenix"]):
            where = getattr(asked, name, None)
            if name in ("phoenix", "mlflow") and where is None:
                continue
            postmaster = asyncio.run(database(f"peer_{name}"))
            dsn = with_database(server, f"peer_{name}")
            bodies = batches("whole", asked.spans, asked.batch, 7000 + number)
            if name == "floor":
                print(
                    f"| floor | {asked.spans / asyncio.run(floor(dsn, bodies)):,.0f} | the same | | | | |", flush=True
                )
                continue
            at = Path(home) / name
            opened = (
                ours(dsn, at)
                if name == "spanpost"
                else phoenix(dsn, at, where.absolute())
                if name == "phoenix"
                else mlflow(dsn, at, where.absolute(), asked.workers)
            )
            with opened as peer:
                measure(peer, bodies, asked.spans, postmaster)


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=5_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--phoenix", type=Path, help="environment in which Phoenix is installed")
    asker.add_argument("--mlflow", type=Path, help="environment in which MLflow is installed")
    asker.add_argument("--workers", type=int, default=2, help="MLflow's")
    main(parse(asker, {"spans": 400, "batch": 100}))
