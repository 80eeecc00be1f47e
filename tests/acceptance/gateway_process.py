"""A `spanpost run` as a process, with a real PostgreSQL, and the contents of its table."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from tests.acceptance.gateways import SOON_TAKEN_OVER
from tests.eventually import LIMIT

ROOT = Path(__file__).parents[2]
RESOURCE, SCOPE = Resource.create({"service.name": "acceptance"}), InstrumentationScope("acceptance")


def spans(first: int, count: int, per_trace: int = 10) -> list[ReadableSpan]:
    """Return finished spans, numbered: traces of one agent and its model calls, children first."""
    made = []
    for number in range(first, first + count):
        trace, place = divmod(number, per_trace)
        context = SpanContext(trace + 1, number + 1, False, TraceFlags(1))
        root = SpanContext(trace + 1, (trace + 1) * per_trace, False, TraceFlags(1))
        is_root = place == per_trace - 1
        made.append(
            ReadableSpan(
                name="invoke_agent a" if is_root else "chat",
                context=context,
                parent=None if is_root else root,
                resource=RESOURCE,
                instrumentation_scope=SCOPE,
                attributes={
                    "gen_ai.operation.name": "invoke_agent" if is_root else "chat",
                    "gen_ai.agent.name": "a",
                    "n": number,
                },
                start_time=10**18 + number * 10**6,
                end_time=10**18 + number * 10**6 + 1000,
            )
        )
    return made


class Gateway:
    """The process. `lines` is its stderr."""

    def __init__(self, dsn: str, home: Path, toml: str = "", *options: str, **environment: str) -> None:
        self.dsn, self.home = dsn, home
        (home / "spanpost.toml").write_text(toml)
        kept = {
            n: v
            for n, v in os.environ.items()
            if not n.upper().startswith(("SPANPOST_", "OTEL_")) and n != "DATABASE_URL"
        }
        self.lines: list[str] = []
        self._line_read = threading.Condition()
        self._is_over = False
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "spanpost",
                "run",
                "--metrics-port",
                "0",
                *(options or ("--http-port", "0", "--grpc-port", "0")),
            ],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, "PYTHONPATH": str(ROOT / "src"), "HOME": str(home), "DATABASE_URL": dsn}
            | {"SPANPOST_DATABASE__DATA_DIR": str(home / "data"), **SOON_TAKEN_OVER, **environment},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._line_read:
                self.lines.append(line.rstrip())
                self._line_read.notify_all()
        with self._line_read:
            self._is_over = True
            self._line_read.notify_all()

    def hear(self, pattern: str, timeout: float = LIMIT) -> re.Match[str]:
        """Wait for a line of stderr that matches."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._line_read:
            assert self._line_read.wait_for(lambda: found() or self._is_over, timeout), "\n".join(self.lines)
            match = found()
        assert match is not None, "\n".join(self.lines)
        return match

    def ready(self) -> Gateway:
        """Wait until it has started."""
        self.hear("stop with Ctrl-C")
        return self

    @property
    def http(self) -> str:
        return self.hear(r"OTLP/HTTP on (\S+)")[1]

    @property
    def grpc(self) -> str:
        return self.hear(r"OTLP/gRPC on (http\S+)")[1]

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Return the status and the body of a page."""
        return request(self.http + path, None, **headers)

    def post(self, body: bytes, path: str = "/v1/traces", **headers: str) -> int:
        return request(self.http + path, body, **{"content-type": "application/x-protobuf", **headers})[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def rows(
        self, sql: str = "SELECT trace_id, span_id, count(*) FROM agent_events WHERE part = 0 GROUP BY 1, 2"
    ) -> list[Any]:
        return query(self.dsn, sql)

    @property
    def recorded(self) -> list[int]:
        """The numbers of the recorded spans, sorted: a span with two rows is there twice."""
        return sorted(int(row[0]) for row in self.rows("SELECT attributes->>'n' FROM agent_events WHERE part = 0"))


#: `start(toml, *options, **environment)`, as `conftest.py` lends it.
Start = Callable[..., Gateway]


def request(url: str, body: bytes | None, timeout: float = 20.0, **headers: str) -> tuple[int, Any]:
    """Request without repeats by the client; return status and body."""
    asked = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def said(page: tuple[int, Any]) -> tuple[int, dict[str, Any]]:
    """Return a JSON page, parsed."""
    return page[0], json.loads(page[1])


def query(dsn: str, *statements: str) -> list[Any]:
    """Run statements; return the rows of the last."""
    import asyncpg

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            rows: Sequence[Any] = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return [tuple(row) for row in rows]
        finally:
            await connection.close()

    return asyncio.run(ask())
