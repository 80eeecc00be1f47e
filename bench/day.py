"""A day of an organisation on a simulated clock: what is stale, what waits, what is lost, and what it costs.

    python bench/day.py [--tasks 100000] [--channels 1000] [--workspaces 1] [--seed 1]

`--tasks` are open at once at the peak. Tasks begin in the waves of office hours and take minutes to hours; they report
steps and calls, ask people, fail tools, and end. Slack is down from 10:00 to 11:00. All gateways restart at 13:00,
without waiting for their calls. A site of one task in twenty is cut off from 14:30 to 16:00, and sends all of that at
once. Three gateways share the deliveries. After midnight nothing new happens, and the rest is delivered.

It ends with 1 if something was lost or shown twice, or if a message does not show the last state of its task.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from day_world import MIDNIGHT, SimulatedLoop, World
from options import parse
from table import tell

from spanpost.model.deliveries import Mode
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.routing.planned import mark_of
from spanpost.sinks.slack import render
from spanpost.testing import observed
from spanpost.testing.observed import an_event, ended, started

HOUR = 3600.0
DOWN = 10 * HOUR, 11 * HOUR
RESTART = 13 * HOUR
#: One task of so many is of the site that is cut off, from and to.
SITE, CUT = 20, (14.5 * HOUR, 16 * HOUR)
#: Of so many tasks one asks a person, fails a tool, or fails.
ASKS, STUMBLES, FAILS = 25, 20, 20
#: Short tasks for each long one: they take minutes.
SHORT = 0.25
GATEWAYS = 3


class Event(NamedTuple):
    """Something that a task reports, and when it is received."""

    received: float
    at: float
    task: int
    what: str
    index: int


class Plan(NamedTuple):
    """A task of the day: its channel, its begin and its end in seconds since midnight."""

    channel: int
    begins: float
    ends: float
    asks: bool
    stumbles: bool
    fails: bool


def planned(tasks: int, channels: int, seed: int) -> list[Plan]:
    """Return the tasks of a day. Channel n has 1 / n of the tasks of the first."""
    dice = random.Random(seed)
    crowd = list(accumulate(1 / (n + 1) for n in range(channels)))
    plans = []
    for number in range(int(tasks * (1 + SHORT))):
        if number < tasks:  # long: through the working day
            begins, ends = dice.triangular(7, 9.75, 9) * HOUR, dice.triangular(12, 22, 17.5) * HOUR
        else:
            wave = dice.choice(((8, 12, 9.5), (13, 18, 14.5), (0, 23, 12)))
            begins = dice.triangular(*wave) * HOUR
            ends = begins + min(dice.lognormvariate(6.0, 0.8), HOUR)
        channel = bisect_left(crowd, dice.random() * crowd[-1])
        asks, stumbles, fails = (dice.randrange(n) == 0 for n in (ASKS, STUMBLES, FAILS))
        plans.append(Plan(channel, begins, ends, asks, stumbles, fails))
    return plans


def events_of(plans: list[Plan], seed: int) -> list[Event]:
    """Return what the tasks report, in the order in which it is received."""
    dice, events = random.Random(f"{seed} events"), []
    for number, plan in enumerate(plans):
        lasts = plan.ends - plan.begins
        own = [(plan.begins, "start", 0), (plan.begins + lasts * 0.4, "call", 0), (plan.ends, "end", 0)]
        own += [(plan.begins + lasts * dice.uniform(0.1, 0.9), "step", n) for n in range(3)]
        if plan.asks:
            asked = plan.begins + lasts * dice.uniform(0.2, 0.7)
            own += [(asked, "ask", 0), (asked + min(lasts * 0.2, dice.uniform(60, 1800)), "answer", 0)]
        if plan.stumbles:
            own.append((plan.begins + lasts * dice.uniform(0.2, 0.9), "stumble", 0))
        for at, what, index in own:
            is_cut = number % SITE == 0 and CUT[0] <= at < CUT[1]
            events.append(Event(CUT[1] if is_cut else at + dice.uniform(0, 2), at, number, what, index))
    events.sort()
    return events


def observation(event: Event, plan: Plan) -> Observation:
    """Return an event as it is received."""
    trace, at = event.task + 1, event.at
    root: dict[str, Any] = {
        "agent.task.name": f"Task {trace}: mend {trace % 97} flaky tests",
        "gen_ai.operation.name": "invoke_agent",
        "agent.repo": f"repo-{plan.channel}",
    }
    match event.what:
        case "start":
            return started(trace=trace, span=1, name="invoke_agent", attributes=root, at=at)
        case "step":
            step = {"agent.checkpoint.message": f"Step {event.index + 1} is done", "agent.progress": 25.0 * event.index}
            return an_event(trace=trace, span=1, name="agent.checkpoint", index=event.index, attributes=step, at=at)
        case "call":
            call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 900}
            return ended(trace=trace, span=2, parent=1, name="chat m", attributes=call, at=at - 3, seconds=3)
        case "ask":
            ask = {"agent.approval.id": "a", "agent.approval.question": "Push it?", "agent.status": "waiting"}
            return an_event(trace=trace, span=1, name="agent.approval.requested", index=10, attributes=ask, at=at)
        case "answer":
            answer = {"agent.approval.id": "a", "agent.approval.decision": "approve", "agent.status": "working"}
            return an_event(trace=trace, span=1, name="agent.approval.resolved", index=11, attributes=answer, at=at)
        case "stumble":
            tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash"}
            failed = {"status": observed.Status.ERROR, "status_message": "exit status 1"}
            return ended(trace=trace, span=3, parent=1, name="bash", attributes=tool, at=at - 2, seconds=2, **failed)
        case _:
            whole = root | {"agent.status": "failed" if plan.fails else "complete"}
            failed = {"status": observed.Status.ERROR, "status_message": "exit 1"} if plan.fails else {}
            lasts = plan.ends - plan.begins
            return ended(
                trace=trace, span=1, name="invoke_agent", attributes=whole, at=plan.begins, seconds=lasts, **failed
            )


class Sample(NamedTuple):
    """The queue at one time of the day."""

    at: float
    waiting: Counter[str]


async def live(world: World, plans: list[Plan], events: list[Event], most: float) -> list[Sample]:
    """Let the day pass, then deliver what is left, for `most` seconds at most."""
    world.start()
    samples: list[Sample] = []

    async def sampled() -> None:
        while True:
            samples.append(Sample(world.clock.seconds, world.waiting()))
            await asyncio.sleep(600)

    async def restarted() -> None:
        await asyncio.sleep(RESTART)
        await world.stop()
        await asyncio.sleep(20)
        world.start()

    beside = [asyncio.create_task(sampled()), asyncio.create_task(restarted())]
    batch: list[Observation] = []
    until = 0.0
    for event in events:
        if batch and (event.received >= until or len(batch) >= 512):
            await _passed(world, until)
            await world.record(batch)
            batch = []
        if not batch:
            until = event.received + 1.0
        batch.append(observation(event, plans[event.task]))
    await _passed(world, until)
    await world.record(batch)
    await _passed(world, 24 * HOUR)
    for _ in range(int(most // 30)):
        if not any(world.waiting().values()):
            break
        await asyncio.sleep(30)
    for task in beside:
        task.cancel()
    samples.append(Sample(world.clock.seconds, world.waiting()))
    await asyncio.gather(*(dispatcher.close() for dispatcher in world.dispatchers))
    return samples


async def _passed(world: World, seconds: float) -> None:
    await asyncio.sleep(max(0.0, seconds - world.clock.seconds))


def faults(world: World, plans: list[Plan]) -> dict[str, int]:
    """Count what is lost, doubled or not final. All of them are 0 if nothing went wrong and nothing waits."""
    store, found = world.store, Counter[str]()
    tasks = store.tasks_now(TaskQuery(limit=len(plans) + 1))
    found["tasks not recorded"] = len(plans) - len(tasks)
    found["tasks open"] = sum(task.ended_at is None for task in tasks)
    shown: dict[str, dict[str, Any]] = {}
    lines: Counter[str] = Counter()
    for slack in world.slacks.values():
        for channel in slack.workspace.channels.values():
            for message in channel.top():
                key = message["metadata"]["event_payload"]["k"]
                found["messages doubled"] += key in shown
                shown[key] = message
                lines.update(line["metadata"]["event_payload"]["k"] for line in channel.replies(message["ts"]))
    found["lines doubled"] = sum(count - 1 for count in lines.values())
    for task in tasks:
        at = world.addresses[int(str(task.repo).rpartition("-")[2])]
        key = f"slack|{at}|{task.message_uid or task.uid}"
        message, newest = shown.get(key), render.root(task, key=key)
        found["messages missing"] += message is None
        if message is not None:
            found["messages not final"] += (message["text"], message["blocks"]) != (newest.text, newest.blocks)
    for entry in store.outbox._deliveries.values():
        if entry.mode is Mode.CHECKPOINT and entry.receipt is not None and entry.receipt.ref.get("ts"):
            lines.subtract([mark_of(entry.key, entry.checkpoint_id)])
        found["deliveries waiting"] += entry.state in ("waiting", "sending")
        found["dead letters"] += entry.state == "dead"
    found["lines missing"] = sum(1 for count in lines.values() if count < 0)
    return dict(found)


def percentile(ages: list[float], share: float) -> float:
    """Return a percentile of sorted ages."""
    return ages[min(int(len(ages) * share), len(ages) - 1)] if ages else float("nan")


def simulate(
    *, tasks: int, channels: int, workspaces: int = 1, seed: int = 1, most: float = 0.0
) -> tuple[World, dict[str, Any]]:
    """Simulate a day; return the world after it, and its figures."""
    began, observed.BEGAN = observed.BEGAN, int(MIDNIGHT.timestamp()) * 10**9
    loop = SimulatedLoop()
    cpu = time.process_time()
    try:
        plans = planned(tasks, channels, seed)
        events = events_of(plans, seed)
        world = World(loop, channels=channels, workspaces=workspaces, gateways=GATEWAYS, seed=seed, down=DOWN)
        samples = loop.run_until_complete(live(world, plans, events, most))
    finally:
        loop.close()
        observed.BEGAN = began
    cpu = time.process_time() - cpu
    made = sum(count for name, count in world.seen.outcomes.items() if name in ("delivered", "skipped"))
    rest = cpu - world.clock.cpu["recording"] - world.clock.cpu["Slack"]
    return world, {
        "tasks": len(plans),
        "channels": channels,
        "observations": world.observations,
        "deliveries": made,
        "ages": world.seen.ages,
        "samples": samples,
        "outcomes": dict(world.seen.outcomes),
        "circuits": dict(world.seen.circuits),
        "calls": dict(sum((slack.calls for slack in world.slacks.values()), Counter[str]())),
        "faults": faults(world, plans),
        "ended_at": world.clock.seconds / HOUR,
        "cpu": cpu,
        "record_us": world.clock.cpu["recording"] / max(1, world.observations) * 1e6,
        "delivery_us": rest / max(1, made) * 1e6,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def told(figures: dict[str, Any]) -> None:
    """Print the figures of a day."""
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    by_hour: defaultdict[int, list[float]] = defaultdict(list)
    for (kind, hour), ages in figures["ages"].items():
        by_kind[kind] += ages
        if kind.startswith("message"):
            by_hour[hour] += ages
    headings = {"of": "shown after s", "count": "shown", "half": "median", "most": "95 %", "worst": "worst"}
    for named in (by_kind, {f"{hour:02}:00, messages": ages for hour, ages in by_hour.items()}):
        rows = []
        for kind, ages in sorted(named.items()):
            ages.sort()
            half, most = percentile(ages, 0.5), percentile(ages, 0.95)
            rows.append({"of": kind, "count": len(ages), "half": half, "most": most, "worst": ages[-1]})
        tell(rows, headings, as_json=False, form=",.0f")
        print()
    kinds = ("approval", "start", "error", "warning", "end", "normal")
    hourly = [one for one in figures["samples"] if one.at % HOUR < 1 or one is figures["samples"][-1]]
    rows = [{"at": f"{one.at / HOUR:04.1f}"} | {kind: one.waiting[kind] for kind in kinds} for one in hourly]
    tell(rows, {"at": "waiting at"} | {kind: kind for kind in kinds}, as_json=False, form=",")
    print()
    for name in ("outcomes", "circuits", "calls", "faults"):
        print(f"{name}: {json.dumps(figures[name])}")
    print(
        f"{figures['tasks']:,} tasks, {figures['channels']:,} channels, {figures['observations']:,} observations, "
        f"{figures['deliveries']:,} deliveries; all shown at {figures['ended_at']:.1f} h; "
        f"{figures['cpu']:.0f} s of processor time, {figures['record_us']:.0f} us an observation recorded, "
        f"{figures['delivery_us']:.0f} us a delivery, {figures['mib']:,.0f} MiB"
    )


def _wrong(figures: dict[str, Any]) -> Iterator[str]:
    waits = figures["faults"]["deliveries waiting"]
    for name, count in figures["faults"].items():
        if count and not (waits and name in ("deliveries waiting", "messages missing", "messages not final")):
            yield f"{name}: {count}"


def main() -> None:
    """Simulate the day and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000, help="open at once at the peak")
    parser.add_argument("--channels", type=int, default=1_000)
    parser.add_argument("--workspaces", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", action="store_true", help="print the gateways' log as well")
    parser.add_argument("--rest", type=float, default=240.0, help="hours after midnight in which the rest is delivered")
    asked = parse(parser, {"tasks": 200, "channels": 10})
    logging.getLogger("spanpost").setLevel(logging.INFO if asked.log else logging.CRITICAL)
    _, figures = simulate(
        tasks=asked.tasks, channels=asked.channels, workspaces=asked.workspaces, seed=asked.seed,
        most=asked.rest * HOUR,
    )  # fmt: skip
    told(figures)
    if wrong := list(_wrong(figures)):
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
