"""What reading costs per span, dialect by dialect, beside spans that are not of an agent.

    python bench/read.py [captures directory]

Prints microseconds of processor time per span, the best of several rounds. The captures are those under
``tests/captures`` unless a directory is given (any tree of ``<dialect>/<run>/*.pb``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import process_time

from yardstick import yard

from spanpost.domain.observations import Observation, Origin, Part
from spanpost.fold.mend import mend
from spanpost.fold.read import read
from spanpost.intake.recordings import read_recording

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


def span(name: str, attributes: dict[str, object], scope: str) -> Observation:
    return Observation(
        part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, parent_id=b"p" * 8, name=name, attributes=attributes,
        origin=Origin(scope=scope, resource={"service.name": "shop"}),
    )  # fmt: skip


def cost(observations: list[Observation]) -> float:
    """Return the best of several rounds, in microseconds per observation."""
    rounds = max(1, 4000 // len(observations))
    best = float("inf")
    for _ in range(7):
        begin = process_time()
        for _ in range(rounds):
            for observation in observations:
                read(observation)
        best = min(best, process_time() - begin)
    return best / (rounds * len(observations)) * 1e6


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests" / "captures"
    print(f"{'spans of':36} {'spans':>6} {'read, µs':>9} {'yards':>6} {'mean attributes':>16}")
    for title, observation in (
        ("(HTTP, 10 attributes)", span("GET", HTTP, "opentelemetry.instrumentation.requests")),
        ("(database, 6 attributes)", span("SELECT shop", DB, "opentelemetry.instrumentation.asyncpg")),
        ("(user code, none)", span("work", {}, "app")),
    ):
        print(f"{title:36} {1:6} {(took := cost([observation])):9.2f} {took / yard():6.2f} {len(observation.attributes):16}")
    for dialect in sorted(p for p in root.iterdir() if p.is_dir()):
        observations = [
            o
            for path in sorted(dialect.glob("*/*.pb"))
            for d in read_recording(path)
            for o in d.observations
            if o.part is Part.ENDED
        ]
        if observations:
            mean = sum(len(o.attributes) for o in observations) / len(observations)
            print(f"{dialect.name:36} {len(observations):6} {(took := cost(observations)):9.2f} {took / yard():6.2f} {mean:16.1f}")
    begin, rounds = process_time(), 20000
    for _ in range(rounds):
        mend(HTTP)
    print(f"mend, clean: {(process_time() - begin) / rounds / len(HTTP) * 1e9:.0f} ns per attribute")


if __name__ == "__main__":
    main()
