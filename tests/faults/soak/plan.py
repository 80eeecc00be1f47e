"""The plan of a run: which fault is dealt when, from the seed alone; and its execution."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.soak import (  # noqa: F401 (they register their faults)
    annotations,
    of_load,
    of_local_slack,
    of_named_points,
    of_processes,
    of_senders,
    of_slack,
    of_tables,
    of_the_clock,
    of_the_database,
    of_the_disk,
    of_the_machine,
    of_the_network,
    of_versions,
    standby,
)
from tests.faults.soak.dealt import FAULTS, Fault
from tests.faults.soak.world import World, now, pause

#: Seconds without a fault at the beginning, and between the ends and the beginnings of faults of one part.
QUIET, BETWEEN = 1.0, 3.0
#: Seconds from one fault to the next, in the mean.
EVERY = 1.9


@dataclass(frozen=True)
class Planned:
    """A fault and the second of the run at which it begins."""

    at: float
    fault: Fault


def plan(seed: int, seconds: float, gateways: int, names: Sequence[str], every: float = EVERY) -> list[Planned]:
    """Return the faults of a run, by time: one `every` so many seconds, as far as their parts are whole.

    Faults of different parts overlap; of one part they do not.
    """
    chance, planned = random.Random(f"plan {seed}"), list[Planned]()
    free: defaultdict[str, float] = defaultdict(lambda: QUIET)
    at = QUIET
    while names:
        at = round(at + chance.uniform(0.3, 3.5) * every / EVERY, 1)
        fault = FAULTS[chance.choice(sorted(names))](chance, gateways)
        if at + fault.seconds > seconds:
            break
        if at >= free[fault.part]:
            free[fault.part] = at + fault.seconds + BETWEEN
            planned.append(Planned(at, fault))
    return planned


def each_once(seed: int, gateways: int, names: Sequence[str], longest: float) -> list[Planned]:
    """Return a plan that deals each kind once, for so many seconds at most: those of a part one after the other."""
    chance, planned = random.Random(f"plan {seed}"), list[Planned]()
    free: defaultdict[str, float] = defaultdict(lambda: QUIET)
    for name in chance.sample(sorted(names), len(names)):
        fault = FAULTS[name](chance, gateways)
        fault.seconds = min(fault.seconds, longest)
        planned.append(Planned(free[fault.part], fault))
        free[fault.part] += fault.seconds + BETWEEN
    return sorted(planned, key=lambda each: each.at)


def execute(world: World, planned: Sequence[Planned], seconds: float) -> list[Fault]:
    """Deal the faults at their times; return those that were dealt, when all are lifted and the time is over.

    A fault whose part is still broken by an earlier one waits for it.
    """
    began, locks = now(), defaultdict[str, threading.Lock](threading.Lock)
    over, dealt, threads = threading.Event(), list[Fault](), list[threading.Thread]()

    def deal(fault: Fault) -> None:
        with locks[fault.part]:
            try:
                print(f"{now() - began:6.1f} s  {fault}", flush=True)
                fault.struck = now()
                fault.deal(world)
                dealt.append(fault)
            except Exception as error:
                world.findings.append(f"the harness: {fault} was not dealt: {error!r}")
                print(f"{now() - began:6.1f} s  {world.findings[-1]}", flush=True)

    for each in planned:
        pause(over, began + each.at - now())
        threads.append(threading.Thread(target=deal, args=(each.fault,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(120)
    pause(over, began + seconds - now())
    return dealt
