"""What an instrumented web service costs and how much it says: messages, rows and processor time for each request.

    python bench/web_service.py [--rate 50] [--seconds 30] [--settle 12] [--dsn URL]

A web service as FastAPI's and OpenAI's instrumentations report it: of each hundred requests fifty-five call a model
once (`POST /answer`), ten twice, ten run an agent (`POST /chat`), twenty-five call none. Three of a hundred fail. Each
second's spans are one OTLP request over HTTP to a gateway with its own PostgreSQL. It runs once for each setting.
*messages* are those of the console, an edit counts as none. *rows* are the audit rows. The processor time is the
gateway's, PostgreSQL's is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
from gateway import DIRECT, Running
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from options import parse, postgres
from table import tell

from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import with_database

SECOND = 10**9
#: Settings of each run, by what the table calls it.
RUNS = {
    "defaults": {},
    "requests: failures": {"SPANPOST_TASKS__REQUESTS": json.dumps({"*": "failures"})},
    "requests: nothing": {"SPANPOST_TASKS__REQUESTS": json.dumps({"*": "nothing"})},
    "when: model calls": {"SPANPOST_TASKS__WHEN": "model calls"},
    "when: failures": {"SPANPOST_TASKS__WHEN": "failures"},
}
FIGURES = {
    "tasks": "SELECT count(*) FROM agent_tasks",
    "messages": "SELECT count(DISTINCT ordering_key) FROM deliveries WHERE sink = 'console'",
    "rows": "SELECT count(*) FROM agent_events",
    "calls": "SELECT sum(llm_calls) FROM agent_tasks",
}


class Service:
    """The telemetry of a web service."""

    def __init__(self, random: Random) -> None:
        self._random = random
        #: Requests that call a model, and calls.
        self.asking = self.calls = self.agents = self.failed = 0

    def body(self, requests: int, at_ns: int) -> bytes:
        """Return the spans of a second as an OTLP request."""
        asked = ExportTraceServiceRequest()
        of_resource = asked.resource_spans.add()
        _add(of_resource.resource.attributes, {"service.name": "shop-api"})
        scopes = {
            name: of_resource.scope_spans.add()
            for name in ("opentelemetry.instrumentation.fastapi", "opentelemetry.instrumentation.openai_v2")
        }
        for scope_name, scope in scopes.items():
            scope.scope.name = scope_name
        web, model = scopes.values()
        for number in range(requests):
            self._request(web.spans, model.spans, at_ns + number * SECOND // requests)
        return asked.SerializeToString()

    def _request(self, web: Any, model: Any, at_ns: int) -> None:
        kind = self._random.randrange(100)
        calls = 1 if kind < 55 else 2 if kind < 75 else 0
        is_agent = 65 <= kind < 75
        has_failed = bool(calls) and self._random.randrange(100) < 4
        trace, root = self._random.randbytes(16), self._random.randbytes(8)
        route = "POST /chat" if is_agent else "POST /answer" if calls else "GET /items"
        server = web.add(trace_id=trace, span_id=root, name=route, kind=2, start_time_unix_nano=at_ns)
        server.end_time_unix_nano = at_ns + SECOND
        _add(server.attributes, {"http.request.method": route[:4].strip(), "http.route": route.split()[1]})
        parent = root
        if is_agent:
            parent = self._random.randbytes(8)
            agent = model.add(trace_id=trace, span_id=parent, parent_span_id=root, name="invoke_agent support_bot")
            agent.start_time_unix_nano, agent.end_time_unix_nano = at_ns + 1000, at_ns + SECOND - 1000
            _add(agent.attributes, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support_bot"})
            if has_failed:
                agent.status.code = 2
        for call in range(calls):
            span = model.add(trace_id=trace, span_id=self._random.randbytes(8), parent_span_id=parent, kind=3)
            span.name = "chat gpt-4o-mini"
            span.start_time_unix_nano = at_ns + (call + 1) * SECOND // 4
            span.end_time_unix_nano = span.start_time_unix_nano + SECOND // 5
            said: dict[str, str | int] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.response.id": f"chatcmpl-{self._random.randbytes(8).hex()}",
            }
            if has_failed and call == calls - 1:
                span.status.code = 2
                said["error.type"] = "openai.RateLimitError"
            else:
                said |= {"gen_ai.usage.input_tokens": 400, "gen_ai.usage.output_tokens": 80}
            _add(span.attributes, said)
        if has_failed:
            server.status.code = 2
        self.asking += bool(calls)
        self.calls += calls
        self.agents += is_agent
        self.failed += has_failed


def _add(attributes: Any, said: dict[str, Any]) -> None:
    for name, value in said.items():
        one = attributes.add(key=name)
        if isinstance(value, int):
            one.value.int_value = value
        else:
            one.value.string_value = value


async def figures(dsn: str) -> dict[str, int]:
    """Return the figures of a run from the tables."""
    connection = await asyncpg.connect(dsn)
    found = {name: await connection.fetchval(question) or 0 for name, question in FIGURES.items()}
    await connection.close()
    return found


def run(dsn: str, home: Path, settings: dict[str, str], asked: argparse.Namespace) -> dict[str, Any]:
    """Offer the requests to a gateway with these settings; return what came of it."""
    service = Service(Random(1))
    with_console = {"SPANPOST_CONSOLE__ENABLED": "true", "SPANPOST_CONSOLE__FORM": "plain", **settings}
    gateway = Running(dsn, home, 0, [DIRECT, *(f"{name}={value}" for name, value in with_console.items())])
    try:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        before, began = gateway.cpu, time.time_ns()
        for second in range(asked.seconds):
            pause = began / SECOND + second - time.time()
            if pause > 0:
                time.sleep(pause)
            body = service.body(asked.rate, began + (second - 1) * SECOND)
            connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"the gateway answered {answer.status}")
        time.sleep(asked.settle)
        cpu = gateway.cpu - before
    finally:
        gateway.stop()
    requests = asked.rate * asked.seconds
    return {
        "requests": requests,
        "with calls": service.asking,
        "agents": service.agents,
        "failed": service.failed,
        **asyncio.run(figures(dsn)),
        "CPU ms a request": round(1000 * cpu / requests, 2),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=50, help="requests of the service in a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--settle", type=float, default=12.0, help="seconds until what waits for its settling is shown")
    parser.add_argument("--system", action="store_true", help="the PostgreSQL of the system")
    asked = parse(parser, {"seconds": 1, "rate": 10, "settle": 0.0})
    rows = []
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        for number, (name, settings) in enumerate(list(RUNS.items())[: 1 if asked.small else None]):
            own = with_database(dsn, f"web_{number}")
            asyncio.run(_create(dsn, f"web_{number}"))
            rows.append({"setting": name, **run(own, Path(home) / str(number), settings, asked)})
    headings = {name: name for name in rows[0]}
    tell(rows, headings, as_json=False, form=".4g")


async def _create(dsn: str, name: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    await upgrade(with_database(dsn, name))


if __name__ == "__main__":
    main()
