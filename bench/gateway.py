"""Throughput of the gateway over HTTP: `spanpost run` with a PostgreSQL of its own, until every span is committed.

    python bench/gateway.py [--spans 20000] [--batch 512] [--connections 4] [--system] [--gzip]
                            [--load whole|split|stacked|strangers] [--processes 2 [--dealt [--by-trace]]]
                            [--setting SPANPOST_GATEWAY__WRITERS=2] [--profile out.svg]

Bodies are encoded beforehand and sent by threads of this process; fsync and synchronous_commit are on.
*Gateway* and *server* are the processor time of the gateway's process and of PostgreSQL, microseconds a span.
The floor is that of `stages.py` in the same run: the same bodies parsed, walked, copied into one table and
committed, one at a time, without HTTP. Several processes share one port, and the kernel distributes
connections by their hash, often three of four to one process. With `--dealt` each process has a port of its
own and an equal number of connections, like behind a load balancer; with `--by-trace` each also has all parts
of its traces (collector-config/scaled.yaml). `--profile` runs py-spy (``pip install py-spy``) during the first load.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from pathlib import Path

import asyncpg
from loads import PARTS
from options import parse, postgres
from stages import batches, floor, server_cpu
from yardstick import yard

from spanpost.store.sql.schema import upgrade

#: A request is answered when its rows are there, so that the answers say how fast rows are made.
DIRECT = "SPANPOST_GATEWAY__JOURNAL_BYTES=0"
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Running:
    """`spanpost run` as a process of its own."""

    def __init__(self, dsn: str, home: Path, port: int, settings: list[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
        ours = {
            "DATABASE_URL": dsn,
            "SPANPOST_GATEWAY__HTTP_PORT": str(port),
            "SPANPOST_GATEWAY__SHARE_PORTS": "true",
            "SPANPOST_GATEWAY__GRPC_PORT": "-1",
            "SPANPOST_METRICS__PORT": "0",
            **dict(setting.split("=", 1) for setting in settings),
        }
        home.mkdir()
        self._log = (home / "log").open("wb+")
        command = [sys.executable, "-c", "from spanpost.cli import main; main()", "run"]
        self.process = subprocess.Popen(
            command, env={**kept, **ours}, cwd=home, stdout=subprocess.DEVNULL, stderr=self._log
        )
        self.port = self._port(home / "log")

    def _port(self, log: Path) -> int:
        for _ in range(600):
            said = log.read_text()
            if self.process.poll() is not None:
                raise SystemExit(f"the gateway ended: {said}")
            _, _, address = said.partition("OTLP/HTTP on ")  # the metrics have a port of their own
            for word in address.replace('"', " ").replace(",", " ").split()[:1]:
                if word.startswith("http://127.0.0.1:"):
                    port = int(word.removeprefix("http://127.0.0.1:").split("/")[0])
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
                    except OSError:
                        continue
                    return port
            time.sleep(0.05)
        raise SystemExit(f"the gateway does not say where it listens: {log.read_text()}")

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, of its workers too."""
        pid, ticks = self.process.pid, 0
        for each in (str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            words = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks * _TICK

    def memory(self, what: str) -> float:
        """Return a figure of the process's memory (VmRSS, VmHWM), MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def send(port: int, bodies: deque[bytes], answers: Counter[int], waits: list[float], is_gzip: bool) -> None:
    """Offer bodies over one connection until none is left; offer a rejected one again after its Retry-After."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/x-protobuf"} | ({"content-encoding": "gzip"} if is_gzip else {})
    while bodies:
        try:
            body = bodies.popleft()
        except IndexError:
            break
        while True:
            began = time.perf_counter()
            connection.request("POST", "/v1/traces", body, headers)
            response = connection.getresponse()
            response.read()
            waits.append(time.perf_counter() - began)
            answers[response.status] += 1
            if response.status == 200:
                break
            time.sleep(float(response.headers.get("retry-after") or 1))
    connection.close()


def offer(
    ports: list[int], bodies: list[bytes], connections: int, is_gzip: bool, *, by_trace: bool = False
) -> tuple[float, Counter[int], list[float]]:
    """Send all bodies; return the seconds, the answers by status, and how long each took."""
    answers, waits = Counter[int](), list[float]()
    dealt = [ports[i % len(ports)] for i in range(connections)]
    everybody = deque(bodies)
    waiting = dict.fromkeys(ports, everybody)
    if by_trace:
        waiting = {port: deque() for port in ports}
        for i, body in enumerate(bodies):
            waiting[ports[i // PARTS % len(ports)]].append(body)
    senders = [
        threading.Thread(target=send, args=(port, waiting[port], answers, waits, is_gzip), daemon=True)
        for port in dealt
    ]
    began = time.perf_counter()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return time.perf_counter() - began, answers, sorted(waits)


async def recorded(dsn: str) -> tuple[int, int]:
    """Return the audit rows of ended spans, and the postmaster's process id."""
    connection = await asyncpg.connect(dsn)
    count = await connection.fetchval("SELECT count(*) FROM agent_events WHERE part = 0")
    postmaster = await connection.fetchval("SELECT pg_read_file('postmaster.pid')")
    await connection.close()
    return count, int(postmaster.split()[0])


def measure(gateways: list[Running], dsn: str, load: str, asked: argparse.Namespace, seed: int) -> None:
    """Load the gateway once and print a row."""
    base = asked.spans / asyncio.run(floor(dsn, batches(load, asked.spans, asked.batch, seed + 500)))
    bodies = batches(load, asked.spans, asked.batch, seed)
    if asked.gzip:
        bodies = [gzip.compress(body, 6) for body in bodies]
    before, pid = asyncio.run(recorded(dsn))
    gateway_before, server_before = sum(one.cpu for one in gateways), server_cpu(pid)
    ports = [one.port for one in gateways]
    took, answers, waits = offer(ports, bodies, asked.connections, asked.gzip, by_trace=asked.by_trace)
    cpu, server = sum(one.cpu for one in gateways) - gateway_before, server_cpu(pid) - server_before
    kept = asyncio.run(recorded(dsn))[0] - before
    speed = asked.spans / took
    print(
        f"| {load} | {speed:,.0f} | {base:,.0f} | {speed / base:.2f} | {cpu / asked.spans * 1e6:.0f} | "
        f"{server / asked.spans:.0f} "
        f"| {waits[len(waits) // 2] * 1000:.0f} / {waits[len(waits) * 99 // 100] * 1000:.0f} "
        f"| {max(one.memory('VmHWM') for one in gateways):.0f} | {kept:,} | {dict(answers)} |",
        flush=True,
    )


def main(asked: argparse.Namespace) -> None:
    with postgres(asked) as dsn:
        asyncio.run(upgrade(dsn))
        with tempfile.TemporaryDirectory() as home:
            settings = [DIRECT, *asked.setting]
            gateways = [Running(dsn, Path(home) / "0", 0, settings)]
            try:
                for number in range(1, asked.processes):
                    port = 0 if asked.dealt else gateways[0].port
                    gateways.append(Running(dsn, Path(home) / str(number), port, settings))
                offer(
                    [one.port for one in gateways],
                    batches("whole", asked.warm_up, asked.batch, 999),
                    asked.connections,
                    False,
                )
                print(
                    f"{asked.spans:,} spans in bodies of {asked.batch}, {asked.connections} connections; one "
                    f"yard {yard():.1f} µs"
                )
                print(
                    "| load | spans/s | floor | share | gateway, µs a span | server | answer, median / 99 % ms "
                    "| MiB | rows | answers |"
                )
                print("|---|---|---|---|---|---|---|---|---|---|")
                spy = None
                if asked.profile:
                    spy = subprocess.Popen(
                        [
                            "py-spy",
                            "record",
                            "-p",
                            str(gateways[0].process.pid),
                            "-o",
                            asked.profile,
                            "-r",
                            "200",
                            "-f",
                            "raw",
                        ]
                    )
                for turn in range(asked.rounds):
                    for number, load in enumerate(asked.load):
                        measure(gateways, dsn, load, asked, 1000 * (number + 1) + 10 * turn)
                        if spy is not None:
                            spy.send_signal(2)
                            spy.wait(30)
                            spy = None
                print(json.dumps({"yard": round(yard(), 1)}))
            finally:
                for one in gateways:
                    one.stop()


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=20_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--connections", type=int, default=4)
    asker.add_argument("--processes", type=int, default=1, help="gateways that share the port")
    asker.add_argument("--dealt", action="store_true", help="a port for each of them, and connections in turn")
    asker.add_argument("--by-trace", action="store_true", help="all parts of a trace to one gateway")
    asker.add_argument("--rounds", type=int, default=1)
    asker.add_argument("--load", action="append", choices=("whole", "split", "stacked", "strangers"))
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--gzip", action="store_true")
    asker.add_argument(
        "--setting", action="append", default=[], help="NAME=VALUE, a setting of the gateway by its variable"
    )
    asker.add_argument("--profile", help="a file for py-spy's collapsed stacks")
    asker.add_argument("--warm-up", type=int, default=4096, help="spans before the first load")
    asked = parse(asker, {"spans": 400, "batch": 50, "warm_up": 100})
    asked.load = asked.load or ["whole", "split", "stacked"]
    main(asked)
