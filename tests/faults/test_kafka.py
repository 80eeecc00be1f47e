"""Kafka in front, with a real broker: each acknowledged span is in the tables once, whatever is killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from spanpost.cli.examination import examine
from spanpost.settings import load
from tests.acceptance.gateway_process import Gateway, request, spans
from tests.conftest import fresh_database, made_server
from tests.eventually import eventually
from tests.faults.test_journal import _WAITING, REQUESTS, SPANS, Senders, body, held, recorded, until
from tests.kafka_broker import Broker, run_broker
from tests.receivers.endpoints import traces

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
                "session_timeout = 2\n"
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


@pytest.mark.proves("kafka", "broker-killed")
async def test_a_broker_that_is_killed_loses_nothing_that_was_answered(dsn: str, start: Start, broker: Broker) -> None:
    """A broker is frozen with requests on their way and killed: they get 503, are repeated, and count once."""
    gateway = await asyncio.to_thread(start, "--consume")
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
    await check(dsn)


@pytest.mark.proves("kafka", "gateway-killed", "killed-at-each-step")
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


@pytest.mark.proves("kafka", "rebalance")
async def test_a_rebalance_in_the_middle_of_a_batch_counts_each_span_once(dsn: str, start: Start) -> None:
    """A second consumer joins while the first is in a transaction that does not end; later the first one stops in
    order while messages arrive, and leaves the rest to the second.
    """
    gateway = await asyncio.to_thread(start)
    await asyncio.to_thread(Senders(lambda: gateway.http, range(REQUESTS // 2)).join)
    async with held(dsn, "LOCK TABLE audit_rows IN SHARE MODE") as other:
        # They have no sink: with one they would end with 1 while any delivery waits, those that the other makes too.
        first = await asyncio.to_thread(start, "--consume", "--http-port", "-1", SPANPOST_CONSOLE__ENABLED="false")
        await until(other, _WAITING, "COPY%audit_rows%")
        second = await asyncio.to_thread(start, "--consume", "--http-port", "-1", SPANPOST_CONSOLE__ENABLED="false")
        await asyncio.to_thread(first.hear, "not reading topic")
        await asyncio.to_thread(second.hear, r"info: reading topic \S+, partitions \d")
    await check(dsn, REQUESTS // 2)
    rest = Senders(lambda: gateway.http, range(REQUESTS // 2, REQUESTS))
    assert await asyncio.to_thread(first.end) == 0, "\n".join(first.lines)
    await asyncio.to_thread(rest.join)
    await check(dsn)
    assert await asyncio.to_thread(second.end) == 0, "\n".join(second.lines)


@pytest.mark.proves("kafka", "connections-cut")
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


def test_a_message_is_of_the_tokens_tenant_and_holds_no_readable_word(start: Start, broker: Broker, topic: str) -> None:
    """The tenant's name in a header of the request, or in a resource, changes nothing; a span that no message can hold
    is in quarantine, and the answer says so.
    """
    digest = hashlib.sha256(b"a token").hexdigest()
    gateway = start(toml=f'max_message_bytes = 65536\n[[gateway.tokens]]\ntenant = "acme"\nsha256 = ["{digest}"]\n')
    large = traces(2, **{f"noise{n}": os.urandom(10_000).hex() for n in range(12)})
    for content in (traces(1, tenant="evil", note="a private word"), large):
        status, answer = request(
            gateway.http + "/v1/traces",
            content,
            authorization="Bearer a token",
            content_type="application/x-protobuf",
            spanpost_tenant="evil",
        )
        assert status == 200
    said = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (said.rejected_spans, "quarantine" in said.error_message) == (1, True)
    [message] = broker.messages(topic)
    assert dict(message.headers())["spanpost-tenant"] == b"acme"
    assert message.key() == (1).to_bytes(16, "big").hex().encode()
    assert b"private" not in message.value()
    assert gateway.rows("SELECT tenant, reason FROM quarantine") == [("acme", "too_large")]


@pytest.mark.proves("kafka", "garbage")
def test_what_a_collector_writes_is_recorded(start: Start, broker: Broker, topic: str) -> None:
    """Protobuf and JSON, of the tenant of the settings or of a header; poison among it is kept, and passed."""
    topics = {signal: f"{topic}-{signal}" for signal in ("traces", "json", "logs")}
    for name in topics.values():
        broker.make_topic(name)
    document = MessageToDict(ExportTraceServiceRequest.FromString(traces(2)))
    for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        span["traceId"], span["spanId"] = "0" * 31 + "2", "0" * 15 + "2"
    broker.send(topics["traces"], traces(1), b"\xff\xff poison", traces(3))
    broker.send(topics["traces"], traces(4), headers=[("x-tenant", b"beta")])
    broker.send(topics["json"], json.dumps(document).encode())
    broker.send(topic, b"poison")
    collected = [
        {"topic": topics["traces"], "signal": "traces", "tenant": "acme", "tenant_header": "X-Tenant"},
        {"topic": topics["json"], "signal": "traces", "encoding": "otlp_json"},
        {"topic": topics["logs"], "signal": "logs"},
    ]
    consumer = start("--consume", SPANPOST_KAFKA__COLLECTOR_TOPICS=json.dumps(collected))
    found = "SELECT tenant, name FROM agent_events WHERE part = 0 ORDER BY 2"
    expected = [("acme", "chat 1"), ("default", "chat 2"), ("acme", "chat 3"), ("beta", "chat 4")]
    assert eventually(lambda: consumer.rows(found), lambda rows: len(rows) == 4) == expected
    kept = "SELECT tenant, source, bytes FROM quarantine ORDER BY bytes"
    assert eventually(lambda: consumer.rows(kept), lambda rows: len(rows) == 2) == [
        ("default", f"kafka {topic}", b"poison"),
        ("acme", f"kafka {topics['traces']}", b"\xff\xff poison"),
    ]
    moved = "SELECT topic, next_offset FROM kafka_offsets ORDER BY 1, 2"
    assert [(topic, 1), (topics["json"], 1), (topics["traces"], 4)] == consumer.rows(moved)
    page = consumer.get("/metrics")[1].decode()
    assert 'spanpost_dropped_total{component="kafka",reason="undecodable"} 2.0' in page


def test_a_topic_that_is_made_anew_loses_nothing_new(start: Start, broker: Broker, topic: str) -> None:
    """A topic is deleted and made again under a running consumer: the messages of the new one are recorded, too."""
    collected = json.dumps([{"topic": f"{topic}-otlp", "signal": "traces"}])
    broker.make_topic(f"{topic}-otlp")
    broker.send(f"{topic}-otlp", *(traces(n) for n in range(1, 6)))
    consumer = start("--consume", SPANPOST_KAFKA__COLLECTOR_TOPICS=collected)
    count = "SELECT count(*) FROM agent_events WHERE part = 0"
    eventually(lambda: consumer.rows(count), [(5,)].__eq__)
    broker.delete_topic(f"{topic}-otlp")
    broker.make_topic(f"{topic}-otlp")
    broker.send(f"{topic}-otlp", traces(6), traces(7))
    eventually(lambda: consumer.rows(count), [(7,)].__eq__)
    moved = f"SELECT next_offset FROM kafka_offsets WHERE topic = '{topic}-otlp'"
    eventually(lambda: consumer.rows(moved), [(2,)].__eq__)


@pytest.mark.usefixtures("clean_environment")
def test_the_check_asks_the_brokers(broker: Broker) -> None:
    """A topic that fits is reported with its limits; one that is missing, or takes less than is sent, is a fault."""
    broker.make_topic("good", 3)
    broker.make_topic("narrow", max_message_bytes="10000")

    def found(address: str, topic: str) -> list[tuple[bool, str]]:
        settings = load(kafka={"bootstrap_servers": [address], "topic": topic})
        return [(each.ok, each.finding) for each in examine(settings) if each.name == "kafka"]

    [(is_ok, said)] = found(broker.address, "good")
    assert is_ok
    assert said.startswith("topic good: 3 partitions, 1 replicas, min.insync.replicas 1")
    assert [ok for topic in ("narrow", "missing") for ok, _ in found(broker.address, topic)] == [False, False]
    [(is_ok, said)] = found("127.0.0.1:1", "good")
    assert not is_ok
    assert "Kafka cannot be reached" in said


@pytest.mark.proves("kafka", "overload")
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
