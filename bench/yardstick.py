"""Speed of the machine at this moment: a fixed piece of work that the other benchmarks compare with.

    python bench/yardstick.py

One *yard* is the standard library's ``json.dumps`` of a small span. Microseconds differ by the machine and
by who else works on it; how many yards something costs differs little.
"""

from __future__ import annotations

import argparse
import json
from time import process_time

from options import parse

SPAN = {
    "name": "chat gpt-x",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "start": 1_790_000_000_000_000_000,
    "end": 1_790_000_000_500_000_000,
    "attributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.usage.input_tokens": 1500,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.response.finish_reasons": ["stop"],
    },
}


def yard(rounds: int = 5, count: int = 4000) -> float:
    """Return microseconds of processor time for one yard, the best of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        begin = process_time()
        for _ in range(count):
            json.dumps(SPAN)
        best = min(best, process_time() - begin)
    return best / count * 1e6


if __name__ == "__main__":
    parse(argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]), {})
    print(f"one yard (json.dumps of a small span): {yard():.1f} µs on this machine, now")
