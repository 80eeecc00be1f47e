"""A burst that is far faster than recording: the delay of each answer, and the time until everything is
recorded once.

    python bench/burst.py [--seconds 5] [--factor 40] [--batch 512] [--connections 64] [--load whole|split|stacked]
                          [--kill] [--only-accept] [--system]

Some bodies are first recorded directly (`gateway.journal_bytes = 0`), in one database, for the rate and for
the sums of the tables. Then copies of them with trace ids of their own are offered to a gateway of another
database, `factor` times as fast, for so many seconds, by a process of its own. *Answer* is the time from the
moment at which a request was due to its 200, all repeats included; *last try* that of the request that was
answered 200. *Lag* is from the last 200 to the empty journal. A span's processor time is that of the gateway
and of PostgreSQL. With `--kill` the gateway is killed (SIGKILL) and started again three times: in the burst,
and twice while the journal is worked off. With `--only-accept` the run ends after the last 200, and the
journal is asked whether it has what was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import uvloop
from gateway import DIRECT, Running, offer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from options import parse
from stages import batches, server_cpu
from yardstick import yard

from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import system_binaries, throwaway_postgres, with_database

#: The first bytes of all trace ids of a body that is copied.
_MARK = b"\xf5spanpst"
_HEAD = (
    b"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"
)
#: Sums of the tables: equal for the same spans, however they were recorded.
SUMS = {
    "rows": "SELECT count(*) FROM agent_events",
    "distinct": "SELECT count(*) FROM (SELECT DISTINCT event_id, content_hash FROM agent_events) AS e",
    "tasks": "SELECT count(*) FROM agent_tasks",
    "calls": "SELECT sum(llm_calls) FROM agent_tasks",
    "tokens": "SELECT sum(input_tokens + output_tokens) FROM agent_tasks",
    "checkpoints": "SELECT count(*) FROM agent_checkpoints",
    "messages": "SELECT count(*) FROM deliveries",
    "dead": "SELECT count(*) FROM quarantine",
}


async def ask(dsn: str, *questions: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    found = [await connection.fetchval(question) for question in questions]
    await connection.close()
    return found


def sums(dsn: str) -> dict[str, Any]:
    """Return the sums of the tables."""
    return dict(zip(SUMS, asyncio.run(ask(dsn, *SUMS.values())), strict=True))


def postmaster(dsn: str) -> int:
    return int(asyncio.run(ask(dsn, "SELECT pg_read_file('postmaster.pid')"))[0].split()[0])


class Lookups:
    """Queries on the journal, over one connection."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(dsn))

    def waiting(self) -> tuple[int, int]:
        """Return the waiting observations and their bytes."""
        question = "SELECT coalesce(sum(observations), 0)::int, coalesce(sum(octet_length(body)), 0)::int FROM journal"
        found = self._loop.run_until_complete(self._connection.fetchrow(question))
        return found[0], found[1]

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


class Copies:
    """Copies of bodies, in which traces have ids of their own."""

    def __init__(self, bodies: list[bytes]) -> None:
        traces: dict[bytes, None] = {}
        for body in bodies:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                traces.update((span.trace_id, None) for scope in of_resource.scope_spans for span in scope.spans)
        self._bodies = []
        for body in bodies:
            for trace in traces:
                marked = _MARK + trace[len(_MARK) :]
                body = body.replace(trace, marked).replace(trace.hex().encode(), marked.hex().encode())
            self._bodies.append(body)

    def body(self, number: int) -> bytes:
        """Return the body at a position of the endless row of copies."""
        copy, at = divmod(number, len(self._bodies))
        mark = (copy + 1).to_bytes(len(_MARK), "big")
        return self._bodies[at].replace(_MARK, mark).replace(_MARK.hex().encode(), mark.hex().encode())


class Answers(NamedTuple):
    """Answers by status, seconds from due to 200 of each request, and seconds of the request that got the 200."""

    counts: Counter[str]
    waits: list[float]
    tries: list[float]
    seconds: float


class Sender(asyncio.Protocol):
    """A connection that sends requests one after the other, each until it is answered 200."""

    def __init__(self, burst: Burst) -> None:
        self._burst = burst
        self._request: tuple[float, bytes] | None = None
        self._sent, self._answer = 0.0, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._burst.free(self)

    def send(self, request: tuple[float, bytes]) -> None:
        self._request, self._sent, self._answer = request, time.perf_counter(), b""
        self._transport.write(_HEAD % len(request[1]))
        self._transport.write(request[1])

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head.split(b"\r\n")}
        if not end or len(rest) < int(fields.get(b"content-length", 0)) or self._request is None:
            return
        request, self._request = self._request, None
        wait = self._burst.answered(request, head.split()[1].decode(), self._sent)
        if wait is None:
            self._burst.free(self)
        else:
            asyncio.get_running_loop().call_later(float(fields.get(b"retry-after", 1)), self.send, request)

    def connection_lost(self, error: Exception | None) -> None:
        self._burst.cut(self, self._request)


class Burst:
    """Requests that are due at a steady pace, each offered until it is answered 200. Runs in its own
    process.
    """

    def __init__(self, copies: Copies, count: int, pace: float, port: int, connections: int, done: Any) -> None:
        self._bodies = [copies.body(number) for number in range(count)]
        self._pace, self._port, self._connections, self._done = pace, port, connections, done
        self._free: list[Sender] = []
        self._due = deque[tuple[float, bytes]]()
        self._ended = asyncio.Event()
        self.counts, self.waits, self.tries = Counter[str](), list[float](), list[float]()

    async def run(self) -> Answers:
        """Offer all requests."""
        count = len(self._bodies)
        for _ in range(self._connections):
            await self._connect()
        began = time.perf_counter() + 0.2
        for number, body in enumerate(self._bodies):
            due = began + number * self._pace
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            self._due.append((due, body))
            self._send()
            if number % 8 == 0:
                await asyncio.sleep(0)
        while len(self.waits) < count:
            self._ended.clear()
            await self._ended.wait()
        return Answers(self.counts, sorted(self.waits), sorted(self.tries), time.perf_counter() - began)

    async def _connect(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: Sender(self), "127.0.0.1", self._port)
                return
            except OSError:
                await asyncio.sleep(0.1)

    def free(self, sender: Sender) -> None:
        """Give a connection its next request."""
        self._free.append(sender)
        self._send()

    def _send(self) -> None:
        while self._free and self._due:
            self._free.pop().send(self._due.popleft())

    def answered(self, request: tuple[float, bytes], status: str, sent: float) -> str | None:
        """Record an answer; return None if it was 200."""
        self.counts[status] += 1
        if status != "200":
            return status
        now = time.perf_counter()
        self.waits.append(now - request[0])
        self.tries.append(now - sent)
        self._done.value = len(self.waits)
        self._ended.set()
        return None

    def cut(self, sender: Sender, request: tuple[float, bytes] | None) -> None:
        """Connect again and send its request next."""
        if sender in self._free:
            self._free.remove(sender)
        if request is not None:
            self.counts["cut"] += 1
            self._due.appendleft(request)
        self._connecting = asyncio.ensure_future(self._connect())


def burst(*arguments: Any) -> None:
    """Run a burst; the last argument is the queue of its answers."""
    *others, found = arguments

    async def run() -> Answers:
        return await Burst(*others).run()

    gc.disable()
    found.put(uvloop.run(run()))


def at(share: float, times: list[float]) -> str:
    """Return a quantile in milliseconds."""
    return f"{times[min(len(times) - 1, int(len(times) * share))] * 1000:,.0f}"


def again(gateway: Running, dsn: str, home: Path, settings: list[str]) -> Running:
    """Kill a gateway and start another on its port."""
    gateway.process.kill()
    gateway.process.wait()
    return Running(dsn, home, gateway.port, settings)


def main(asked: argparse.Namespace) -> None:
    pg_bin = system_binaries() if asked.system else None
    with throwaway_postgres(pg_bin=pg_bin, durable=True) as server, tempfile.TemporaryDirectory() as made:
        home = Path(made)
        databases = [with_database(server, name) for name in ("direct", "burst")]
        for name, dsn in zip(("direct", "burst"), databases, strict=True):
            asyncio.run(ask(server, f"CREATE DATABASE {name}"))
            asyncio.run(upgrade(dsn))
        direct, journaled = databases
        pid = postmaster(server)
        gateway = Running(direct, home / "direct", 0, [*asked.setting, DIRECT])
        offer([gateway.port], batches(asked.load, 4096, asked.batch, 999), 4, False)
        tables = "audit_rows, agent_tasks, agent_checkpoints, deliveries, task_state, timers"
        asyncio.run(ask(direct, f"TRUNCATE {tables} CASCADE"))
        bodies = batches(asked.load, asked.templates * asked.batch, asked.batch, 1)
        before = gateway.cpu * 1e6, server_cpu(pid)
        took, _, waits = offer([gateway.port], bodies, 4, False)
        rate = len(bodies) * asked.batch / took
        spent = [gateway.cpu * 1e6 - before[0], server_cpu(pid) - before[1]]
        cost = [each / len(bodies) / asked.batch for each in spent]
        gateway.stop()
        copied = max(1, round(rate * asked.factor * asked.seconds / asked.batch / len(bodies)))
        expected = {name: value * copied for name, value in sums(direct).items()}
        count = copied * len(bodies)
        print(
            f"{count * asked.batch:,} spans in bodies of {asked.batch}, {asked.connections} connections; one "
            f"yard {yard():.1f} µs"
        )
        print(
            "| way | spans/s | answer, median / 99 % / longest ms | last try, the same | gateway, µs a span | server |"
        )
        print("|---|---|---|---|---|---|")
        print(
            f"| direct | {rate:,.0f} | {at(0.5, waits)} / {at(0.99, waits)} / {at(1, waits)} | | {cost[0]:.0f} "
            f"| {cost[1]:.0f} |"
        )

        gateway = Running(journaled, home / "burst", 0, asked.setting)
        offer([gateway.port], batches(asked.load, 2048, asked.batch, 999), 1, False)
        asyncio.run(ask(journaled, f"TRUNCATE {tables} CASCADE"))
        before = gateway.cpu * 1e6, server_cpu(pid)
        pace = asked.batch / (rate * asked.factor)
        answered, found = multiprocessing.Value("q", 0), multiprocessing.Queue()
        arguments = (Copies(bodies), count, pace, gateway.port, asked.connections, answered, found)
        generator = multiprocessing.Process(target=burst, args=arguments, daemon=True)
        generator.start()
        if asked.kill:
            while answered.value < count // 2:
                time.sleep(0.005)
            gateway = again(gateway, journaled, home / "second", asked.setting)
        answers: Answers = found.get()
        ended = time.perf_counter()
        lookups = Lookups(journaled)
        (left, size), between = lookups.waiting(), (gateway.cpu * 1e6, server_cpu(pid))
        at_first = [(now - then) / count / asked.batch for now, then in zip(between, before, strict=True)]
        print(
            f"| burst, until the last 200 | {count * asked.batch / answers.seconds:,.0f} "
            f"| {at(0.5, answers.waits)} / {at(0.99, answers.waits)} / {at(1, answers.waits)} "
            f"| {at(0.5, answers.tries)} / {at(0.99, answers.tries)} / {at(1, answers.tries)} "
            f"| {at_first[0]:.1f} | {at_first[1]:.1f} |"
        )
        print(
            f"answers {dict(answers.counts)}; accepted within {answers.seconds:.2f} s, "
            f"offered within {count * pace:.2f} s; gateway {gateway.memory('VmHWM'):.0f} MiB"
        )
        print(f"after the last 200 about {left:,} observations waited, in {size:,} bytes")
        if asked.only_accept:
            gateway.process.kill()
            return
        if asked.kill:
            for number in ("third", "fourth"):
                while (now := lookups.waiting()[0]) > left * 0.6:
                    time.sleep(0.01)
                left = now
                gateway = again(gateway, journaled, home / number, asked.setting)
        while lookups.waiting()[0]:
            time.sleep(0.05)
        lag = time.perf_counter() - ended
        lookups.close()
        gateway.stop()
        got = sums(journaled)
        print(f"lag {lag:.2f} s: {expected['rows'] / (lag + answers.seconds):,.0f} observations a second")
        print("sums are equal" if got == expected else f"SUMS DIFFER: {got} instead of {expected}")
        if got != expected:
            raise SystemExit(1)


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--seconds", type=float, default=5)
    asker.add_argument("--factor", type=float, default=40)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--connections", type=int, default=64)
    asker.add_argument("--templates", type=int, default=40, help="bodies that are copied")
    asker.add_argument("--load", choices=("whole", "split", "stacked"), default="whole")
    asker.add_argument("--kill", action="store_true", help="kill the gateway and start it again, three times")
    asker.add_argument("--only-accept", action="store_true", help="end after the last answer")
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument(
        "--setting", action="append", default=[], help="NAME=VALUE, a setting of the gateway by its variable"
    )
    main(parse(asker, {"seconds": 0.1, "templates": 2, "factor": 10}))
