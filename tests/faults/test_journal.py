"""A gateway that is killed while requests wait in its journal: each answered request is recorded once."""

from __future__ import annotations

import asyncio
import http.client
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.acceptance.gateway_process import Gateway, spans
from tests.conftest import fresh_database, made_server

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

#: Requests of so many spans each, ten to a trace: a body is larger than the limit for direct recording.
REQUESTS, SPANS = 12, 100
#: Points where the recording of journaled rows is stopped and killed: the lock, and the waiting statement.
POINTS = {
    "before the fold": ("LOCK TABLE task_state IN ACCESS EXCLUSIVE MODE", "%FROM task_state%"),
    "after the fold": ("LOCK TABLE audit_rows IN SHARE MODE", "COPY%audit_rows%"),
    "at the tasks": ("LOCK TABLE agent_tasks IN SHARE MODE", "%agent_tasks%"),
    "at the messages": ("LOCK TABLE deliveries IN SHARE MODE", "%deliveries%"),
    "at the journal": ("LOCK TABLE journal IN SHARE MODE", "DELETE FROM journal%"),
    "at the commit": ("SELECT pg_advisory_xact_lock(77)", "COMMIT%"),
}
_SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slowly AFTER DELETE ON journal DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION slowly()"""
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1 "
    "AND datname = current_database()"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """DSN of a throw-away embedded server."""
    with made_server(None) as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Lend ``start(**environment)``: a gateway with a home of its own."""
    with ExitStack() as stack:

        def go(**environment: str) -> Gateway:
            home = tmp_path / os.urandom(4).hex()
            home.mkdir()
            gateway = Gateway(dsn, home, "[console]\n", **environment)
            stack.callback(gateway.kill)
            gateway.hear("stop with Ctrl-C", 120.0)
            return gateway

        yield go


def body(number: int) -> bytes:
    """Return a request of a hundred numbered spans, whose calls use as many tokens as their numbers."""
    request = encode_spans(spans(number * SPANS, SPANS))
    for of_scope in request.resource_spans[0].scope_spans:
        for n, span in enumerate(of_scope.spans, number * SPANS):
            span.attributes.append(KeyValue(key="filler", value=AnyValue(string_value="x" * 1000)))
            if span.name == "chat":
                span.attributes.append(KeyValue(key="gen_ai.usage.input_tokens", value=AnyValue(int_value=n)))
    return bytes(request.SerializeToString())


class Senders:
    """One thread for each request, which sends it until the answer is 200."""

    def __init__(self, url: Callable[[], str], numbers: Sequence[int]) -> None:
        self._url = url
        self.answered: set[int] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in numbers]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        while not self._over.wait(0.05):
            connection = http.client.HTTPConnection(self._url().removeprefix("http://"), timeout=60)
            try:
                connection.request("POST", "/v1/traces", body(number), {"content-type": "application/x-protobuf"})
                if connection.getresponse().status == 200:
                    self.answered.add(number)
                    return
            except (OSError, http.client.HTTPException):
                continue  # the gateway was killed
            finally:
                connection.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def stop(self) -> None:
        self._over.set()
        self.join()


@asynccontextmanager
async def held(dsn: str, statement: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Hold a lock; lend another connection."""
    holder, other = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    try:
        async with holder.transaction():
            await holder.execute(statement)
            yield other
    finally:
        await holder.close()
        await other.close()


async def until(connection: Any, question: str, *parameters: Any) -> None:
    """Wait until a count is not 0."""
    async with asyncio.timeout(120):
        while not await connection.fetchval(question, *parameters):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _url(gateway: Gateway) -> str:
    return gateway.http


async def journaled(dsn: str, start: Callable[..., Gateway]) -> Senders:
    """Let a gateway answer requests from the journal, and kill it before any of them is recorded."""
    async with held(dsn, "LOCK TABLE task_state IN ACCESS EXCLUSIVE MODE") as other:
        gateway = await asyncio.to_thread(start)
        senders = Senders(lambda: gateway.http, range(REQUESTS))
        async with asyncio.timeout(120):
            while len(senders.answered) < REQUESTS // 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until(other, "SELECT count(*) FROM journal")
        await asyncio.to_thread(gateway.kill)
        answered = set(senders.answered)
        await asyncio.to_thread(senders.stop)
        senders.answered = answered
        assert await other.fetchval("SELECT sum(observations) FROM journal") >= len(answered) * SPANS
    return senders


async def recorded(connection: Any) -> list[int]:
    """Return the numbers of the recorded spans, sorted: a span with two rows appears twice."""
    return sorted(
        int(row[0]) for row in await connection.fetch("SELECT attributes->>'n' FROM agent_events WHERE part = 0")
    )


async def check(dsn: str) -> None:
    """Wait until the journal is empty; all spans are in the tables, once."""
    connection = await asyncpg.connect(dsn)
    await until(connection, "SELECT count(*) = 0 FROM journal")
    count = REQUESTS * SPANS
    assert await recorded(connection) == [*range(count)]
    found = await connection.fetchrow("SELECT count(*), sum(llm_calls), sum(input_tokens) FROM agent_tasks")
    assert tuple(found) == (count // 10, count * 9 // 10, sum(n for n in range(count) if n % 10 != 9))
    counts = await connection.fetch(
        "SELECT kind, count(*), count(DISTINCT task_uid) FROM agent_checkpoints GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in counts] == [("end", count // 10, count // 10), ("start", count // 10, count // 10)]
    assert await connection.fetchval("SELECT count(*) FROM deliveries") == await connection.fetchval(
        "SELECT count(DISTINCT (sink, mode, ordering_key, key)) FROM deliveries"
    )
    assert await connection.fetchval("SELECT count(*) FROM quarantine") == 0
    await connection.close()


@pytest.mark.proves("one-transaction", "killed-at-each-step")
@pytest.mark.proves("journal", "gateway-killed", "killed-at-each-step")
@pytest.mark.parametrize("point", POINTS)
async def test_what_was_answered_survives_a_kill(dsn: str, start: Callable[..., Gateway], point: str) -> None:
    """A gateway killed after its answers, and again while it records, neither loses nor doubles anything."""
    before = await journaled(dsn, start)
    lock, waits = POINTS[point]
    if point == "at the commit":
        connection = await asyncpg.connect(dsn)
        await connection.execute(_SLOW_COMMIT)
        await connection.close()
    async with held(dsn, lock) as other:
        gateway = await asyncio.to_thread(start)
        await until(other, _WAITING, waits)
        await asyncio.to_thread(gateway.kill)
    gateway = await asyncio.to_thread(start)
    rest = Senders(lambda: gateway.http, [number for number in range(REQUESTS) if number not in before.answered])
    await asyncio.to_thread(rest.join)
    await check(dsn)


@pytest.mark.proves("journal", "gateway-killed")
async def test_two_gateways_work_off_one_journal(dsn: str, start: Callable[..., Gateway]) -> None:
    """Two gateways record what a killed one left, once, while they accept more."""
    before = await journaled(dsn, start)
    gateways = [await asyncio.to_thread(start), await asyncio.to_thread(start)]
    left = [number for number in range(REQUESTS) if number not in before.answered]
    rest = [Senders(partial(_url, g), left) for g in gateways]
    for senders in rest:
        await asyncio.to_thread(senders.join)
    await check(dsn)


@pytest.mark.proves("journal")
async def test_a_journal_that_was_turned_off_is_worked_off(dsn: str, start: Callable[..., Gateway]) -> None:
    """With `journal_bytes = 0` the rows that wait are recorded all the same: their senders were answered 200."""
    before = await journaled(dsn, start)
    gateway = await asyncio.to_thread(start, SPANPOST_GATEWAY__JOURNAL_BYTES="0")
    rest = Senders(partial(_url, gateway), [number for number in range(REQUESTS) if number not in before.answered])
    await asyncio.to_thread(rest.join)
    await check(dsn)


@pytest.mark.proves("journal", "overload")
async def test_a_burst_is_answered_and_recorded_once(dsn: str, start: Callable[..., Gateway]) -> None:
    """Requests that come all at once each get 200 and never 503; the tables hold each span once."""
    gateway = await asyncio.to_thread(start)
    statuses: list[int] = []

    def send(number: int) -> None:
        statuses.append(gateway.post(body(number)))

    await asyncio.gather(*(asyncio.to_thread(send, number) for number in range(REQUESTS)))
    assert statuses == [200] * REQUESTS
    await check(dsn)


async def test_an_idle_gateway_never_writes_to_the_journal(dsn: str, start: Callable[..., Gateway]) -> None:
    """Requests one after the other are recorded before their answers, without a row in the journal."""
    gateway = await asyncio.to_thread(start)
    connection = await asyncpg.connect(dsn)
    for number in range(REQUESTS):
        assert await asyncio.to_thread(gateway.post, body(number)) == 200
        assert len(await recorded(connection)) == (number + 1) * SPANS
    assert await connection.fetchval("SELECT nextval(pg_get_serial_sequence('journal', 'id'))") == 1
    await connection.close()
