"""One run: the world, its actors, the plan, the end, and the result."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.faults.soak import (  # noqa: F401 (they register their actors)
    agents,
    alerting,
    annotations,
    clicking,
    collectors,
    kafka,
    local_slack,
    people,
    prometheus,
    retained,
    sdks,
    senders,
    slack_away,
    tenants,
)
from tests.faults.soak.actors import ACTORS
from tests.faults.soak.checker import check, size_of
from tests.faults.soak.dealt import FAULTS, Fault
from tests.faults.soak.origin import origin
from tests.faults.soak.plan import EVERY, each_once, execute, plan
from tests.faults.soak.world import STARTS_WITHIN, World, now


def run(
    directory: Path,
    seed: int,
    seconds: float,
    *,
    only: Sequence[str] = (),
    gateways: int = 2,
    rate: float = 150.0,
    long: float = 1 / 8,
    every: float = EVERY,
    has_standby: bool = False,
    slack_down: float = 0.0,
    retention: float = 0.0,
    extra: Sequence[str] = (),
    is_each_once: bool = False,
) -> dict[str, Any]:
    """Run once; return the result.

    `only` names the faults that may be dealt; empty: all that are possible. `extra` names the actors that take part
    only if they are asked for. With `is_each_once` each fault is dealt once, for `seconds` at most.
    """
    began = now()
    with World(directory, seed, gateways, has_standby=has_standby, slack_down=slack_down, retention=retention) as world:
        senders.Senders.rate, senders.Senders.long = rate, long
        agents.DurableAgent.pace = 0.1 * max(1.0, 150.0 / rate)
        absent = {name: why for name, actor in ACTORS.items() if (why := actor.absence(extra))}
        world.actors.update({name: actor(world) for name, actor in ACTORS.items() if name not in absent})
        possible = [name for name in only or FAULTS if not FAULTS[name].why_not(world)]
        for actor in world.actors.values():
            actor.start()
        prober = world.actors["prober"]
        eventually(lambda: all(prober.answers), limit=STARTS_WITHIN)
        before = [gateway.resident() for gateway in world.gateways], size_of(world)
        if is_each_once:
            planned = each_once(seed, gateways, possible, seconds)
        else:
            dice = plan(seed, seconds, gateways, only or list(FAULTS), every)  # as `--plan` prints it, on any machine
            planned = [each for each in dice if each.fault.name in possible]
        first = now()
        dealt = execute(world, planned, 0.0 if is_each_once else seconds)
        under_faults = round(now() - first)
        for number, gateway in enumerate(world.gateways):
            if prober.waits_for_200(number, 60):
                world.findings.append(f"gateway {number} answers no 200 after the last fault: {gateway.log[-600:]}")
        world.closing.set()
        for actor in sorted(world.actors.values(), key=lambda actor: actor.is_last):
            actor.close()
        memory, size = [gateway.resident() for gateway in world.gateways], size_of(world)
        findings = check(world)
        return {
            "seed": seed,
            "seconds": seconds,
            "standby": has_standby,
            "took": round(now() - began),
            "under_faults": under_faults,
            **origin(world),
            "spans": world.sent.spans,
            "refused": world.sent.refused,
            "tasks": len(world.sent.tasks),
            "questions": len(world.actors["asking agent"].answers()),
            "agent_runs": world.actors["durable agent"].runs,
            "absent": absent,
            "notes": [note for actor in world.actors.values() for note in actor.notes()],
            "faults": dict(Counter(fault.name for fault in dealt)),
            "not_dealt": {name: FAULTS[name].why_not(world) for name in only or FAULTS if name not in possible},
            "recovery": recoveries(prober, dealt),
            "figures": dict(world.figures),
            "memory": {"before": before[0], "after": memory},
            "database": {"before": before[1], "after": size},
            "findings": findings,
        }


def fresh(inside: Path | None = None) -> Path:
    """Make a directory for a run, which PostgreSQL can reach as the other user that it is if this is root."""
    home = Path(tempfile.mkdtemp(prefix="spanpost-soak-", dir=inside or "/tmp"))
    home.chmod(0o755)
    return home


def recoveries(prober: senders.Prober, dealt: Sequence[Fault]) -> dict[str, float]:
    """Return by kind of fault the longest time from its end until all touched gateways had answered 200.

    A gateway that another fault touched meanwhile does not count: that fault has a time of its own.
    """
    longest: defaultdict[str, float] = defaultdict(float)
    for fault in dealt:
        for gateway in fault.touched:
            answered = prober.first_200(gateway, fault.lifted)
            others = [other for other in dealt if other is not fault and gateway in other.touched]
            if not any(other.struck < answered and other.lifted > fault.lifted for other in others):
                longest[fault.name] = round(max(longest[fault.name], answered - fault.lifted), 2)
    return dict(longest)


def table(result: dict[str, Any]) -> str:
    """Return a run's result for people."""
    lines = [f"{'fault':24} {'dealt':>5}  longest until the first 200"]
    for name, count in sorted(result["faults"].items()):
        seconds = result["recovery"].get(name)
        lines.append(f"{name:24} {count:5}  {'-' if seconds is None else f'{seconds:.2f} s'}")
    lines += [
        f"not dealt here: {name}: {reason or 'what it breaks takes no part'}"
        for name, reason in result["not_dealt"].items()
    ]
    lines += [f"{what}: {count}" for what, count in sorted(result["figures"].items())]
    lines.append(
        f"{result['spans']} spans acknowledged ({result['refused']} refused before), {result['tasks']} tasks, "
        f"{result['questions']} questions, gateways {result['memory']['before']} → {result['memory']['after']} MiB, "
        f"database {result['database']['before']} → {result['database']['after']} MiB"
    )
    lines.append(f"acknowledged: {'on a synchronous standby' if result['standby'] else 'committed by the only server'}")
    lines += result["notes"]
    lines += [f"took no part: {name}: {why}" for name, why in result["absent"].items()]
    return "\n".join([*lines, *(f"FINDING: {finding}" for finding in result["findings"] or [])])
