"""Loops: false alarms per 1,000 healthy tasks, and planted loops that are missed.

    python bench/loops.py                                 some minutes
    python bench/loops.py --small                         some seconds
    python bench/loops.py --captures tests/captures       recordings of genuine agents as well
    python bench/loops.py --known                         without the kinds of work that were tried afterwards

Runs are made up (`loop_runs.py`), each of one seed, and recorded in the memory store in batches of random size.
A planted loop counts as found when it is reported within two rounds after the number of the settings. The
run ends with 1 when false alarms exceed 1 in 1,000 or a loop is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from random import Random
from time import process_time

import msgspec
from loop_runs import KNOWN, PLANTED, UNSEEN, Work, healthy, planted
from options import parse

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation, nanoseconds
from spanpost.receivers.recordings import read_recording
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.loops import LoopRules
from spanpost.tasks.records import Subtree, TaskState

RULES = LoopRules()
#: Seeds of the kinds that the rules were made with, and of those that were tried afterwards.
SEEDS, UNSEEN_SEEDS = 1_000, 8_000_000


def loops_of(run: list[Observation], seed: int) -> list[Checkpoint]:
    """Return the loops that are reported of a run, recorded in batches of random size."""
    store, random, at = MemoryStore(FoldRules()), Random(seed), 0
    run = sorted(run, key=lambda o: o.at_ns)
    while at < len(run):
        size = random.choice((1, 2, 10, 50, 500))
        store.record_now(run[at : at + size])
        at += size
    return [one for one in store.checkpoints_now(limit=10**6) if one.kind is Kind.LOOP]


def false_alarms(name: str, first: int, count: int, kinds: tuple[Work, ...], *, verbose: bool) -> float:
    """Print and return the false alarms per 1,000 healthy runs."""
    alarmed, spans, by_kind = 0, 0, Counter[str]()
    for seed in range(first, first + count):
        run, works = healthy(seed, kinds)
        spans += len(run)
        found = loops_of(run, seed)
        if found:
            alarmed += 1
            by_kind.update(works)
            if verbose:
                print(f"  seed {seed}: {works}: {[(one.text, one.ref) for one in found]}")
    rate = alarmed * 1000 / count
    print(f"| {name} | {first:,} to {first + count - 1:,} | {count:,} | {spans:,} | {alarmed} | {rate:.1f} |")
    return rate


def misses(name: str, first: int, count: int, kinds: tuple[Work, ...], *, verbose: bool) -> int:
    """Print the planted loops that were missed or reported late, by kind; return their number."""
    total = 0
    for kind in PLANTED:
        needed, late, missed = getattr(RULES, kind.needs) * kind.times, 0, 0
        for seed in range(first, first + count):
            run, begin, until = planted(seed, kind, kinds, needed)
            at = [nanoseconds(one.at) for one in loops_of(run, seed)]
            inside = [one for one in at if one > begin]
            missed += not inside
            late += bool(inside) and min(inside) > until + 1000
            if verbose and (not inside or min(inside) > until + 1000):
                print(f"  seed {seed}: {kind.make.__name__} ({kind.captures})")
        captured = ", ".join(kind.captures)
        print(f"| {name} | {kind.make.__name__} | {captured} | {needed} | {count:,} | {missed} | {late} |")
        total += missed + late
    return total


def recordings(root: Path, *, verbose: bool) -> int:
    """Print and return how many recordings raise an alarm."""
    alarmed, runs = 0, sorted({path.parent for path in root.glob("*/*/*.pb*")})
    for run in runs:
        seen = [o for path in sorted(run.glob("*.pb*")) for one in read_recording(path) for o in one.observations]
        found = loops_of(seen, 0)
        alarmed += bool(found)
        if found and verbose:
            print(f"  {run}: {[one.text for one in found]}")
    print(f"| {root} | – | {len(runs)} | – | {alarmed} | {alarmed * 1000 / max(len(runs), 1):.1f} |")
    return alarmed


def cost(first: int, count: int) -> None:
    """Print the cost of a span with loops judged and without, in turn in the same process, and the bytes of state."""
    runs = [sorted(healthy(seed, KNOWN)[0], key=lambda o: o.at_ns) for seed in range(first, first + count)]
    spans = sum(map(len, runs))
    for size in (1, 50):
        took: dict[bool, list[float]] = {True: [], False: []}
        kept: dict[bool, int] = {}
        for turn in range(6):
            is_on = turn % 2 == 0
            store = MemoryStore(FoldRules(loops=LoopRules(enabled=is_on)))
            began = process_time()
            for run in runs:
                for at in range(0, len(run), size):
                    store.record_now(run[at : at + size])
            took[is_on].append(process_time() - began)
            records = [one for one in store._tables.records.by_key.values() if isinstance(one, Subtree | TaskState)]
            kept[is_on] = sum(len(msgspec.msgpack.encode(one)) for one in records) // count
        on, off = (min(took[is_on]) / spans * 1e6 for is_on in (True, False))
        print(
            f"| {size} | {off:.0f} | {on:.0f} | {on / off:.2f} | {kept[False]:,} | {kept[True]:,} |",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3000, help="healthy runs of each set of kinds")
    parser.add_argument("--loops", type=int, default=200, help="planted loops of each kind")
    parser.add_argument("--captures", type=Path, nargs="*", default=[], help="directories with recordings")
    parser.add_argument("--known", action="store_true", help="only the kinds of work that the rules were made with")
    parser.add_argument("--first", type=int, default=SEEDS, help="the first seed of these kinds")
    parser.add_argument("--verbose", action="store_true", help="name each run that was judged wrongly")
    asked = parse(parser, {"runs": 30, "loops": 4})
    sets = [("known", asked.first, KNOWN)]
    if not asked.known:
        sets.append(("unseen", UNSEEN_SEEDS, UNSEEN))
    print("| healthy runs | seeds | runs | spans | with an alarm | per 1,000 |\n|---|---|---|---|---|---|")
    rates = [false_alarms(name, first, asked.runs, kinds, verbose=asked.verbose) for name, first, kinds in sets]
    alarms = sum(recordings(root, verbose=asked.verbose) for root in asked.captures)
    print(
        "\n| work around it | loop | captured | from round | planted | missed | late |\n|---|---|---|---|---|---|---|"
    )
    missed = sum(misses(name, first, asked.loops, kinds, verbose=asked.verbose) for name, first, kinds in sets)
    print("\n| spans in a batch | off, µs a span | on, µs a span | ratio | state off, bytes a run | on |")
    print("|---|---|---|---|---|---|")
    cost(asked.first, max(asked.runs // 100, 5))
    sys.exit(1 if max(rates) > 1 or alarms or missed else 0)


if __name__ == "__main__":
    main()
