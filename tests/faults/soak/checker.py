"""The checker: what the database and Slack hold at the end, compared with what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any

from spanpost.model.checkpoints import Kind
from spanpost.sinks.slack import render
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.faults.posted import environment, final_states, left, truth
from tests.faults.soak.sent import SentSpans
from tests.faults.soak.slack_away import TOO_OLD
from tests.faults.soak.tenants import ATTACKER
from tests.faults.soak.world import Rows, World, now

#: Seconds within which something more must be recorded or delivered after the last fault.
DELIVERED_WITHIN = 180.0
#: Seconds between two looks at what waits: processor time is left to those who work it off.
_PAUSE = 0.5


def check(world: World) -> list[str]:
    """Return what is wrong, a line each; empty: every promise was kept."""
    found = [*worked_off(world.database), *world.findings]
    slack = world.slack.end()
    tasks, checkpoints, _ = asyncio.run(truth(world.database.dsn, but=ATTACKER))
    found += rows(world.database, world.sent)
    found += figures(world.sent, tasks)
    found += messages(world.sent, tasks, checkpoints, slack, are_lines_left_out=world.slack_down >= TOO_OLD)
    for actor in world.actors.values():
        found += [f"{actor.name}: {line}" for line in actor.findings()]
    return found + _sealed(world) + _logs(world)


def worked_off(database: Rows) -> list[str]:
    """Wait until all that was answered from the journal is recorded, and all deliveries arrived.

    Both may take long where several runs share the processors, but never stand still.
    """
    found = []
    for what, count in (("requests of the journal", _journaled), ("deliveries", _undelivered)):
        if waits := _left_of(partial(count, database)):
            found.append(f"{waits} {what} stand still: {asyncio.run(left(database.dsn))[:4]}")
    if found:
        return found
    states = asyncio.run(final_states(database.dsn, DELIVERED_WITHIN))  # a stall may be concluded just now
    if set(states) - {"delivered"}:
        found.append(f"deliveries are left: {dict(states)}: {asyncio.run(left(database.dsn))[:4]}")
    return found


def _left_of(count: Callable[[], int]) -> int:
    """Wait until nothing is left, or it does not fall any more; return what is left."""
    least, fell = count(), now()

    def is_over(waits: int) -> bool:
        nonlocal least, fell
        if waits < least:
            least, fell = waits, now()
        return not waits or now() - fell > DELIVERED_WITHIN

    return eventually(count, is_over, inf, _PAUSE)


def _journaled(database: Rows) -> int:
    return int(database.rows("SELECT count(*) FROM journal")[0][0])


def _undelivered(database: Rows) -> int:
    return int(database.rows("SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'sending')")[0][0])


def _some(what: str, wrong: Iterable[object]) -> list[str]:
    """Return one finding for all of a kind, with the first three."""
    listed = list(wrong)
    return [f"{len(listed)} {what}: {', '.join(map(str, listed[:3]))}"] if listed else []


def rows(database: Rows, sent: SentSpans) -> list[str]:
    """Each acknowledged span and event is one row, and no row is there twice."""
    recorded = Counter(
        (bytes(trace), bytes(span), part, index)
        for trace, span, part, index in database.rows(
            f"SELECT trace_id, span_id, part, idx FROM agent_events WHERE part < 3 AND tenant <> '{ATTACKER}'"
        )
    )
    missing = sent.acknowledged - recorded.keys()
    given_up = f"{sent.unacknowledged} spans were not acknowledged after the last fault"
    return [
        *_some("acknowledged and missing", (f"{t.hex()} {s.hex()} {p} {i}" for t, s, p, i in missing)),
        *_some("rows that are there twice", (key for key, count in recorded.items() if count > 1)),
        *([given_up] if sent.unacknowledged else []),
        *_some("in quarantine", database.rows(f"SELECT * FROM quarantine WHERE tenant <> '{ATTACKER}' LIMIT 10")),
    ]


def figures(sent: SentSpans, tasks: dict[str, Any]) -> list[str]:
    """Tasks of completely acknowledged spans have the figures that were sent."""
    wrong = []
    for each in sent.tasks.values():
        task = tasks.get(each.task_id)
        if task is None:
            wrong.append(f"{each.task_id} is missing")
            continue
        has = (task.status, task.llm_calls, task.tool_calls, task.input_tokens, task.output_tokens)
        if has != each.figures:
            wrong.append(f"{each.task_id} has {has}, sent was {each.figures}")
    return _some("tasks with other figures", wrong)


def messages(
    sent: SentSpans,
    tasks: dict[str, Any],
    checkpoints: dict[str, Any],
    slack: dict[str, Any],
    *,
    are_lines_left_out: bool = False,
) -> list[str]:
    """Each task has one message, with the newest text, and each checkpoint stands once in its thread."""
    kept = Counter(
        (each.task_uid, each.kind is Kind.CHECKPOINT) for each in checkpoints.values() if each.kind is not Kind.START
    )
    there = [m for channel in slack["channels"].values() for m in channel if m.get("subtype") != "tombstone"]
    roots, replies = list[dict[str, Any]](), list[dict[str, Any]]()
    for message in there:
        (replies if message.get("thread_ts", message["ts"]) != message["ts"] else roots).append(message)

    def doubled(of: Sequence[dict[str, Any]]) -> list[str]:
        keys = Counter(m["metadata"]["event_payload"]["k"] for m in of if "metadata" in m)
        return [key for key, count in keys.items() if count > 1]

    shown, lines = Counter(m["text"] for m in roots), Counter(m["thread_ts"] for m in replies)
    of_text = {m["text"]: m["ts"] for m in roots}
    without, threads = [], []
    for each in sent.tasks.values():
        task = tasks.get(each.task_id)
        if task is None:
            continue
        text = render.root(task, (), key="").text
        if shown[text] != 1:
            near = [other for other in shown if each.name in other]
            without.append(f"{text!r} is there {shown[text]} times; near: {near}")
            continue
        if are_lines_left_out:  # older lines are recorded and not posted
            continue
        reported, concluded = kept[task.uid, True], kept[task.uid, False]  # the end, a failure, a loop
        if (reported, reported + concluded) != (each.checkpoints, lines[of_text[text]]):
            said = f"{lines[of_text[text]]} lines, kept are {reported} and {concluded}, sent were {each.checkpoints}"
            threads.append(f"{each.name}: {said}")
    return [
        *_some("doubled messages", doubled(roots)),
        *_some("doubled lines of threads", doubled(replies)),
        *_some("tasks without one message of their newest text", without),
        *_some("threads with other lines", threads),
    ]


def _sealed(world: World) -> list[str]:
    """`spanpost audit verify` finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "spanpost", "audit", "verify"],
        env=environment(DATABASE_URL=world.database.dsn, **world.settings()),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return [f"audit verify: {(done.stdout + done.stderr)[-600:]}"] if done.returncode else []


def _logs(world: World) -> list[str]:
    """No gateway wrote a traceback."""
    wrong = []
    for number, gateway in enumerate(world.gateways):
        _, is_there, rest = gateway.log.partition("Traceback (most recent call last)")
        if is_there:
            wrong.append(f"gateway {number} logged a traceback: {rest.strip()[-800:]}")
    return wrong


def size_of(world: World) -> int:
    """Return the MiB of the database."""
    return int(world.database.rows("SELECT pg_database_size(current_database())")[0][0]) >> 20


def saved(path: Any, result: dict[str, Any]) -> None:
    """Append a run's result as a line of JSON."""
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(result) + os.linesep)
