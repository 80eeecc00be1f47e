"""Kafka in front: what the gateway acknowledges, how fast one consumer and two record it, and how late a span is.

    python bench/kafka.py --system [--spans 20000] [--rate 100] [--burst 60]

One broker on this machine (`scripts/install-kafka`), four partitions. *Acknowledged* are spans a second that a
gateway answers with 200 after all replicas, here one, have them. Then the same messages are recorded by one
consumer, and again, in another database, by two: from when each has its partitions to the last row. *Lag* is
from the answer to a request to the row of its last span, at `--rate` spans a second, and during and after a burst
of forty times as much for `--burst` seconds. Every row is counted: each acknowledged span once.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from gateway import Running
from loads import SECOND, span
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from options import parse, postgres
from table import tell

from spanpost.store.sql.schema import upgrade
from spanpost.testing.ports import free_port
from spanpost.testing.postgres import with_database

_ROOT = Path(__file__).parents[1]
#: Spans of a trace and of a request, and partitions.
TRACE, REQUEST, PARTITIONS = 10, 100, 4
#: How many times the usual rate a burst has, and how many connections send it.
TIMES, SENDERS = 40, 8
#: Seconds until the wait for rows ends.
_STALL = 900.0


def body(number: int) -> bytes:
    """Return a request of `REQUEST` spans in whole traces, numbered."""
    dice = random.Random(number)
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for n in range(number * REQUEST, (number + 1) * REQUEST):
        trace, place = divmod(n, TRACE)
        root = place == TRACE - 1
        said: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent" if root else "chat",
            "gen_ai.agent.name": "a",
            "n": n,
        }
        if not root:
            said |= {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
        parent = b"" if root else ((trace + 1) * TRACE).to_bytes(8, "big")
        own = ((trace + 1) * TRACE if root else (1 << 40) + n).to_bytes(8, "big")
        id = (trace + 1).to_bytes(16, "big")
        spans.append(span(dice, id, own, parent, "invoke_agent a" if root else "chat", now - SECOND, said))
    return request.SerializeToString()


@contextmanager
def broker(home: Path) -> Iterator[str]:
    """Run a broker; lend its address."""
    port = free_port()
    with (home / "broker.log").open("wb") as log:
        command = [_ROOT / "scripts" / "start-kafka", home / "kafka", str(port), str(free_port())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        for _ in range(120):
            try:
                if client.list_topics(timeout=1).brokers:
                    break
            except KafkaException:
                if process.poll() is not None:
                    raise SystemExit((home / "broker.log").read_text()) from None
        for made in client.create_topics([NewTopic("spanpost", PARTITIONS, 1)]).values():
            made.result(30)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def send(port: int, numbers: Iterator[int], answered: dict[int, float], until: Sequence[float] = ()) -> None:
    """Send requests over one connection, each until it is answered 200, and note when; `until`: not before then."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in numbers:
        if until:
            time.sleep(max(0.0, until[number] - time.time()))
        content = body(number)
        while True:
            connection.request("POST", "/v1/traces", content, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        answered[number] = time.time()


def sent(port: int, first: int, count: int, rate: float = 0.0) -> tuple[dict[int, float], float]:
    """Send requests over `SENDERS` connections, at `rate` requests a second; return the answers' times, seconds."""
    answered: dict[int, float] = {}
    began = time.time()
    until = [began + max(n - first, 0) / rate for n in range(first + count)] if rate else ()
    threads = [
        threading.Thread(target=send, args=(port, iter(range(first + k, first + count, SENDERS)), answered, until))
        for k in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered, time.time() - began


def ask(dsn: str, question: str) -> list[Any]:
    async def asked() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(question))
        finally:
            await connection.close()

    return asyncio.run(asked())


def fresh(dsn: str, *names: str) -> list[str]:
    """Return new databases with the schema."""
    first, *more = names
    ask(dsn, f"CREATE DATABASE {first}")
    asyncio.run(upgrade(with_database(dsn, first)))
    for name in more:
        ask(dsn, f"CREATE DATABASE {name} TEMPLATE {first}")
    return [with_database(dsn, name) for name in names]


def until_recorded(dsn: str, count: int) -> None:
    """Wait until so many spans are rows; each must be one row."""
    ends = time.monotonic() + _STALL
    while (found := ask(dsn, "SELECT count(*) FROM agent_events WHERE part = 0")[0][0]) < count:
        if time.monotonic() > ends:
            raise SystemExit(f"{found} of {count} spans are recorded")
        time.sleep(0.1)
    [(rows, distinct)] = ask(dsn, "SELECT count(*), count(DISTINCT attributes->>'n') FROM agent_events WHERE part = 0")
    if (rows, distinct) != (count, count):
        raise SystemExit(f"{rows} rows of {distinct} spans; {count} were acknowledged")


@contextmanager
def held(dsn: str) -> Iterator[None]:
    """Let no consumer move an offset meanwhile."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(dsn))
    loop.run_until_complete(connection.execute("BEGIN; LOCK TABLE kafka_offsets IN SHARE MODE"))
    yield
    loop.run_until_complete(connection.close())
    loop.close()


def until_shared(consumers: Sequence[Running]) -> None:
    """Wait until each consumer has its share of the partitions."""
    ends = time.monotonic() + _STALL
    for each in consumers:
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{each.port}/metrics", timeout=10) as page:
                wanted = f'spanpost_kafka_partitions{{topic="spanpost"}} {PARTITIONS / len(consumers)}'
                if wanted in page.read().decode():
                    break
            if time.monotonic() > ends:
                raise SystemExit("a consumer has no partitions")
            time.sleep(0.1)


def lags(dsn: str, answered: dict[int, float]) -> list[float]:
    """Return the seconds from each request's answer to the row of its last span."""
    rows = ask(
        dsn,
        f"SELECT (attributes->>'n')::int / {REQUEST}, extract(epoch FROM max(received_at))::float8 "
        "FROM agent_events WHERE part = 0 GROUP BY 1",
    )
    return sorted(max(at - answered[number], 0.0) for number, at in rows if number in answered)


def figures(name: str, found: Sequence[float], rate: float) -> dict[str, Any]:
    return {"what": name, "rate": rate, "median": statistics.median(found), "p99": found[int(0.99 * (len(found) - 1))]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL, not the embedded one")
    parser.add_argument("--spans", type=int, default=20_000, help="spans recorded by one consumer, and by two")
    parser.add_argument("--rate", type=float, default=100.0, help="usual spans a second")
    parser.add_argument("--burst", type=float, default=60.0, help="seconds of the burst")
    parser.add_argument("--json", action="store_true")
    asked = parse(parser, {"spans": 1000, "rate": 50.0, "burst": 1.0})
    rows: list[dict[str, Any]] = []
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        home = Path(directory)
        home.chmod(0o755)
        address = stack.enter_context(broker(home))
        ours = [
            f'SPANPOST_KAFKA__BOOTSTRAP_SERVERS=["{address}"]',
            "SPANPOST_GATEWAY__JOURNAL_KEYS=" + '["' + "k" * 40 + '"]',
        ]

        def run(dsn: str, *settings: str) -> Running:
            made = Running(dsn, home / os.urandom(4).hex(), 0, [*ours, *settings])
            stack.callback(made.process.kill)
            return made

        def consumer(dsn: str) -> Running:
            return run(
                dsn,
                "SPANPOST_KAFKA__CONSUME=true",
                f"SPANPOST_KAFKA__GROUP={dsn.rpartition('/')[2][:60].partition('?')[0]}",
            )

        requests = max(asked.spans // REQUEST, 1)
        first, *others = fresh(dsn, *(f"kafka_{os.getpid()}_{n}" for n in range(3)))
        gateway = run(first)
        _, seconds = sent(gateway.port, 0, requests)
        rows.append({"what": "acknowledged", "rate": requests * REQUEST / seconds, "median": 0, "p99": 0})
        for count, database in enumerate(others, 1):
            with held(database):
                consumers = [consumer(database) for _ in range(count)]
                until_shared(consumers)
            began = time.monotonic()
            until_recorded(database, requests * REQUEST)
            took = time.monotonic() - began
            rate = requests * REQUEST / took
            rows.append({"what": f"recorded by {count}", "rate": rate, "median": 0, "p99": 0})
            for each in consumers:
                each.stop()
        consumer(first)
        until_recorded(first, requests * REQUEST)
        steady = max(round(asked.rate * (20 if not asked.small else 4) / REQUEST), 2)
        answered, seconds = sent(gateway.port, requests, steady, asked.rate / REQUEST)
        until_recorded(first, (requests + steady) * REQUEST)
        rows.append(figures("steady", lags(first, answered), steady * REQUEST / seconds))
        burst = max(round(TIMES * asked.rate * asked.burst / REQUEST), 4)
        answered, seconds = sent(gateway.port, requests + steady, burst, TIMES * asked.rate / REQUEST)
        until_recorded(first, (requests + steady + burst) * REQUEST)
        rows.append(figures("burst", lags(first, answered), burst * REQUEST / seconds))
    headings = {"what": "", "rate": "spans/s", "median": "median lag, s", "p99": "p99 lag, s"}
    tell(rows, headings, as_json=asked.json, form=".2f")


if __name__ == "__main__":
    main()
