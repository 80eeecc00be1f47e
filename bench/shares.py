"""Effect of a hostile tenant on an honest one: an honest sender alone, and beside each hostile one.

    python bench/shares.py [--requests 300] [--system] [--only drip ...]

An honest tenant sends ten spans over HTTP (and over gRPC, where the hostile one does), one request after the
other, first alone, then while a process of its own does what a row says, then alone again. `spanpost run`
has a PostgreSQL of its own. The ratio is that of the same protocol in the same run. *Drip*: 64 bodies that
announce 64 MiB and send 22 kB a second. *Silent*: 180 gRPC requests that never send. *Idle*: 2,400
connections without a token, opened again 0.2 s after they are closed, and the honest sender opens one for
each request. *Flood*: 16 connections that send ten spans each as fast as they are answered. *Streams*: 200
event streams of one token, opened again when they end, and the honest sender opens one for each request.
Goal: every answer is 200, and none takes more than twice as long as alone, where the hostile sender leaves a
core to it.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import grpc
from gateway import Running
from options import parse, postgres
from stages import batches

from spanpost.http.tokens import hash_of
from spanpost.store.sql.schema import upgrade

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
POST = "POST /v1/traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer red\r\ncontent-type: application/x-protobuf\r\n"
STREAM = "GET /api/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer red\r\n\r\n"
SETTINGS = f"""
[gateway]
tokens = [{{tenant = "red", sha256 = ["{hash_of("red")}"]}}, {{tenant = "blue", sha256 = ["{hash_of("blue")}"]}}]
[interactions]
tokens = [
    {{name = "red", tenant = "red", roles = ["viewer"], sha256 = ["{hash_of("red")}"]}},
    {{name = "blue", tenant = "blue", roles = ["viewer"], sha256 = ["{hash_of("blue")}"]}},
]
"""


# --- hostile ------------------------------------------------------------------------------------------


async def again(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Repeat something for ever, whatever happens."""
    while True:
        try:
            await act()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await asyncio.sleep(0.2)


async def drip(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{POST}content-length: 67108864\r\n\r\n".encode())
    ended = asyncio.create_task(reader.read(1))
    while not ended.done():
        writer.write(b"x" * 2200)
        await asyncio.wait((ended,), timeout=0.1)
    writer.close()


async def idle(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read(1)
    writer.close()
    await asyncio.sleep(0.2)


async def flood(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in batches("whole", 500, 10, 77):
        writer.write(f"{POST}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()


async def stream(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(STREAM.encode())
    if (await reader.readline()).split()[1] == b"200":
        await reader.read()
    writer.close()
    await asyncio.sleep(0.2)


async def silent(port: int, has_begun: Event) -> None:
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),))
        for _ in range(2)
    ]

    async def never(channel: Any) -> None:
        while True:
            try:
                await channel.stream_unary(METHOD)(metadata=(("authorization", "Bearer red"),))
            except grpc.RpcError:
                await asyncio.sleep(0.2)

    calls = [asyncio.create_task(never(channel)) for channel in channels for _ in range(90)]
    await asyncio.sleep(1.0)
    has_begun.set()
    await asyncio.gather(*calls)


MANY = {"drip": (drip, 64), "idle": (idle, 2400), "flood": (flood, 16), "streams": (stream, 200)}


def hostile(name: str, ports: dict[str, int], has_begun: Event) -> None:
    """Act as the name says until the process is ended."""

    async def all_of_them() -> None:
        if name == "silent":
            await silent(ports["grpc"], has_begun)
            return
        act, count = MANY[name]
        tasks = [asyncio.create_task(again(lambda: act(ports["http"]))) for _ in range(count)]
        await asyncio.sleep(2.0)
        has_begun.set()
        await asyncio.gather(*tasks)

    asyncio.run(all_of_them())


# --- honest -------------------------------------------------------------------------------------


class Honest:
    """Sends bodies one after the other and notes how long each answer took."""

    def __init__(self, ports: dict[str, int], requests: int) -> None:
        self._ports, self._requests = ports, requests
        self._seed = 1000

    def ask(self, way: str) -> tuple[list[float], Counter[str]]:
        """Send all bodies by a protocol; return the sorted seconds, and the answers."""
        self._seed += 1
        kept = http.client.HTTPConnection("127.0.0.1", self._ports["http"], timeout=60)
        channel = grpc.insecure_channel(
            f"127.0.0.1:{self._ports['grpc']}", options=(("grpc.use_local_subchannel_pool", 1),)
        )
        call = channel.unary_unary(METHOD)
        took, answers = list[float](), Counter[str]()
        for body in batches("whole", 10 * self._requests, 10, self._seed):
            began = time.perf_counter()
            try:
                if way == "grpc":
                    call(body, metadata=(("authorization", "Bearer blue"),), timeout=60)
                    answer = "OK"
                else:
                    fresh = http.client.HTTPConnection("127.0.0.1", self._ports["http"], timeout=60)
                    answer = str(self._http(kept if way == "kept" else fresh, way, body))
                    fresh.close()
            except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                answer = type(error).__name__
            took.append(time.perf_counter() - began)
            answers[answer] += 1
            time.sleep(0.005)
        kept.close()
        channel.close()
        return sorted(took), answers

    @staticmethod
    def _http(connection: http.client.HTTPConnection, way: str, body: bytes) -> int:
        headers = {"authorization": "Bearer blue", "content-type": "application/x-protobuf"}
        if way == "stream":
            connection.request("GET", "/api/events", headers=headers)
            return connection.getresponse().status
        connection.request("POST", "/v1/traces", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status


ROWS = {"drip": "kept", "silent": "grpc", "idle": "fresh", "flood": "kept", "streams": "stream"}


def main(asked: argparse.Namespace) -> None:
    with postgres(asked) as dsn:
        asyncio.run(upgrade(dsn))
        with tempfile.TemporaryDirectory() as home:
            toml = Path(home) / "settings.toml"
            toml.write_text(SETTINGS)
            port = asked.grpc_port
            gateway = Running(
                dsn, Path(home) / "0", 0, [f"SPANPOST_CONFIG={toml}", f"SPANPOST_GATEWAY__GRPC_PORT={port}"]
            )
            ports = {"http": gateway.port, "grpc": port}
            honest = Honest(ports, asked.requests)
            honest.ask("kept")
            print(
                "| beside | way | alone, median / 99 % ms | beside it | ratio | answers | health | gateway's "
                "core, % | MiB |"
            )
            print("|---|---|---|---|---|---|---|---|---|")
            try:
                for name in asked.only or ROWS:
                    measure(name, honest, ports, gateway)
            finally:
                gateway.stop()


def measure(name: str, honest: Honest, ports: dict[str, int], gateway: Running) -> None:
    """Print a row."""
    way = ROWS[name]
    before, _ = honest.ask(way)
    has_begun = multiprocessing.Event()
    process = multiprocessing.Process(target=hostile, args=(name, ports, has_begun), daemon=True)
    process.start()
    if not has_begun.wait(60):
        raise SystemExit(f"the hostile sender ({name}) did not begin within 60 seconds")
    began, cpu = time.perf_counter(), gateway.cpu
    beside, answers = honest.ask(way)
    used = (gateway.cpu - cpu) / (time.perf_counter() - began)
    health = Counter[str]()
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", ports["http"], timeout=10)
        try:
            connection.request("GET", "/health/live")
            health[str(connection.getresponse().status)] += 1
        except (OSError, http.client.HTTPException) as error:
            health[type(error).__name__] += 1
        connection.close()
    process.kill()
    process.join(60)
    after, _ = honest.ask(way)
    alone = sorted(before + after)

    def at(took: list[float], share: float) -> float:
        return took[min(int(len(took) * share), len(took) - 1)] * 1000

    print(
        f"| {name} | {way} | {at(alone, 0.5):.1f} / {at(alone, 0.99):.1f} | {at(beside, 0.5):.1f} / "
        f"{at(beside, 0.99):.1f} "
        f"| {at(beside, 0.5) / at(alone, 0.5):.2f} / {at(beside, 0.99) / at(alone, 0.99):.2f} | {dict(answers)} "
        f"| {dict(health)} "
        f"| {100 * used:.0f} | {gateway.memory('VmHWM'):.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--requests", type=int, default=300)
    asker.add_argument("--grpc-port", type=int, default=43_174)
    asker.add_argument("--only", action="append", choices=list(ROWS))
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    main(parse(asker, {"requests": 10, "only": ["drip"]}))
