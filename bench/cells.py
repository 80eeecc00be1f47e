"""Cost of the routing gateway: the same bodies sent to a gateway directly, and through a router in front of it.

    python bench/cells.py [--requests 400] [--rounds 3] [--system]

One gateway, one PostgreSQL, one router, on one machine. The ways take turns, so that both see the same machine.
*Router* is the processor time of the router's process for a request, and for a span of it. *Ratio* is the answer's
time through the router over the direct one. Bodies of one span show the cost of a request, bodies of 512 spans
that of a span. An empty body
needs no database.

Two cells on one machine would share its cores: their throughput says nothing about two machines, and is not
measured. `cells_simulation.py` has the arithmetic.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import tempfile
import time
from pathlib import Path

from gateway import DIRECT, Running
from options import parse, postgres
from stages import batches
from yardstick import yard

from spanpost.http.tokens import hash_of
from spanpost.store.sql.schema import upgrade

TENANT, ROUTER = "spt_bench", "spt_router_of_the_benchmark_0123456789"
#: Spans of a body.
SIZES = (0, 1, 20, 512)


def sending(port: int, bodies: list[bytes]) -> list[float]:
    """Send bodies one after the other over one connection; return how long each answer took, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {TENANT}"}
    took = []
    for body in bodies:
        began = time.perf_counter()
        connection.request("POST", "/v1/traces", body, headers)
        response = connection.getresponse()
        response.read()
        took.append(time.perf_counter() - began)
        if response.status != 200:
            raise SystemExit(f"the answer is {response.status}")
    connection.close()
    return took


def bodies_of(size: int, count: int, seed: int) -> list[bytes]:
    """Return bodies of so many spans."""
    return batches("whole", size * count, size, seed)[:count] if size else [b""] * count


def measure(direct: Running, router: Running, size: int, asked: argparse.Namespace) -> None:
    """Print the row of one size."""
    took: dict[str, list[float]] = {"direct": [], "routed": []}
    cpu = {"gateway": 0.0, "router": 0.0}
    length = 0
    for turn in range(asked.rounds):
        for way, port in (("direct", direct.port), ("routed", router.port)):
            bodies = bodies_of(size, asked.requests, 10_000 * size + 100 * turn + (way == "routed"))
            length = sum(map(len, bodies)) // len(bodies)
            before = direct.cpu, router.cpu
            took[way] += sending(port, bodies)
            if way == "routed":
                cpu["gateway"] += direct.cpu - before[0]
                cpu["router"] += router.cpu - before[1]
    count = asked.requests * asked.rounds
    alone, beside = statistics.median(took["direct"]) * 1e3, statistics.median(took["routed"]) * 1e3
    per_request = cpu["router"] / count * 1e6
    share = cpu["router"] / max(cpu["gateway"], 1e-9)
    per_span = f"{per_request / size:.1f}" if size else ""
    print(
        f"| {size} | {length:,} | {per_request:.0f} | {per_span} | {cpu['gateway'] / count * 1e6:.0f} | {share:.2f} "
        f"| {alone:.1f} | {beside:.1f} | {beside / alone:.2f} |",
        flush=True,
    )


def main(asked: argparse.Namespace) -> None:
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        (Path(home) / "cell.toml").write_text(
            f"""
[gateway]
router_tokens = ["{hash_of(ROUTER)}"]
[[gateway.tokens]]
tenant = "bench"
sha256 = ["{hash_of(TENANT)}"]
"""
        )
        cell = Running(dsn, Path(home) / "0", 0, [DIRECT, f"SPANPOST_CONFIG={home}/cell.toml"])
        (Path(home) / "router.toml").write_text(
            f"""
[cells]
default = "a"
[cells.named.a]
urls = ["http://127.0.0.1:{cell.port}"]
token = "{ROUTER}"
[[gateway.tokens]]
tenant = "bench"
sha256 = ["{hash_of(TENANT)}"]
"""
        )
        router = Running(dsn, Path(home) / "1", 0, [f"SPANPOST_CONFIG={home}/router.toml"])
        try:
            for one in (cell, router):
                sending(one.port, bodies_of(20, 20, 7))
            print(f"{asked.requests} requests a round, {asked.rounds} rounds; one yard {yard():.1f} µs")
            print(
                "| spans | bytes | router, µs a request | a span | gateway, µs a request | router / gateway "
                "| direct, median ms | routed | ratio |"
            )
            print("|---|---|---|---|---|---|---|---|---|")
            for size in SIZES:
                measure(cell, router, size, asked)
        finally:
            router.stop()
            cell.stop()


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--requests", type=int, default=200)
    asker.add_argument("--rounds", type=int, default=3)
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    main(parse(asker, {"requests": 5, "rounds": 1}))
