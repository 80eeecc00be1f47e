"""Failover under load: a primary and a standby, a gateway that knows both, senders; the primary is killed.

    python -m tests.acceptance.postgres.failover [SECONDS] [ROUNDS]

prints the figures of docs/how-to/postgresql.md.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.gateway_process import request
from tests.acceptance.gateways import Gateway, run_gateway
from tests.acceptance.postgres.servers import Server

#: Spans of one request.
SPANS = 20
_traces = itertools.count(1)


class Pair(NamedTuple):
    """A primary and its standby, and the URL that names both."""

    primary: Server
    standby: Server

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/postgres"


@contextmanager
def pair(programs: Path, home: Path, *, is_synchronous: bool) -> Iterator[Pair]:
    """Run a primary and a standby that streams from it."""
    primary = Server(programs, home, "primary", wal_level="replica").made().start()
    standby = Server(programs, home, "standby").copied(primary).start()
    if is_synchronous:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.sql("SELECT pg_reload_conf()")
    try:
        yield Pair(primary, standby)
    finally:
        standby.stop()
        primary.stop()


def body(trace: int) -> bytes:
    """Return one trace as OTLP/JSON: an agent and its model calls."""
    trace_id = f"{trace:032x}"
    spans = [
        {
            "traceId": trace_id,
            "spanId": f"{number + 1:016x}",
            **({"parentSpanId": f"{1:016x}"} if number else {}),
            "name": "chat" if number else "invoke_agent a",
            "kind": 1,
            "startTimeUnixNano": str(time.time_ns() - 10**9),
            "endTimeUnixNano": str(time.time_ns()),
            "attributes": [
                {
                    "key": "gen_ai.operation.name",
                    "value": {"stringValue": "chat" if number else "invoke_agent"},
                }
            ],
        }
        for number in range(SPANS)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


class Load:
    """Senders that send a trace until it is acknowledged, and then the next one."""

    def __init__(self, gateway: Gateway, senders: int = 3) -> None:
        self._url = f"{gateway.url}/v1/traces"
        self._is_over = threading.Event()
        #: When each trace was acknowledged.
        self.acknowledged: dict[int, float] = {}
        self.refused: list[float] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._is_over.is_set():
            trace = next(_traces)
            sent = body(trace)
            while not self._is_over.is_set():
                status = 0
                try:
                    status, answer = request(self._url, sent, 10, **{"content-type": "application/json"})
                    assert b"rejected" not in answer.lower(), answer
                except OSError:
                    pass
                if status == 200:
                    self.acknowledged[trace] = time.monotonic()
                    break
                self.refused.append(time.monotonic())
                self._is_over.wait(0.05)

    def since(self, moment: float) -> float | None:
        """Return when the first trace was acknowledged after a moment."""
        return min((at for at in self.acknowledged.values() if at > moment), default=None)


class Figures(NamedTuple):
    """What a failover cost."""

    acknowledged: int
    #: Acknowledged spans that the new primary has not.
    missing: int
    #: Spans that it has more than once.
    twice: int
    #: Seconds before the kill in which all missing spans were acknowledged.
    window: float
    #: Seconds from the end of the promotion, and from the kill, to the first 200.
    after_promotion: float
    after_kill: float


def missing(server: Server, load: Load) -> tuple[set[int], int]:
    """Return the acknowledged traces that are not whole on a server, and how many spans are there twice."""
    rows = server.sql(
        "SELECT json_object_agg(trace_id, n) FROM (SELECT encode(trace_id, 'hex') AS trace_id, count(*) AS n FROM "
        "agent_events WHERE part = 0 GROUP BY 1) AS found"
    )
    found = {int(trace, 16): count for trace, count in json.loads(rows or "{}").items()}
    twice = sum(max(0, count - SPANS) for count in found.values())
    return {trace for trace in load.acknowledged if found.get(trace, 0) < SPANS}, twice


def fail_over(servers: Pair, load: Load, *, until_promoted: float = 0.5) -> tuple[float, float]:
    """Kill the primary and promote the standby; return when it was killed, and when it was promoted."""
    servers.primary.kill()
    killed = time.monotonic()
    time.sleep(until_promoted)  # what notices a dead primary takes a while
    servers.standby.sql("SELECT pg_promote()")
    return killed, time.monotonic()


def measured(
    programs: Path, home: Path, gateway_home: Path, seconds: float, *, is_synchronous: bool, away: float = 0.0
) -> Figures:
    """Fail over once under load; return the figures. The standby is cut off for the last `away` seconds."""
    from tests.eventually import eventually

    with pair(programs, home, is_synchronous=is_synchronous) as servers:
        prepare(servers)
        with run_gateway(servers.url, gateway_home) as gateway, Load(gateway) as load:
            eventually(lambda: len(load.acknowledged) > 5)
            time.sleep(seconds)
            if away:
                servers.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
                servers.standby.sql("SELECT pg_reload_conf()")
                eventually(lambda: not servers.standby.sql("SELECT count(*) FROM pg_stat_wal_receiver"))
                time.sleep(away)
            killed, promoted = fail_over(servers, load)
            first = eventually(lambda: load.since(killed + 0.2))
            assert first is not None
            count = len(load.acknowledged)
            eventually(lambda: len(load.acknowledged) > count + 20)
        lost, twice = missing(servers.standby, load)
        window = max((killed - load.acknowledged[trace] for trace in lost), default=0.0)
        return Figures(
            len(load.acknowledged) * SPANS, len(lost) * SPANS, twice, window, first - promoted, first - killed
        )


def prepare(servers: Pair) -> None:
    """Make the schema, through the URL that names both."""
    import asyncio

    from spanpost.store.sql import schema

    asyncio.run(schema.upgrade(servers.url))


def main(seconds: float = 5, rounds: int = 3) -> None:
    """Print the figures of several failovers with synchronous and asynchronous replication."""
    from tests.conftest import find

    for name, is_synchronous, away in (
        ("synchronous", True, 0.0),
        ("asynchronous", False, 0.0),
        ("asynchronous, cut off for the last second", False, 1.0),
    ):
        found = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as gateway_home:
                home = Path(directory)
                home.chmod(0o755)
                found.append(
                    measured(
                        Path(find("postgres")),
                        home,
                        Path(gateway_home),
                        seconds,
                        is_synchronous=is_synchronous,
                        away=away,
                    )
                )
        waits = [f.after_promotion for f in found]
        print(
            f"| {name} | {sum(f.acknowledged for f in found)} | {sum(f.missing for f in found)} | "
            f"{max(f.window for f in found):.1f} s | {statistics.median(waits):.2f} s (at most {max(waits):.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3]))
