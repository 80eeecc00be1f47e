"""What people get in Slack: calls, edits that they can read, and seconds until each message, on a clock of its own.

    python bench/messages.py

Two histories, recorded into the memory store and delivered by the Slack sink under its own rate limits, to a Slack
that accepts everything. Nothing waits for real time: the same history gives the same figures. A *read* edit has
changed the message above its small print: name, headline, words, question, cards.

- One task of 55 s: 10 checkpoints, 5 steps, 26 calls of tools and models, 2 errors, a sub-agent, a question.
- Ten tasks that begin within 3 s, one of them with 8 sub-agents: seconds from the start of each to its message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from options import parse
from table import tell

from spanpost.model.errors import DeliveryError
from spanpost.model.observations import Observation
from spanpost.runtime.assembly import rules_of
from spanpost.settings import load
from spanpost.sinks.slack.calls import Response, SlackRequest
from spanpost.sinks.slack.sink import SlackSink
from spanpost.store.memory import MemoryStore
from spanpost.testing import observed
from spanpost.testing.observed import an_event, ended, started

SINKS = ["slack"]
#: Seconds between two looks at what is due.
STEP = 0.05


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.began = datetime.fromtimestamp(observed.BEGAN / 1e9, UTC)
        self.now = self.began

    @property
    def seconds(self) -> float:
        """Seconds since the history began."""
        return (self.now - self.began).total_seconds()


class AcceptingSlack:
    """A Slack that accepts everything, and remembers when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.calls: list[tuple[float, SlackRequest]] = []

    async def call(self, request: SlackRequest) -> Response:
        self.calls.append((self._clock.seconds, request))
        ts = request.arguments.get("ts") or f"{self._clock.now.timestamp():.6f}{len(self.calls)}"
        return Response(body={"ok": True, "channel": "C1", "ts": ts, "message": {"thread_ts": "1"}})

    async def close(self) -> None: ...


async def play(
    history: Iterable[tuple[float, Observation]], seconds: float, step: float = STEP, **chosen: Any
) -> list[tuple[float, SlackRequest]]:
    """Record a history as it happens and deliver what is due; return the calls. `chosen` are further settings."""
    clock = Clock()
    settings = load(**{"slack": {"preview_file": "/dev/null", "channel": "C1"}, **chosen})
    slack = AcceptingSlack(clock)
    sink = SlackSink(transport=slack, clock=lambda: clock.now.timestamp())
    rules = rules_of(settings)
    sink.routed(list(rules.routes.routes))
    store = MemoryStore(rules, clock=lambda: clock.now, keep=None)
    waiting = deque(sorted(history, key=lambda item: item[0]))
    while clock.seconds < seconds:
        batch = []
        while waiting and waiting[0][0] <= clock.seconds:
            batch.append(waiting.popleft()[1])
        if batch:
            store.record_now(batch)
        await store.elapse()
        while claimed := await store.outbox.claim(SINKS, 20, lambda _, address, call: sink.rate_limits(address, call)):
            for delivery in claimed:
                try:
                    outcome: Any = await sink.deliver(delivery)
                except DeliveryError as error:
                    raise SystemExit(f"a delivery failed: {error}") from None
                await store.outbox.finish(delivery, outcome)
        clock.now += timedelta(seconds=step)
    return slack.calls


# --- histories ------------------------------------------------------------------------------------------------------


def at(seconds: float, observation: Observation) -> tuple[float, Observation]:
    return seconds, observation


def one_task() -> list[tuple[float, Observation]]:
    """Return the task of 55 s."""
    root = {
        "agent.task.name": "Fix the flaky checkout test",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "mechanic",
        "agent.repo": "acme/shop",
        "agent.requested_by": "mina",
    }
    steps = ("Understand", "Find the cause", "Mend", "Verify", "Report")
    done = [at(0.0, started(trace=1, span=1, name="invoke_agent mechanic", attributes=root))]
    for n in range(10):
        given: dict[str, Any] = {
            "agent.checkpoint.message": f"Finding number {n + 1}",
            "agent.progress": 10.0 * (n + 1) - 1,
            "agent.step.name": steps[n // 2],
            "agent.step.index": n // 2 + 1,
            "agent.step.count": len(steps),
        }
        when = 0.1 + 5.0 * n
        done.append(
            at(when, an_event(trace=1, span=1, name="agent.checkpoint", index=n + 1, attributes=given, at=when))
        )
    for n in range(26):
        is_tool, when, lasts = n % 2 == 1, 1.0 + 1.6 * n, 1.2
        given = (
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": ("read_file", "run_tests")[n % 4 == 1]}
            if is_tool
            else {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 8_000 + 3_000 * n,
                "gen_ai.usage.output_tokens": 300,
            }
        )
        name = f"{given['gen_ai.operation.name']} x"
        fails = {"status": observed.Status.ERROR, "status_message": "pytest exited 1"} if n in (9, 21) else {}
        done.append(at(when, started(trace=1, span=100 + n, parent=1, name=name, attributes=given, at=when)))
        done.append(
            at(
                when + lasts,
                ended(trace=1, span=100 + n, parent=1, name=name, attributes=given, at=when, seconds=lasts, **fails),
            )
        )
    child = {
        "agent.task.name": "Review the bisection",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "reviewer",
    }
    done.append(at(20.0, started(trace=1, span=50, parent=1, name="invoke_agent reviewer", attributes=child, at=20.0)))
    done.append(
        at(
            24.8,
            ended(trace=1, span=50, parent=1, name="invoke_agent reviewer", attributes=child, at=20.0, seconds=4.8),
        )
    )
    asked = {"agent.approval.id": "a", "agent.approval.question": "Push the fix to main?", "agent.status": "waiting"}
    answered = {"agent.approval.id": "a", "agent.approval.decision": "approve", "agent.status": "working"}
    for n, (when, name, given) in enumerate(
        ((47.2, "agent.approval.requested", asked), (49.5, "agent.approval.resolved", answered))
    ):
        done.append(at(when, an_event(trace=1, span=1, name=name, index=30 + n, attributes=given, at=when)))
    whole = root | {"agent.status": "complete"}
    done.append(at(54.7, ended(trace=1, span=1, name="invoke_agent mechanic", attributes=whole, at=0.0, seconds=54.7)))
    return done


def ten_tasks() -> list[tuple[float, Observation]]:
    """Return ten tasks that begin within 3 s; the first has eight sub-agents, five fail a tool."""
    done = []
    for n in range(10):
        trace, began = n + 1, 0.3 * n
        root = {"agent.task.name": f"Task {n + 1}", "gen_ai.operation.name": "invoke_agent"}
        done.append(at(began, started(trace=trace, span=1, name="invoke_agent", attributes=root, at=began)))
        for i in range(4):
            when = began + 0.2 + 2.0 * i
            given = {"agent.checkpoint.message": f"Finding {i + 1} of {n + 1}", "agent.progress": 25.0 * i}
            done.append(
                at(when, an_event(trace=trace, span=1, name="agent.checkpoint", index=i, attributes=given, at=when))
            )
        if n % 2:
            tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash"}
            when = began + 1.0
            failed = ended(
                trace=trace, span=9, parent=1, name="execute_tool bash", attributes=tool, at=when - 0.5, seconds=0.5,
                status=observed.Status.ERROR, status_message=f"exit status {n}",
            )  # fmt: skip
            done.append(at(when, failed))
        for i in range(8 if n == 0 else 0):
            child = {"agent.task.name": f"Part {i + 1}", "gen_ai.operation.name": "invoke_agent"}
            begins, lasts = 0.5 + 0.2 * i, 1.0 + 0.5 * i
            done.append(
                at(begins, started(trace=1, span=20 + i, parent=1, name="invoke_agent", attributes=child, at=begins))
            )
            over = ended(
                trace=1, span=20 + i, parent=1, name="invoke_agent", attributes=child, at=begins, seconds=lasts
            )
            done.append(at(begins + lasts, over))
        whole = root | {"agent.status": "complete"}
        done.append(
            at(began + 12, ended(trace=trace, span=1, name="invoke_agent", attributes=whole, at=began, seconds=12))
        )
    return done


# --- figures --------------------------------------------------------------------------------------------------------


def texts(value: Any) -> list[str]:
    """Return the texts of blocks, without ids."""
    if isinstance(value, dict):
        own = [value[key] for key in ("text", "title", "status", "color") if isinstance(value.get(key), str)]
        return own + [one for key in sorted(value) if isinstance(value[key], (dict, list)) for one in texts(value[key])]
    return [one for item in value for one in texts(item)] if isinstance(value, list) else []


def figures_of_one(calls: list[tuple[float, SlackRequest]]) -> dict[str, Any]:
    """Count the calls of one task, and the edits of its message that a person can read."""
    posts = [request for _, request in calls if request.method == "chat.postMessage"]
    replies = [request for request in posts if request.arguments.get("thread_ts")]
    root_ts, shown, edits, read = None, "", 0, 0
    for _, request in calls:
        arguments = request.arguments
        if request.method == "chat.postMessage" and not arguments.get("thread_ts"):
            shown = json.dumps(texts(arguments["blocks"]))
        elif request.method == "chat.update":
            root_ts = root_ts or arguments["ts"]
            if arguments["ts"] == root_ts:
                edits += 1
                now = json.dumps(texts(arguments["blocks"]))
                read += now != shown
                shown = now
    return {
        "history": "one task of 55 s",
        "calls": len(calls),
        "messages": len(posts) - len(replies),
        "replies": len(replies),
        "edits": edits,
        "read": read,
    }


def main() -> None:
    """Play both histories and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--texts", action="store_true", help="print each call as well")
    asked = parse(parser, {})
    one = asyncio.run(play(one_task(), 70.0))
    ten = asyncio.run(play(ten_tasks(), 60.0))
    if asked.texts:
        for name, calls in (("one", one), ("ten", ten)):
            for when, request in calls:
                place = "  reply" if request.arguments.get("thread_ts") else "root"
                said = str(request.arguments.get("text", ""))
                print(f"{name} {when:6.2f} {request.method:16} {place:8} {said.splitlines()[0][:120]}")
    headings = {
        "history": "history", "calls": "calls", "messages": "messages", "replies": "replies", "edits": "edits",
        "read": "of them read",
    }  # fmt: skip
    tell([figures_of_one(one)], headings, as_json=asked.json)
    seconds = [
        when - 0.3 * n
        for n in range(10)
        for when, request in ten
        if request.method == "chat.postMessage"
        and not request.arguments.get("thread_ts")
        and f"Task {n + 1}:" in str(request.arguments["text"])
    ]
    replies = sum(1 for _, request in ten if request.arguments.get("thread_ts"))
    row = {
        "history": "ten tasks in 3 s", "median": sorted(seconds)[len(seconds) // 2], "most": max(seconds),
        "calls": len(ten), "replies": replies,
    }  # fmt: skip
    print()
    headings = {
        "history": "history", "median": "seconds to a message, median", "most": "most", "calls": "calls",
        "replies": "replies",
    }  # fmt: skip
    tell([row], headings, as_json=asked.json, form=".1f")


if __name__ == "__main__":
    main()
