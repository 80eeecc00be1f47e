"""Cost for the agent's thread while the database and Slack are well, hang, refuse or answer errors, in one
run.

An agent starts and ends spans at a steady pace, beside the whole pipeline: a real PostgreSQL, and a small
server in its own process in place of Slack. Interleaved rounds, median of each; a span is a start, an event
and an end.

    python bench/outage.py [--rounds 3] [--spans 600] [--pace 400] [--system] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from options import parse, postgres
from table import tell

from spanpost.receivers.attachment import join
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import load
from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import with_database

#: Seconds that locking a table, and letting go of it, may take.
_LOCKED = 30.0
ATTRIBUTES = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bench", "gen_ai.usage.input_tokens": 1200}

_SLACK = """
import http.server, sys, time
class Slack(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if sys.argv[1] == "hangs": time.sleep(3600)
        ids = b'"team_id":"T1","team":"t","user_id":"U1","bot_id":"B1"'
        body = b'{"ok":true,"ts":"1.1","channel":"C1","messages":[],%s}' % ids
        self.send_response(200 if sys.argv[1] == "is well" else 500)
        self.send_header("content-type", "application/json"); self.send_header("content-length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
    do_GET = do_POST
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slack)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def slack(how: str) -> Iterator[str]:
    """Lend the address of a Slack that is well, hangs, refuses or answers errors."""
    if how == "refuses":
        yield "http://127.0.0.1:9/api/"
        return
    server = subprocess.Popen([sys.executable, "-c", _SLACK, how], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/api/"
    finally:
        server.kill()
        server.wait()


class Database:
    """A database of this run that can be made to hang, to refuse and to answer errors."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.dsn = with_database(server, "outage")

    def run(self, *statements: str) -> None:
        async def work() -> None:
            connection = await asyncpg.connect(self._server)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(work())

    @contextlib.contextmanager
    def behaving(self, how: str) -> Iterator[None]:
        away = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'outage'"
        if how == "hangs":
            with self._locked():
                yield
        elif how == "refuses":
            self.run("ALTER DATABASE outage ALLOW_CONNECTIONS false", away)
            yield
            self.run("ALTER DATABASE outage ALLOW_CONNECTIONS true")
        elif how == "answers errors":
            self.run("ALTER DATABASE outage SET default_transaction_read_only = on", away)
            yield
            self.run("ALTER DATABASE outage RESET default_transaction_read_only", away)
        else:
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        is_held, is_over = threading.Event(), threading.Event()

        async def hold() -> None:
            connection = await asyncpg.connect(self.dsn)
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("LOCK TABLE audit_rows IN ACCESS EXCLUSIVE MODE")
            is_held.set()
            await asyncio.to_thread(is_over.wait)
            connection.terminate()

        thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
        thread.start()
        if not is_held.wait(_LOCKED):
            raise SystemExit(f"the table could not be locked within {_LOCKED:g} seconds")
        try:
            yield
        finally:
            is_over.set()
            thread.join(_LOCKED)


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def agent(provider: TracerProvider, number: int, pace: float) -> tuple[float, float, float]:
    """Return CPU of this thread, median and 99th percentile of the wall time, in microseconds for each span."""
    tracer = provider.get_tracer("bench")
    cpu = 0
    walls = []
    due = time.perf_counter()
    for done in range(number):
        due += 1 / pace
        time.sleep(max(0.0, due - time.perf_counter()))
        thread, wall = time.thread_time_ns(), time.perf_counter_ns()
        span = tracer.start_span("invoke_agent bench", attributes=ATTRIBUTES)
        span.add_event("agent.checkpoint", {"agent.checkpoint.message": f"step {done}"})
        span.end()
        walls.append(time.perf_counter_ns() - wall)
        cpu += time.thread_time_ns() - thread
    walls.sort()
    return cpu / number / 1e3, walls[number // 2] / 1e3, walls[number * 99 // 100] / 1e3


def measure(way: str, database: Database, number: int, pace: float, spool: Path) -> tuple[float, float, float]:
    provider = TracerProvider(shutdown_on_exit=False)
    if way == "no processor":
        return agent(provider, number, pace)
    if way == "BatchSpanProcessor":
        provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=65_536))
        try:
            return agent(provider, number, pace)
        finally:
            provider.shutdown()
    what, _, _ = way.partition(", durable")
    where, _, how = what.partition(" ")
    with slack(how if where == "Slack" else "is well") as url:
        sections: dict[str, Any] = {
            "database": {"url": database.dsn},
            "slack": {"token": "xoxb-0-0-bench", "channel": "C1", "base_url": url, "timeout": 1},
            "intake": {"spool_dir": spool} if way.endswith("durable") else {},
        }
        pipeline = Pipeline(load(**sections))
        pipeline.start()
        join(pipeline.feed, tracer_provider=provider)
        agent(provider, min(50, number), pace)
        pipeline.force_flush(1.0)
        with database.behaving(how if where == "database" else "is well"):
            found = agent(provider, number, pace)
            pipeline.shutdown(0.5)
        return found


WAYS = [
    "no processor",
    "BatchSpanProcessor",
    *(
        f"{where} {how}{durable}"
        for durable in ("", ", durable")
        for where, how in [
            ("all", "is well"),
            *((where, how) for where in ("database", "Slack") for how in ("hangs", "refuses", "answers errors")),
        ]
    ),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--spans", type=int, default=600)
    arguments.add_argument("--pace", type=float, default=400.0, help="spans a second")
    arguments.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--way", action="append", choices=WAYS, help="one of the ways alone")
    given = parse(arguments, {"rounds": 1, "spans": 10, "way": ["no processor", "database hangs"]})
    ways = given.way or WAYS
    logging.disable()
    spool = Path(tempfile.mkdtemp(prefix="spanpost-bench-", dir=Path.cwd()))
    figures: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    try:
        with postgres(given) as server:
            database = Database(server)
            for _ in range(given.rounds):
                for way in ways:
                    database.run("DROP DATABASE IF EXISTS outage WITH (FORCE)", "CREATE DATABASE outage")
                    asyncio.run(upgrade(database.dsn))
                    for left in spool.iterdir():
                        left.unlink()
                    figures[way].append(measure(way, database, given.spans, given.pace, spool))
                    if sys.stderr.isatty():
                        print(f"\r{way:40}", end="", file=sys.stderr)
    finally:
        shutil.rmtree(spool, ignore_errors=True)
    rows = [
        {"way": way, "thread_us": cpu, "wall_us": wall, "p99_us": p99}
        for way, found in figures.items()
        for cpu, wall, p99 in [tuple(statistics.median(one[i] for one in found) for i in range(3))]
    ]
    headings = {
        "way": "way",
        "thread_us": "agent's thread, µs CPU",
        "wall_us": "wall, median µs",
        "p99_us": "wall, 99th percentile µs",
    }
    tell(rows, headings, as_json=given.json)


if __name__ == "__main__":
    main()
