"""A burst that is far faster than recording: who is answered when, and how long until all of it is recorded, once.

    python bench/burst.py [--seconds 0.2] [--factor 40] [--batch 512] [--connections 16] [--load whole|split|stacked]
                          [--kill] [--system]

The spans are first recorded directly (`gateway.journal_bytes = 0`), in one database, for the rate and for the sums of
the tables. Then the same spans are offered to a gateway of another database, `factor` times as fast, for so many
seconds. *Answer* is the time from the moment at which a request was due to its 200, all repeats included. *Lag* is
from the last 200 to the empty journal. A span's processor time is that of the gateway and of PostgreSQL; *from the
journal* is that after the last 200, by the spans that waited then. With `--kill` the gateway is killed (SIGKILL) and
started again three times: in the burst, and twice while the journal is worked off.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import asyncpg
from gateway import Running, offer
from options import parse
from stages import batches, server_cpu
from yardstick import yard

from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import system_binaries, throwaway_postgres, with_database

#: What the tables came to: equal for the same spans, however they were recorded.
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
    """Return what the tables came to."""
    return dict(zip(SUMS, asyncio.run(ask(dsn, *SUMS.values())), strict=True))


def postmaster(dsn: str) -> int:
    return int(asyncio.run(ask(dsn, "SELECT pg_read_file('postmaster.pid')"))[0].split()[0])


class Looks:
    """Looks at the journal, over one connection."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(dsn))

    def waiting(self) -> tuple[int, int]:
        """Return the observations and the bytes that wait."""
        question = "SELECT coalesce(sum(observations), 0)::int, coalesce(sum(octet_length(body)), 0)::int FROM journal"
        found = self._loop.run_until_complete(self._connection.fetchrow(question))
        return found[0], found[1]

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


class Burst:
    """Requests that are due at a pace, each offered until it is answered 200."""

    def __init__(self, bodies: list[bytes], pace: float, port: int) -> None:
        began = time.perf_counter() + 0.2
        self._due = deque((began + i * pace, body) for i, body in enumerate(bodies))
        self.port = port
        self.answers, self.waits = Counter[str](), list[float]()

    def send(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while True:
            try:
                due, body = self._due.popleft()
            except IndexError:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            while True:
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                    connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException):
                    self.answers["cut"] += 1
                    connection = None
                    time.sleep(0.2)
                    continue
                self.answers[str(response.status)] += 1
                if response.status == 200:
                    break
                time.sleep(float(response.headers.get("retry-after") or 1))
            self.waits.append(time.perf_counter() - due)


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
        # How fast they are recorded is found out with a few, for how many are to be offered.
        gateway = Running(direct, home / "direct", 0, [*asked.setting, "SPANPOST_GATEWAY__JOURNAL_BYTES=0"])
        offer([gateway.port], batches(asked.load, 4096, asked.batch, 999), asked.connections, False)
        took, _, _ = offer([gateway.port], batches(asked.load, 4096, asked.batch, 998), asked.connections, False)
        asyncio.run(
            ask(direct, "TRUNCATE audit_rows, agent_tasks, agent_checkpoints, deliveries, task_state, timers CASCADE")
        )
        count = int(4096 / took * asked.factor * asked.seconds)
        bodies = batches(asked.load, count, asked.batch, 1)
        before = gateway.cpu * 1e6, server_cpu(pid)
        took, _, waits = offer([gateway.port], bodies, asked.connections, False)
        rate = count / took
        cost = [(now - then) / count for now, then in zip((gateway.cpu * 1e6, server_cpu(pid)), before, strict=True)]
        gateway.stop()
        expected = sums(direct)
        print(f"{count:,} spans in bodies of {asked.batch}, {asked.connections} connections; one yard {yard():.1f} µs")
        print("| way | spans/s | answer, median / 99 % s | gateway, µs a span | server |")
        print("|---|---|---|---|---|")
        print(
            f"| direct | {rate:,.0f} | {waits[len(waits) // 2]:.2f} / {waits[len(waits) * 99 // 100]:.2f} | {cost[0]:.0f} | {cost[1]:.0f} |"
        )

        gateway = Running(journaled, home / "burst", 0, asked.setting)
        before = gateway.cpu * 1e6, server_cpu(pid)
        burst = Burst(bodies, asked.batch / (rate * asked.factor), gateway.port)
        senders = [threading.Thread(target=burst.send) for _ in range(asked.connections)]
        began = time.perf_counter() + 0.2
        for sender in senders:
            sender.start()
        if asked.kill:
            while len(burst.waits) < len(bodies) // 2:
                time.sleep(0.005)
            gateway = again(gateway, journaled, home / "second", asked.setting)
        for sender in senders:
            sender.join()
        accepted = time.perf_counter() - began
        lookups = Looks(journaled)
        (left, size), between = lookups.waiting(), (gateway.cpu * 1e6, server_cpu(pid))
        if asked.kill:
            for number in ("third", "fourth"):
                while (now := lookups.waiting()[0]) > left * 0.6:
                    time.sleep(0.01)
                left = now
                gateway = again(gateway, journaled, home / number, asked.setting)
        since = time.perf_counter()
        while lookups.waiting()[0]:
            time.sleep(0.05)
        lag = time.perf_counter() - began - accepted
        spent = [now - then for now, then in zip((gateway.cpu * 1e6, server_cpu(pid)), between, strict=True)]
        lookups.close()
        gateway.stop()
        found, waits = sums(journaled), sorted(burst.waits)
        spans = left * count / expected["rows"]
        at_first = [(now - then) / count for now, then in zip(between, before, strict=True)]
        print(
            f"| burst, until the last 200 | {count / accepted:,.0f} | {waits[len(waits) // 2]:.2f} / {waits[len(waits) * 99 // 100]:.2f} | {at_first[0]:.0f} | {at_first[1]:.0f} |"
        )
        if not asked.kill and spans:
            print(
                f"| from the journal, after it | {spans / (time.perf_counter() - since):,.0f} | | {spent[0] / spans:.0f} | {spent[1] / spans:.0f} |"
            )
        print(
            f"answers {dict(burst.answers)}; longest {waits[-1]:.2f} s; accepted within {accepted:.2f} s, offered within {asked.seconds:.2f} s"
        )
        print(
            f"after the last 200 {left:,} observations of {expected['rows']:,} waited, in {size:,} bytes; lag {lag:.2f} s"
        )
        print("sums are equal" if found == expected else f"SUMS DIFFER: {found} instead of {expected}")
        if found != expected:
            raise SystemExit(1)


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--seconds", type=float, default=0.2)
    asker.add_argument("--factor", type=float, default=40)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--connections", type=int, default=16)
    asker.add_argument("--load", choices=("whole", "split", "stacked"), default="whole")
    asker.add_argument("--kill", action="store_true", help="kill the gateway and start it again, three times")
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument(
        "--setting", action="append", default=[], help="NAME=VALUE, a setting of the gateway by its variable"
    )
    main(parse(asker, {"seconds": 0.02}))
