"""Accuracy of context forecasts, and whether each climb causes exactly one warning.

    python bench/forecast.py                      synthetic conversations up to a million tokens
    python bench/forecast.py shared/captures      recorded ones too (any tree of <framework>/conv*/*.pb)

For each kind of growth: 200 conversations through the fold as spans, one at a time. Printed, for the last
five calls before 85 % is reached: how often there was a forecast, the error of the forecast in calls (mean
of the absolute error, and the share of forecasts within one call), how often the crossing lay in the range
that was given, the error in seconds as a share of the time that was left, and how many climbs caused exactly
one warning at 70 % and at 85 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import mean, median
from time import process_time

from options import parse
from yardstick import yard

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation, Origin, Part
from spanpost.receivers.recordings import read_recording
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.forecast import Call, climb_of, forecast

ORIGIN = Origin(resource={"service.name": "bench"}, scope="bench")
SECOND = 10**9
BASE = 1_790_000_000 * SECOND
LAST = 5

#: Tokens that a call adds, by its number; of a window of a million as a rule 1 % a call.
Growth = Callable[[Random, int], float]
GROWTHS: dict[str, Growth] = {
    "steady: a chat, ±10 %": lambda r, i: r.gauss(1.0, 0.1),
    "tool loop: ±50 %": lambda r, i: r.uniform(0.5, 1.5),
    "coding: log-normal, some large files": lambda r, i: r.lognormvariate(-0.4, 0.9),
    "every other call large": lambda r, i: (0.2, 1.8)[i % 2] * r.uniform(0.9, 1.1),
    "one jump of 20 % halfway": lambda r, i: r.gauss(1.0, 0.1) + (20.0 if i == 30 else 0.0),
    "each step larger": lambda r, i: 0.5 + i / 40,
    "each step smaller": lambda r, i: max(0.2, 2.0 - i / 40),
}


def conversation(growth: Growth, random: Random, window: int, climbs: int, share: float) -> list[Call]:
    """Return calls of a conversation that fills its window, is compacted, and fills it again."""
    calls: list[Call] = []
    at, per_call = BASE, window * share
    for _ in range(climbs):
        used, i = window * random.uniform(0.02, 0.2), 0
        while used < window * 0.97:
            lasts = random.uniform(2, 8)
            calls.append((at + int(lasts * SECOND), at, int(used)))
            at += int((lasts + random.uniform(0.2, 3)) * SECOND)
            used += max(0.0, growth(random, i)) * per_call
            i += 1
    return calls


def spans(calls: list[Call], trace: bytes) -> Iterator[Observation]:
    """Yield the open root span, and a span for each call."""
    root_id = b"\0" * 7 + b"\1"
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bench"}
    yield Observation(
        part=Part.STARTED,
        trace_id=trace,
        span_id=root_id,
        name="invoke_agent",
        at_ns=BASE,
        start_ns=BASE,
        attributes=agent,
        origin=ORIGIN,
    )
    for i, (end, start, used) in enumerate(calls):
        said = {
            "gen_ai.operation.name": "chat",
            "gen_ai.response.model": "bench-model",
            "gen_ai.conversation.id": trace.hex(),
            "gen_ai.usage.input_tokens": used,
            "gen_ai.usage.output_tokens": 100,
        }
        yield Observation(
            part=Part.ENDED,
            trace_id=trace,
            span_id=(i + 2).to_bytes(8, "big"),
            parent_id=root_id,
            name="chat",
            at_ns=end,
            start_ns=start,
            end_ns=end,
            attributes=said,
            origin=ORIGIN,
        )


def crossings(calls: list[Call], limit: int) -> Iterator[tuple[int, int]]:
    """Yield, for each climb that reaches the limit, its first call and the call that reaches it."""
    begin, done = 0, False
    for i, call in enumerate(calls):
        if i and call[2] <= calls[i - 1][2] * 0.7:
            begin, done = i, False
        if call[2] >= limit and not done:
            done = True
            yield begin, i


class Score:
    """Figures of the forecasts of one kind of growth."""

    def __init__(self) -> None:
        self.asked = 0
        self.errors: list[int] = []
        self.held = 0
        self.seconds: list[float] = []
        self.wide: list[int] = []

    def take(self, calls: list[Call], limit: int) -> None:
        for begin, crossing in crossings(calls, limit):
            for i in range(max(begin, crossing - LAST), crossing):
                self.asked += 1
                prediction = forecast(climb_of(calls[max(0, i - 9) : i + 1]), limit)
                if prediction is None:
                    continue
                actual, wait = crossing - i, (calls[crossing][0] - calls[i][0]) / SECOND
                self.errors.append(abs(prediction.calls - actual))
                self.held += prediction.calls_low <= actual <= prediction.calls_high
                self.wide.append(prediction.calls_high - prediction.calls_low)
                self.seconds.append(abs(prediction.seconds - wait) / wait)

    def row(self) -> str:
        if not self.errors:
            return f"0 % of {self.asked} | – | – | – | – | –"
        n = len(self.errors)
        near = sum(e <= 1 for e in self.errors)
        return (
            f"{n / self.asked:.0%} | {mean(self.errors):.2f} | {near / n:.0%} | {self.held / n:.0%} | "
            f"{mean(self.wide):.1f} | "
            f"{median(self.seconds):.0%}"
        )


def warned(calls: list[Call], window: int) -> tuple[int, int, int]:
    """Return the climbs that reach each threshold, those with exactly one warning, and surplus warnings."""
    store = MemoryStore(FoldRules(windows={"bench-model": window}))
    for span in spans(calls, b"\1" * 16):
        store.record_now([span])
    warnings = [c for c in store.checkpoints_now(limit=10**9) if c.kind is Kind.CONTEXT_WARNING]
    times = {(c.ref, c.at.timestamp()) for c in warnings}
    wanted = exact = 0
    for name, share in (("70", 700), ("85", 850)):
        for _, crossing in crossings(calls, -(-window * share // 1000)):
            wanted += 1
            # The next call confirms a compaction: a climb that is over by then belongs to the one before.
            exact += any(ref == name and abs(at - calls[crossing][0] / SECOND) < 0.01 for ref, at in times)
    return wanted, exact, len(warnings) - exact


def synthetic(conversations: int) -> None:
    print(
        "| growth | said | error, calls | within 1 | in the range | range, calls | error, seconds | warned once "
        "| too many |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, growth in GROWTHS.items():
        score, wanted, exact, more = Score(), 0, 0, 0
        for seed in range(conversations):
            random = Random(seed)
            window = random.choice((8_192, 128_000, 200_000, 1_000_000))
            calls = conversation(growth, random, window, climbs=2, share=random.choice((0.01, 0.02, 0.04)))
            score.take(calls, -(-window * 850 // 1000))
            if seed < conversations // 5:
                w, e, m = warned(calls, window)
                wanted, exact, more = wanted + w, exact + e, more + m
        print(f"| {name} | {score.row()} | {exact} of {wanted} | {more} |")


def recorded(root: Path) -> None:
    print("\n| recording | calls | said | error, calls | in the range | warned at 70 %, 85 % |")
    print("|---|---|---|---|---|---|")
    for run in sorted(root.glob("*/conv*")):
        observations = [o for path in sorted(run.glob("*.pb")) for d in read_recording(path) for o in d.observations]
        observations.sort(key=lambda o: (o.at_ns, o.trace_id, o.span_id, o.part, o.index))
        calls = _calls(observations)
        if len(calls) < 4 or calls[-1][2] <= calls[0][2]:
            print(f"| {run.parent.name} | {len(calls)} | no tokens that grow | – | – | – |")
            continue
        window = int(max(call[2] for call in calls) / 0.9)  # the last call passes 85 %
        score = Score()
        score.take(calls, -(-window * 850 // 1000))
        store = MemoryStore(FoldRules(windows=_Any(window)))
        for o in observations:
            store.record_now([o])
        refs = [c.ref for c in store.checkpoints_now(limit=10**9) if c.kind is Kind.CONTEXT_WARNING]
        n = len(score.errors)
        shown = (
            f"{n} of {score.asked} | {mean(score.errors):.2f} | {score.held} of {n}"
            if n
            else f"0 of {score.asked} | – | –"
        )
        print(f"| {run.parent.name} | {len(calls)} | {shown} | {refs.count('70')}, {refs.count('85')} |")


class _Any(dict[str, int]):
    """A table in which every model has one window."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def __contains__(self, model: object) -> bool:
        return True

    def __getitem__(self, model: str) -> int:
        return self.window


def _calls(observations: list[Observation]) -> list[Call]:
    """Return the recorded calls, each once, of all tasks and conversations."""
    from spanpost.model.readings import Role
    from spanpost.readers import read

    found: dict[object, Call] = {}
    for o in observations:
        r = read(o)
        if r.role is Role.LLM and r.usage is not None and r.usage.input:
            found.setdefault(r.response_id or (o.trace_id, o.span_id), (o.at_ns, o.start_ns or o.at_ns, r.usage.input))
    return sorted(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", type=Path, nargs="?", help="recorded conversations, too")
    parser.add_argument("--conversations", type=int, default=200, help="of each kind of growth")
    asked = parse(parser, {"conversations": 5})
    synthetic(asked.conversations)
    if asked.captures is not None:
        recorded(asked.captures)
    climb = conversation(GROWTHS["tool loop: ±50 %"], Random(1), 1_000_000, 1, 0.02)[:10]
    begin, rounds = process_time(), 5_000
    for _ in range(rounds):
        forecast(climb_of(climb), 850_000)
    took = (process_time() - begin) / rounds * 1e6
    print(f"\none forecast: {took:.1f} µs, {took / yard():.1f} yards")


if __name__ == "__main__":
    main()
