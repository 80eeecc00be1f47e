"""Kafka in front, with a real broker: each acknowledged span is in the tables once, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.acceptance.gateway_process import Gateway, request, spans
from tests.conftest import fresh_database, made_server
from tests.eventually import eventually
from tests.faults.test_journal import _WAITING, REQUESTS, SPANS, Senders, body, held, recorded, until
from tests.kafka_broker import Broker, run_broker

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("kafka")]

#: Points where a consumer is stopped and killed: the lock, and the waiting statement.
POINTS = {
    "after the fold": ("LOCK TABLE audit_rows IN SHARE MODE", "COPY%audit_rows%"),
    "at the offset": ("LOCK TABLE kafka_offsets IN SHARE MODE", "%kafka_offsets%"),
    "at the commit": ("SELECT pg_advisory_xact_lock(77)", "COMMIT%"),
}
_SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT OR UPDATE ON kafka_offsets DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION slowly()"""
#: Seconds of the burst, and its spans a second beside those of the time before: a day's worth of a minute.
BURST = int(os.environ.get("SPANPOST_TEST_BURST_SECONDS", "3"))
BASE = 50

Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """DSN of a throw-away embedded server."""
    with made_server(None) as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with run_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest) -> str:
    """Return a new topic of four partitions."""
    name = f"t{os.urandom(6).hex()}"
    broker.make_topic(name, 4)
    return name


@pytest.fixture
def start(dsn: str, broker: Broker, topic: str, tmp_path: Path) -> Iterator[Start]:
    """Lend ``start(*options)``: a gateway that writes to the topic; with ``--consume`` it also reads it."""
    with ExitStack() as stack:

        def go(*options: str, toml: str = "", **environment: str) -> Gateway:
            home = tmp_path / os.urandom(4).hex()
            home.mkdir()
            settings = (
                f'[console]\n[kafka]\nbootstrap_servers = ["{broker.address}"]\ntopic = "{topic}"\ngroup = "{topic}"\n'
                'session_timeout = 2\n'
            )
            gateway = Gateway(
                dsn, home, settings + toml, "--http-port", "0", "--grpc-port", "-1", *options, **environment
            )
            stack.callback(gateway.kill)
            return gateway.ready()

        yield go


async def check(dsn: str, requests: int = REQUESTS) -> None:
    """Wait until all spans are in the tables; each is there once, and so are its task's checkpoints."""
    connection = await asyncpg.connect(dsn)
    count = requests * SPANS
    await until(connection, f"SELECT count(*) >= {count} FROM agent_events WHERE part = 0")
    assert await recorded(connection) == [*range(count)]
    found = await connection.fetchrow("SELECT count(*), sum(llm_calls), sum(input_tokens) FROM agent_tasks")
    assert tuple(found) == (count // 10, count * 9 // 10, sum(n for n in range(count) if n % 10 != 9))
    counts = await connection.fetch(
        "SELECT kind, count(*), count(DISTINCT task_uid) FROM agent_checkpoints GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in counts] == [("end", count // 10, count // 10), ("start", count // 10, count // 10)]
    assert await connection.fetchval("SELECT count(*) FROM quarantine") == 0
    await connection.close()


async def test_a_broker_that_is_killed_loses_nothing_that_was_answered(dsn: str, start: Start, broker: Broker) -> None:
    """A broker is frozen with requests on their way and killed: they get 503, are repeated, and count once."""
    gateway = await asyncio.to_thread(start)
    senders = Senders(lambda: gateway.http, range(REQUESTS // 2))
    await asyncio.to_thread(senders.join)
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGSTOP)  # it takes the messages into its socket, and answers none
    rest = Senders(lambda: gateway.http, range(REQUESTS // 2, REQUESTS))
    status, _ = await asyncio.to_thread(
        request, gateway.http + "/v1/traces", body(0), content_type="application/x-protobuf"
    )
    assert status == 503
    await asyncio.to_thread(broker.kill)
    assert (await asyncio.to_thread(gateway.get, "/health/ready"))[0] == 503
    assert not rest.answered
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(rest.join)
    assert rest.answered == {*range(REQUESTS // 2, REQUESTS)}
    await asyncio.to_thread(start, "--consume")
    await check(dsn)


async def test_a_consumer_that_is_killed_records_each_span_once(dsn: str, start: Start) -> None:
    """A consumer killed after the fold, one at its offset, and one at its commit: the fourth records the rest once."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_SLOW_COMMIT)
    await connection.close()
    gateway = await asyncio.to_thread(start)
    senders = Senders(lambda: gateway.http, range(REQUESTS))
    await asyncio.to_thread(senders.join)
    for lock, waits in POINTS.values():
        async with held(dsn, lock) as other:
            consumer = await asyncio.to_thread(start, "--consume", "--http-port", "-1")
            await until(other, _WAITING, waits)
            await asyncio.to_thread(consumer.kill)
    await asyncio.to_thread(start, "--consume", "--http-port", "-1")
    await check(dsn)


async def test_a_rebalance_in_the_middle_of_a_batch_counts_each_span_once(dsn: str, start: Start) -> None:
    """A second consumer joins while the first is in the middle of a transaction, which then ends too late."""
    gateway = await asyncio.to_thread(start)
    await asyncio.to_thread(Senders(lambda: gateway.http, range(REQUESTS)).join)
    async with held(dsn, "LOCK TABLE audit_rows IN SHARE MODE") as other:
        first = await asyncio.to_thread(start, "--consume", "--http-port", "-1")
        await until(other, _WAITING, "COPY%audit_rows%")
        second = await asyncio.to_thread(start, "--consume", "--http-port", "-1")
        await asyncio.to_thread(first.hear, "not reading topic")
        await asyncio.to_thread(second.hear, r"info: reading topic \S+, partitions \d")
    await check(dsn)


async def test_a_consumer_that_stops_in_order_hands_over(dsn: str, start: Start) -> None:
    """SIGTERM while messages arrive: the consumer leaves its group, another continues, and nothing is doubled."""
    first = await asyncio.to_thread(start, "--consume")
    senders = Senders(lambda: first.http, range(REQUESTS))
    second = await asyncio.to_thread(start, "--consume")
    await asyncio.to_thread(senders.join)
    assert await asyncio.to_thread(first.end) == 0
    await check(dsn)
    assert await asyncio.to_thread(second.end) == 0


async def test_senders_are_answered_while_the_database_is_down(dsn: str, start: Start, server: str) -> None:
    """The gateway answers 200 and is ready without its database; all is recorded when that is back."""
    gateway = await asyncio.to_thread(start, "--consume")
    name = dsn.rpartition("/")[2].partition("?")[0]
    connection = await asyncpg.connect(server)
    await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        assert [await asyncio.to_thread(gateway.post, body(number)) for number in range(REQUESTS)] == [200] * REQUESTS
        assert (await asyncio.to_thread(gateway.get, "/health/ready"))[0] == 200
    finally:
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await connection.close()
    await check(dsn)


def test_a_burst_is_answered_and_recorded_once(dsn: str, start: Start) -> None:
    """Forty times the usual rate: every answered span is recorded once, and the lag ends."""
    gateway = start("--consume")
    answered: list[tuple[int, float]] = []
    done = threading.Event()
    count = BASE * 40 * BURST // SPANS
    numbers = iter(range(count))
    lock = threading.Lock()

    def send() -> None:
        while (number := next_number()) is not None:
            while gateway.post(encode_spans(spans(number * SPANS, SPANS)).SerializeToString()) != 200:
                assert not done.wait(0.5)
            answered.append((number, time.time()))

    def next_number() -> int | None:
        with lock:
            return next(numbers, None)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in answered) == [*range(count)]
    eventually(
        lambda: gateway.rows("SELECT count(*) FROM agent_events WHERE part = 0")[0][0],
        lambda n: n >= count * SPANS,
        600,
    )
    assert gateway.recorded == [*range(count * SPANS)]
    eventually(lambda: _lag(gateway), lambda lag: lag == 0.0)


def _lag(gateway: Gateway) -> float:
    page = gateway.get("/metrics")[1].decode()
    return max(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith("spanpost_kafka_lag_"))
