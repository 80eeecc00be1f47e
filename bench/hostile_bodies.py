"""Cost of hostile bodies: processor time, memory and stalls of the loop, for each shape of
tests/hostile_bodies.py.

    python bench/hostile_bodies.py [--size 1048576] [--only TEXT] [--packed] [--json]
    python bench/hostile_bodies.py --gateway [--seconds 5] [--system]

Without `--gateway` a receiver in a process of its own takes each shape at a quarter of the size and at the
size, and records nothing. *CPU* and *memory* are per MiB of the body as it is inflated; *growth* is the
processor time of the larger body per MiB over that of the smaller one; *stood* is the longest stall of the
loop in processor time, which other processes on the machine do not affect. `--packed` encodes one shape in
every way.

With `--gateway` a real `spanpost run` and PostgreSQL take an honest tenant's requests of ten spans, one
every 20 ms, alone and then beside two connections that send one hostile body over and over.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import http.client
import logging
import multiprocessing
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway import Running
from options import parse, postgres
from table import tell
from tests.hostile_bodies import PACKED, SHAPES, Shape, field, pair, text

from spanpost.http.shares import Sender
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.receiver import Busy, Receiver
from spanpost.store.sql.schema import upgrade

_MIB = 1024 * 1024
#: A body that fits into the default limit, as large as those that were reported.
_WHOLE = 40_000_000
#: The shapes by which a gateway stood for half a minute, with the size of each body.
FOUND = {
    "empty resources": _WHOLE,
    "empty scopes": _WHOLE,
    "empty values in one attribute": _WHOLE,
    "empty attributes of a resource": _WHOLE,
    "different attributes of a span": 16_000_000,
    "empty spans": 2_000_000,
}
WORST = {
    "spans of twelve bytes": 1_000_000,
    "spans with ids and times": 1_000_000,
    "128 empty events in each span": 4_000_000,
    "no span is a message": 4_000_000,
    "new attribute names in each span": 4_000_000,
    "one long text that is not ASCII": _WHOLE,
    "many long texts": _WHOLE,
    "JSON: buckets": _WHOLE,
    "JSON: integers as text": _WHOLE,
    "JSON: text full of escaped quotes": _WHOLE,
    "JSON: a large resource for tiny scopes": 4_000_000,
}


def memory(what: str) -> float:
    """Return a figure of this process's memory (VmRSS, VmHWM), MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


async def _forget(batch: Sequence[Observation], /, *, is_whole: bool = False) -> Recorded:
    await asyncio.sleep(0)
    return Recorded()


async def _taken(shape: Shape, raw: bytes, encoding: str) -> tuple[float, float, str]:
    """Take one body; return the processor time, the longest stall of the loop, and the result."""
    receiver = Receiver(_forget)
    receiver.start()
    late = 0.0

    async def beat() -> None:
        nonlocal late
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            late = max(late, time.thread_time() - began)

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    late, began, answer = 0.0, time.process_time(), "taken"
    seat = receiver.admit(Sender("t", ""), len(raw))
    try:
        body = await receiver.admission.inflate(seat, raw, encoding)
        await receiver.take(seat, shape.signal, body, is_json=shape.is_json)
    except (Busy, BodyTooLarge, Undecodable) as error:
        answer = type(error).__name__
    spent = time.process_time() - began
    await asyncio.sleep(0.002)
    heart.cancel()
    await receiver.close(1)
    return spent, late, answer


def _measure(name: str, size: int, packed: str, results: Any) -> None:
    shape, (encoding, pack) = SHAPES[name], PACKED[packed]
    gc.freeze()
    logging.disable()
    gc.set_threshold(100_000, 10, 10)  # as a gateway does
    asyncio.run(_taken(shape, shape.make(1000), ""))  # warm up: load and compile once
    body = shape.make(size)
    raw = pack(body)
    size = len(body) if len(raw) < len(body) else len(raw)
    del body
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    spent, late, answer = asyncio.run(_taken(shape, raw, encoding))
    results.put((spent, late, answer, memory("VmHWM") - before, size / _MIB))


def measured(name: str, size: int, packed: str = "as it is") -> tuple[float, float, str, float, float]:
    """Measure a shape in a process of its own."""
    results: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=_measure, args=(name, size, packed, results), daemon=True)
    process.start()
    until = time.monotonic() + 600
    while True:
        try:
            answer = results.get(timeout=1)
            break
        except queue.Empty:
            if not process.is_alive() or time.monotonic() > until:
                raise SystemExit(f"{name}: the process that measures it ended, or took ten minutes") from None
    process.join(60)
    return answer  # type: ignore[no-any-return]


def shapes(options: argparse.Namespace) -> None:
    """Print the table of all shapes, the worst by delay first."""
    kinds = list(PACKED) if options.packed else ["as it is"]
    rows = []
    for name in SHAPES:
        if options.only not in name:
            continue
        for packed in kinds:
            small, _, _, _, few = measured(name, options.size // 4, packed)
            spent, late, answer, more, mib = measured(name, options.size, packed)
            label = name if packed == "as it is" else f"{name}, {packed}"
            growth = (spent / mib) / max(small / few, 1e-6)
            rows.append(
                {
                    "name": f"{label}: {answer}",
                    "cpu": 1e3 * spent / mib,
                    "memory": more / mib,
                    "late": 1e3 * late,
                    "growth": growth,
                }
            )
    rows.sort(key=lambda row: -float(str(row["late"])))
    headings = {
        "name": "shape",
        "cpu": "CPU, ms/MiB",
        "memory": "memory, MiB/MiB",
        "late": "stood, ms",
        "growth": "growth",
    }
    tell(rows, headings, as_json=options.json, form=".1f")


# --- beside an honest tenant ----------------------------------------------------------------------------------------


class Attack:
    """Connections that send one body over and over."""

    def __init__(self, port: int, path: str, body: bytes, headers: dict[str, str], connections: int = 2) -> None:
        self.answers = Counter[int]()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(port, path, body, headers), daemon=True)
            for _ in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, port: int, path: str, body: bytes, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not self._is_over.is_set():
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
            except (OSError, http.client.HTTPException):
                self.answers[0] += 1
                connection.close()
        connection.close()

    def stop(self) -> None:
        """Let the requests under way end, and send no more."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def honest(port: int, seconds: float, number: int) -> list[float]:
    """Send ten spans every 20 ms; return how long each request took, sorted, in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    waits = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        body = _ten(number + len(waits))
        began = time.perf_counter()
        connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
        response = connection.getresponse()
        response.read()
        waits.append(1e3 * (time.perf_counter() - began))
        time.sleep(max(began + 0.02 - time.perf_counter(), 0))
    connection.close()
    return sorted(waits)


def _ten(number: int) -> bytes:
    at = (1_790_000_000 * 10**9).to_bytes(8, "little")
    spans = []
    for place in range(10):
        name = b"invoke_agent a" if place == 0 else b"chat"
        ids = field(1, number.to_bytes(16, "big")) + field(2, (number * 10 + place + 1).to_bytes(8, "big"))
        parent = field(4, (number * 10 + 1).to_bytes(8, "big")) if place else b""
        operation = field(9, pair(b"gen_ai.operation.name", text(name.split()[0])))
        spans.append(field(2, ids + parent + field(5, name) + b"\x39" + at + b"\x41" + at + operation))
    return field(1, field(2, b"".join(spans)))


def beside(options: argparse.Namespace) -> None:
    """Print what an honest tenant waits beside each hostile body."""
    rows = []
    with postgres(options) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        for place, (name, size) in enumerate({**FOUND, **WORST}.items()):
            if options.only not in name:
                continue
            gateway = Running(dsn, Path(home) / str(place), 0, [])
            try:
                shape = SHAPES[name]
                headers = {
                    "content-type": "application/json" if shape.is_json else "application/x-protobuf",
                    "content-encoding": "gzip",
                }
                body = gzip.compress(shape.make(size))
                first = (place + 1) * 10**9
                honest(gateway.port, 1, first)
                alone = honest(gateway.port, options.seconds, first + 10**6)
                was = gateway.memory("VmRSS")
                attack = Attack(gateway.port, f"/v1/{shape.signal}", body, headers)
                while_under = honest(gateway.port, options.seconds, first + 2 * 10**6)
                attack.stop()
                rows.append(
                    {
                        "name": f"{name} ({len(body) / 1024:.0f} KiB): "
                        + ", ".join(f"{n} × {s}" for s, n in attack.answers.items()),
                        **_percentiles("alone", alone),
                        **_percentiles("beside", while_under),
                        "ratio": _at(while_under, 50) / _at(alone, 50),
                        "late": _at(while_under, 99) / _at(alone, 99),
                        "memory": gateway.memory("VmHWM") - was,
                    }
                )
                if not options.json:
                    print(rows[-1], file=sys.stderr, flush=True)
            finally:
                gateway.stop()
    headings = {
        "name": "hostile body: answers",
        "alone50": "alone, p50, ms",
        "alone99": "p99",
        "beside50": "beside it, p50",
        "beside99": "p99",
        "ratio": "p50, ratio",
        "late": "p99, ratio",
        "memory": "memory, MiB more",
    }
    tell(rows, headings, as_json=options.json, form=".1f")


def _at(waits: list[float], percent: int) -> float:
    return quantiles(waits, n=100)[percent - 1] if len(waits) > 1 else (waits or [0.0])[0]


def _percentiles(what: str, waits: list[float]) -> dict[str, float]:
    return {f"{what}{percent}": _at(waits, percent) for percent in (50, 99)}


def main() -> None:
    """Measure by the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=_MIB)
    parser.add_argument("--only", default="", help="shapes with this in their name")
    parser.add_argument("--packed", action="store_true", help="each shape in every encoding")
    parser.add_argument("--gateway", action="store_true", help="beside an honest tenant, through a gateway")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    parser.add_argument("--json", action="store_true")
    options = parse(parser, {"size": 4096, "only": "empty resources", "seconds": 0.5})
    way: Callable[[argparse.Namespace], None] = beside if options.gateway else shapes
    way(options)


if __name__ == "__main__":
    main()
