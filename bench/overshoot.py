"""By how much agents in parallel overshoot a budget of model calls.

    python bench/overshoot.py [--limit 100] [--agents 1 8 32] [--seconds 0.5] [--system]

A gateway (`spanpost run`) before a PostgreSQL that writes to disk, and agents in threads of this process with
OpenTelemetry's own SDK and exporter. Each makes model calls of that many seconds, a fifth more or less, until
it is stopped. They share one budget. Ways to stop them:

- telemetry: the budget cancels the task, and the agent asks `cancelled()` before each call;
- hook: before each call the agent asks what the hook endpoint asks (`Budgets.refusal`), at the same database;
- reservation: each call is made within `budget_reserved()`.

Printed for each: the calls made beyond the limit, and beside them the calls in flight and the calls that an
exporter holds back: agents x (1 + export interval / seconds of a call).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from options import parse, postgres

from spanpost.agent import agent_task
from spanpost.agent.control import BudgetRefused, budget_reserved, cancelled
from spanpost.model.tasks import Task
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.tasks.budgets import Budget
from spanpost.tasks.folded import FoldRules

_READY = 60.0
#: Attribute that gives each round a budget of its own.
ROUND = "bench.round"
#: Calls of one agent at most: an agent that is never stopped ends there.
_MOST = 2000
WAYS = ("telemetry", "hook", "reservation")


def start(dsn: str, port: int, limit: int) -> subprocess.Popen[bytes]:
    """Start a gateway with the budget, and wait until it is ready."""
    budget = {"name": "calls", "limit_calls": limit, "per": [ROUND], "at_limit": "cancel", "warn_at": []}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))},
        "DATABASE_URL": dsn,
        "SPANPOST_BUDGETS": json.dumps([budget]),
        "SPANPOST_METRICS__PORT": "0",
        "SPANPOST_GATEWAY__HTTP_PORT": str(port),
        "SPANPOST_GATEWAY__GRPC_PORT": "-1",
        "SPANPOST_LOG__LEVEL": "WARNING",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from spanpost.cli import main; main()", "run"],
        env=environment,
        cwd=tempfile.mkdtemp(),
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
            return process
        time.sleep(0.05)
    process.kill()
    raise SystemExit(f"the gateway ended, or was not ready within {_READY:g} seconds")


class Asking:
    """Asks a store in a loop of its own what the hook endpoint asks."""

    def __init__(self, dsn: str, limit: int) -> None:
        budget = Budget(name="calls", limit_calls=limit, per=(ROUND,), at_limit="cancel", warn_at=())
        self._store = PostgresStore(dsn, rules=FoldRules(budgets=(budget,)), pool_size=4)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._store.open(), self._loop).result()

    def is_refused(self, name: str) -> bool:
        """Tell whether a tool call in a round is refused."""
        task = Task(uid=UUID(int=0), tenant="default", task_id="", attributes={ROUND: name})
        asked = self._store.budgets.refusal(task, "Bash", {"command": "make"})
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result() is not None

    def close(self) -> None:
        """Close the store."""
        asyncio.run_coroutine_threadsafe(self._store.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def tracing(port: int, name: str, interval: float) -> Iterator[TracerProvider]:
    """Lend a provider that exports to the gateway every so many seconds."""
    provider = TracerProvider(resource=Resource({ROUND: name}))
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=interval * 1000))
    try:
        yield provider
    finally:
        provider.shutdown()


def measure(port: int, asking: Asking, way: str, agents: int, seconds: float, interval: float) -> tuple[int, float]:
    """Return the calls that agents made until all were stopped, and the seconds that this took."""
    name = f"{way}-{agents}-{uuid4().hex[:8]}"
    made, counting = 0, threading.Lock()
    began = time.monotonic()

    def call(tracer: object) -> None:
        nonlocal made
        with counting:
            made += 1
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 10}
        with tracer.start_as_current_span("chat m", attributes=attributes):  # type: ignore[attr-defined]
            time.sleep(seconds * random.uniform(0.8, 1.2))

    def work(provider: TracerProvider, number: int) -> None:
        tracer = provider.get_tracer("bench")
        with agent_task(f"agent {number}", tracer=tracer):
            for _ in range(_MOST):
                if way == "reservation":
                    try:
                        with budget_reserved(timeout=30.0):
                            call(tracer)
                    except BudgetRefused:
                        return
                elif way == "hook":
                    if asking.is_refused(name):
                        return
                    call(tracer)
                else:
                    if cancelled():
                        return
                    call(tracer)

    with tracing(port, name, interval) as provider:
        threads = [threading.Thread(target=work, args=(provider, number)) for number in range(agents)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    return made, took


def main(out: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=0.5, help="of a model call")
    parser.add_argument("--intervals", type=float, nargs="+", default=[0.5, 5.0], help="of the exporter, seconds")
    parser.add_argument("--port", type=int, default=24318, help="of the gateway")
    parser.add_argument("--system", action="store_true")
    small = {"limit": 10, "agents": [1, 4], "seconds": 0.05, "intervals": [0.2]}
    asked = parse(parser, small)
    with postgres(asked) as dsn:
        asyncio.run(upgrade(dsn))
        process = start(dsn, asked.port, asked.limit)
        os.environ["SPANPOST_CONTROL__ENDPOINT"] = f"http://127.0.0.1:{asked.port}"
        asking = Asking(dsn, asked.limit)
        try:
            out("| way | exported every | agents | calls | beyond the limit | agents x (1 + interval / call) | took |")
            out("|---|---|---|---|---|---|---|")
            for interval in asked.intervals:
                for way in WAYS:
                    for agents in asked.agents:
                        made, took = measure(asked.port, asking, way, agents, asked.seconds, interval)
                        flight = agents * (1 + interval / asked.seconds)
                        out(
                            f"| {way} | {interval:g} s | {agents} | {made} | {max(made - asked.limit, 0)} |"
                            f" {flight:.0f} | {took:.1f} s |"
                        )
        finally:
            asking.close()
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
