"""How many agents one Slack workspace carries: calls, and how late starts and ends are shown.

    python bench/slack_budget.py [--agents 10 100 1000] [--minutes 20]

Each agent has a task of five minutes after the other, all in one channel, at Slack's rate limits and on the clock of
`messages.py`: a task reports a step and its progress each minute, makes four model calls a minute, and one task of
twenty fails. The rows are the routes: the default, the ends alone, failures alone, and `preset = "busy"`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

from messages import at, play
from options import parse
from table import tell

from spanpost.model.observations import Observation
from spanpost.sinks.slack.calls import SlackRequest
from spanpost.testing import observed
from spanpost.testing.observed import an_event, ended, started

#: Seconds of a task, and the pause of one agent between two.
TASK, PAUSE = 295.0, 5.0
#: One task of so many fails.
FAILS = 20
_HERE = {"sink": "slack", "address": "C1"}
ROUTES: dict[str, list[dict[str, Any]]] = {
    "default": [],
    "`final`": [{**_HERE, "verbosity": "final"}],
    '`preset = "busy"`': [{**_HERE, "preset": "busy"}],
    "failures only": [{**_HERE, "severity": "error"}, {"sink": "slack", "enabled": False}],
}
#: Those of the routes that show failed tasks alone.
OF_FAILURES = ('`preset = "busy"`', "failures only")


def tasks(agents: int, seconds: float) -> Iterator[tuple[int, float, bool]]:
    """Yield each task as (number, start, whether it fails); the agents' phases are spread evenly."""
    dice, number = random.Random(1), 0
    for agent in range(agents):
        start = (TASK + PAUSE) * agent / agents
        while start + TASK < seconds:
            number += 1
            yield number, start, dice.randrange(FAILS) == 0
            start += TASK + PAUSE


def history(agents: int, seconds: float) -> Iterator[tuple[float, Observation]]:
    """Yield what the agents report."""
    for trace, start, fails in tasks(agents, seconds):
        root = {"agent.task.name": f"Task {trace}:", "gen_ai.operation.name": "invoke_agent"}
        name = "invoke_agent"
        yield at(start, started(trace=trace, span=1, name=name, attributes=root, at=start))
        for minute in range(4):
            when = start + 30 + 60.0 * minute
            reported = {"agent.step.name": f"Step {minute + 1}", "agent.progress": 25.0 * minute}
            message = {"agent.checkpoint.message": f"Step {minute + 1} of task {trace}", **reported}
            yield at(
                when,
                an_event(trace=trace, span=1, name="agent.checkpoint", index=minute, attributes=message, at=when),
            )
        for call in range(20):
            when = start + 2 + 14.0 * call
            used = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 900}
            yield at(
                when + 3,
                ended(trace=trace, span=10 + call, parent=1, name="chat m", attributes=used, at=when, seconds=3),
            )
        over = root | {"agent.status": "failed" if fails else "complete"}
        failed = {"status": observed.Status.ERROR, "status_message": "exit 1"} if fails else {}
        yield at(
            start + TASK,
            ended(trace=trace, span=1, name=name, attributes=over, at=start, seconds=TASK, **failed),
        )


def late(shown: dict[int, float], due: dict[int, float]) -> tuple[float, float]:
    """Return how late they were shown in seconds: median and worst; nan if one was not shown."""
    waits = sorted(shown.get(task, float("inf")) - when for task, when in due.items())
    return (waits[len(waits) // 2], waits[-1]) if waits else (float("nan"), float("nan"))


def figures(agents: int, route: str, minutes: float, calls: list[tuple[float, SlackRequest]]) -> dict[str, Any]:
    """Return the row of one run."""
    began, over, roots = {}, {}, {}
    for when, request in calls:
        said = json.dumps(request.arguments.get("blocks", "")) + str(request.arguments.get("text", ""))
        if "Task " not in said or request.arguments.get("thread_ts"):
            continue
        number = int(said.split("Task ")[1].split(":")[0])
        began.setdefault(number, when)
        if any(word in str(request.arguments.get("text", "")).lower() for word in ("complete", "failed")):
            over.setdefault(number, when)
        roots[number] = roots.get(number, 0) + 1
    planned = list(tasks(agents, minutes * 60 - 30))
    wanted = [one for one in planned if one[2] or route not in OF_FAILURES]
    start = late(began, {n: when for n, when, _ in wanted}) if route == "default" else (float("nan"),) * 2
    end = late(over, {n: when + TASK for n, when, _ in wanted})
    return {
        "route": f"{agents:,} agents, {route}",
        "tasks": len(planned) * 60 / minutes,
        "calls": len(calls) / minutes,
        "per_task": len(calls) / max(1, len(planned)),
        "start": start[0],
        "start_most": start[1],
        "end": end[0],
        "end_most": end[1],
        "missing": sum(1 for n, _, _ in wanted if n not in over),
    }


def main() -> None:
    """Play every number of agents with every route."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--step", type=float, default=0.5, help="seconds between two looks at what is due")
    parser.add_argument("--json", action="store_true")
    asked = parse(parser, {"agents": [3], "minutes": 6.0, "step": 5.0})
    rows = []
    for agents in asked.agents:
        for route, routes in ROUTES.items():
            chosen = {"routes": routes} if routes else {}
            seconds = asked.minutes * 60
            calls = asyncio.run(play(history(agents, seconds - 30), seconds, asked.step, **chosen))
            rows.append(figures(agents, route, asked.minutes, calls))
    headings = {
        "route": "agents, route", "tasks": "tasks an hour", "calls": "calls a minute", "per_task": "calls a task",
        "start": "start shown after s, median", "start_most": "worst", "end": "end shown after s, median",
        "end_most": "worst", "missing": "ends not shown",
    }  # fmt: skip
    tell(rows, headings, as_json=asked.json, form=".1f")


if __name__ == "__main__":
    main()
