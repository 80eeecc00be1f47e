"""Cost of a span in the gateway before it is written, dialect by dialect, beside spans that are not of an
agent.

    python bench/read.py [captures directory]

Microseconds of processor time per span (a log record outside spans counts as one), the best of several
rounds: *read* what it means, *place* (name it and what it touches) and *fold*. Events count to their spans.
The captures are those under ``tests/captures`` unless a directory is given (any tree of
``<dialect>/<run>/*.pb``); each run is folded body by body, of strangers a body of 512 spans in 32 traces.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

import loads
from options import parse
from yardstick import yard

from spanpost.model.observations import Observation, Part
from spanpost.readers import read
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.recordings import read_recording
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.work import Key
from spanpost.text.repair import mend

HTTP = {
    "http.request.method": "GET",
    "url.full": "https://example.org/v1/items?page=2",
    "server.address": "example.org",
    "server.port": 443,
    "http.response.status_code": 200,
    "network.protocol.version": "1.1",
    "user_agent.original": "python-requests/2.32",
    "thread.id": 140123,
    "thread.name": "MainThread",
    "code.function": "fetch",
}
DB = {
    "db.system.name": "postgresql",
    "db.query.text": "SELECT * FROM items WHERE id = $1",
    "db.namespace": "shop",
    "server.address": "db.internal",
    "server.port": 5432,
    "db.operation.name": "SELECT",
}


NOW = datetime(2026, 11, 21, tzinfo=UTC)
Body = list[Observation]


class Records(dict[Key, Any]):
    """A `Work` whose records are all loaded."""

    def get(self, key: Key, kind: Any = None) -> Any:
        return dict.get(self, key)

    def want(self, keys: Iterable[Key]) -> None:
        """Do nothing: all records are loaded."""

    put = dict.__setitem__

    def drop(self, key: Key) -> None:
        self.pop(key, None)


def strangers(name: str, attributes: dict[str, Any], scope: str) -> list[list[Body]]:
    """Return a run of one body, as the gateway decodes it: equal spans, sixteen in each trace."""
    spans = [
        loads.span(random.Random(i), (1 + i // 16).to_bytes(16, "big"), (1 + i).to_bytes(8, "big"),
                   (i // 16 * 16 + 1).to_bytes(8, "big") if i % 16 else b"", name, 10**18 + i, attributes)
        for i in range(512)
    ]  # fmt: skip
    return [[decode_traces(loads.body(spans, scope)).observations]]


def best(work: Callable[[], object], count: int, tries: int) -> float:
    """Return the best of several rounds, in microseconds per span."""
    rounds, found = max(1, 1500 // count), float("inf")
    for _ in range(tries):
        begin = process_time()
        for _ in range(rounds):
            work()
        found = min(found, process_time() - begin)
    return found / (rounds * count) * 1e6


def costs(runs: list[list[Body]], tries: int) -> tuple[float, float, float]:
    """Return what reading, placing and folding cost per span."""
    count = sum(spans(body) for bodies in runs for body in bodies)
    placed = [[batches.prepare(body) for body in bodies] for bodies in runs]

    def fold() -> None:
        for bodies in placed:
            records = Records()
            for body in bodies:
                batches.fold(records, body, FoldRules(), NOW)

    reading = best(lambda: [read(o) for bodies in runs for body in bodies for o in body], count, tries)
    preparing = best(lambda: [batches.prepare(body) for bodies in runs for body in bodies], count, tries)
    return reading, max(preparing - reading, 0.0), best(fold, count, tries)


def bodies(run: Path) -> list[Path]:
    return sorted(run.glob("*.pb")) or sorted(run.glob("*.pb.gz"))


def spans(body: Body) -> int:
    return sum([o.part in (Part.ENDED, Part.LOG) for o in body])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", type=Path, nargs="?", default=Path(__file__).parent.parent / "tests" / "captures")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="dialects with this in their name")
    asked = parse(parser, {"rounds": 1, "only": "openai-v2"})
    print(f"one yard {yard():.1f} µs")
    print("| spans of | spans | attributes | read, µs | place, µs | fold, µs | all, yards |")
    print("|---|---|---|---|---|---|---|")

    def row(title: str, runs: list[list[Body]]) -> None:
        count = sum(spans(body) for bodies in runs for body in bodies)
        if not count:
            return
        mean = sum(len(o.attributes) or o.unread for bodies in runs for body in bodies for o in body) / count
        found = costs(runs, asked.rounds)
        print(
            f"| {title} | {count} | {mean:.0f} | {' | '.join(f'{one:.1f}' for one in found)} | "
            f"{sum(found) / yard():.1f} |",
            flush=True,
        )

    for title, *alike in (
        ("(HTTP, no agent's)", "GET", HTTP, "opentelemetry.instrumentation.requests"),
        ("(database, no agent's)", "SELECT shop", DB, "opentelemetry.instrumentation.asyncpg"),
        ("(user code, no agent's)", "work", {}, "app"),
    ):
        row(title, strangers(*alike))
    for dialect in sorted(p for p in asked.captures.iterdir() if p.is_dir() and asked.only in p.name):
        row(
            dialect.name,
            [
                [d.observations for path in bodies(run) for d in read_recording(path)]
                for run in sorted(dialect.iterdir())
            ],
        )
    begin, rounds = process_time(), 20000
    for _ in range(rounds):
        mend(HTTP)
    print(f"mend, clean: {(process_time() - begin) / rounds / len(HTTP) * 1e9:.0f} ns per attribute")


if __name__ == "__main__":
    main()
