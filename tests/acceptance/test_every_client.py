"""The same spans through OpenTelemetry's HTTP and gRPC exporters and a real Collector, with and without kills."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from spanpost.sinks.slack import render
from tests.acceptance.gateways import Gateway, run_gateway
from tests.acceptance.test_collector import Collector
from tests.conftest import Database, find, fresh_database
from tests.eventually import eventually
from tests.faults.posted import Slack, final_states, settings, truth

#: Spans of each stream: `SPANPOST_TEST_SPANS=50000` is the number in issue and release notes.
SPANS = int(os.environ.get("SPANPOST_TEST_SPANS", "2000"))
PER_TASK, BATCH = 25, 50
#: An exporter waits seconds after each before it tries again: a sensible number.
KILLS = min(12, max(4, SPANS // 1000))
CLIENTS = ("http", "grpc", "collector", "spanpost-exporter")
#: Clients that are a Collector, and their configurations.
COLLECTORS = {"collector": "durable", "spanpost-exporter": "spanpost-exporter"}
RESOURCE, SCOPE = Resource.create({"service.name": "every-client"}), InstrumentationScope("every-client")

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def span(task: int, place: int, began: int) -> ReadableSpan:
    """Return one span of a task: first its root while it runs, then the model calls, last the root as it ended."""
    is_root = place in (0, PER_TASK - 1)
    root = SpanContext(began + task, 1, False, TraceFlags(1))
    context = root if is_root else SpanContext(began + task, place + 1, False, TraceFlags(1))
    start = began + task * 1000
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": task + place,
    }
    root_span = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "mechanic", "agent.task.id": f"t-{task}"}
    return ReadableSpan(
        name="invoke_agent mechanic" if is_root else "chat gpt-4o",
        context=context,
        parent=None if is_root else root,
        resource=RESOURCE,
        instrumentation_scope=SCOPE,
        attributes=root_span | {"agent.task.name": f"Job {task}"} if is_root else call,
        start_time=start if is_root else start + place * 10**9,
        end_time=None if place == 0 else start + (place + 1) * 10**9,
        status=Status(StatusCode.OK if place == PER_TASK - 1 else StatusCode.UNSET),
    )


def stream(count: int, began: int) -> list[list[ReadableSpan]]:
    """Return the spans of `count // PER_TASK` tasks in batches, each of several tasks side by side."""
    mixed = random.Random(5)
    tasks = range(count // PER_TASK)
    spans = []
    for first in range(0, len(tasks), 20):
        ordering_keys = [[span(task, place, began) for place in range(PER_TASK)] for task in tasks[first : first + 20]]
        turns = [ordering_key for ordering_key in ordering_keys for _ in range(PER_TASK)]
        mixed.shuffle(turns)
        spans += [ordering_key.pop(0) for ordering_key in turns]
    return [spans[start : start + BATCH] for start in range(0, len(spans), BATCH)]


def identity(row: Any) -> tuple[int, int, bool]:
    """Return a span's identity: trace, span, and whether it was still open."""
    return row.context.trace_id, row.context.span_id, row.end_time is None


def stored(database: Database) -> Counter[tuple[int, int, bool]]:
    """Return the rows of spans, with the number of each."""
    rows = database.fetch("SELECT trace_id, span_id, part = 1 FROM agent_events WHERE part IN (0, 1)")
    return Counter((int.from_bytes(trace), int.from_bytes(span), part) for trace, span, part in rows)


def until_stored(database: Database, wanted: int, seconds: float) -> Counter[tuple[int, int, bool]]:
    """Wait until so many rows are there; return them."""
    count = "SELECT count(*) FROM agent_events WHERE part IN (0, 1)"
    eventually(lambda: database.fetch(count)[0][0], lambda found: found >= wanted, seconds)
    return stored(database)


class Client:
    """One way into a gateway: its exporter, and the processes that may be killed."""

    def __init__(self, kind: str, gateway: Gateway, directory: Path, stack: ExitStack) -> None:
        self.victims: list[Gateway | Collector] = [gateway]
        if kind in COLLECTORS:
            collector = Collector(
                COLLECTORS[kind], directory, SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}", SPANPOST_URL=gateway.url
            )
            stack.callback(collector.stop)
            self.victims.append(collector)
        target = self.victims[-1]
        self._exporter: Any = (
            GrpcExporter(f"http://127.0.0.1:{target.grpc}", insecure=True, timeout=10)
            if kind == "grpc"
            else HttpExporter(f"http://127.0.0.1:{target.http}/v1/traces", timeout=10)
        )
        stack.callback(self._exporter.shutdown)

    def send(self, batch: list[ReadableSpan]) -> bool:
        """Export once, with the exporter's own repeats; return whether it was acknowledged."""
        return self._exporter.export(batch) is SpanExportResult.SUCCESS


@pytest.mark.proves("one-row")
def test_the_same_spans_come_to_the_same_through_each_client(
    server: str, stack: ExitStack, open_dir: Callable[[], Path]
) -> None:
    """By HTTP, gRPC, Collector and spanpost's exporter each span is one row, and the tasks have the same figures."""
    find("otelcol")
    count = SPANS * 2 // 5
    began = time.time_ns()
    batches = stream(count, began)
    figures = []
    for kind in CLIENTS:
        with ExitStack() as mine:
            database = Database(mine.enter_context(fresh_database(server)))
            directory = open_dir()
            client = Client(kind, mine.enter_context(run_gateway(database.dsn, directory)), directory, mine)
            start = time.monotonic()
            assert all(client.send(batch) for batch in batches)
            acknowledged = time.monotonic() - start
            rows = until_stored(database, count, 120)
            took = time.monotonic() - start
            assert rows == Counter(identity(s) for batch in batches for s in batch)
            figures.append(
                database.fetch(
                    "SELECT task_id, uid, status, input_tokens, llm_calls, started_at, ended_at "
                    "FROM agent_tasks ORDER BY 1"
                )
            )
            print(f"{kind}: {count} spans acknowledged in {acknowledged:.1f} s, rows in {took:.1f} s")
    assert len(figures[0]) == count // PER_TASK
    assert all(each == figures[0] for each in figures)


@pytest.mark.proves("one-message", "gateway-killed")
@pytest.mark.proves("answered", "gateway-killed", "collector-killed")
@pytest.mark.parametrize("kind", CLIENTS)
def test_acknowledged_spans_survive_kills_and_each_task_has_one_message(
    kind: str,
    server: str,
    stack: ExitStack,
    open_dir: Callable[[], Path],
    record_property: Callable[[str, object], None],
) -> None:
    """Under random kills of gateway and Collector each span is one row and each task one current message."""
    if kind in COLLECTORS:
        find("otelcol")
    database = Database(stack.enter_context(fresh_database(server)))
    directory = open_dir()
    slack = Slack(directory / "slack.json")
    stack.callback(slack.close)
    gateway = stack.enter_context(run_gateway(database.dsn, directory, **settings(slack.url)))
    client = Client(kind, gateway, directory, stack)
    batches = stream(SPANS, time.time_ns())
    acknowledged = 0
    refused = 0
    moved = threading.Condition()

    def sending() -> None:
        nonlocal acknowledged, refused
        for batch in batches:
            while not client.send(batch):  # spans that the exporter gives up are sent again
                refused += 1
            with moved:
                acknowledged += 1
                moved.notify_all()

    sender = threading.Thread(target=sending)
    sender.start()
    chance = random.Random(kind)
    kills = 0
    step = max(1, len(batches) // KILLS)
    for n in range(KILLS):
        until = min(n * step + chance.randrange(step), len(batches) - 1)
        with moved:
            assert moved.wait_for(lambda until=until: acknowledged >= until, 600)  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, 0.1))  # the moment of the kill is random
        victim = chance.choice(client.victims)
        victim.kill()
        victim.start()
        kills += 1
    sender.join()
    rows = until_stored(database, SPANS, 300)
    assert rows == Counter(identity(s) for batch in batches for s in batch)
    states = asyncio.run(final_states(database.dsn, 300))
    assert gateway.stop() == 0
    state = slack.end()
    tasks, _, _ = asyncio.run(truth(database.dsn))
    assert states == {"delivered": sum(states.values())}
    [messages] = [channel for channel in state["channels"].values() if channel]
    roots = [m for m in messages if m.get("thread_ts", m["ts"]) == m["ts"]]
    assert len(tasks) == SPANS // PER_TASK
    assert Counter(m["text"] for m in roots) == Counter(render.root(t, (), key="").text for t in tasks.values())
    assert {t.status for t in tasks.values()} == {"complete"}
    record_property("size", f"by {kind}: {len(rows)} spans, {kills} kills, {refused} repeats, {len(roots)} messages")
