"""Three processes post to a Slack that throttles, fails, resets and hangs, and are killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.sinks.slack import render
from tests.conftest import ROOT
from tests.faults.posted import Slack, environment, final_states, impatient, left, settings, truth, watch_claims
from tests.faults.stream import EVENTS, task

PROCESSES = 3
TASKS = int(os.environ.get("SPANPOST_TEST_TASKS", "40"))
KILLS = max(12, TASKS // 8)
#: Faults of the calls: reliability.md, 3.6.
FAULTS = {
    "throttle": 0.05,
    "500 before": 0.05,
    "reset before": 0.03,
    "reset after": 0.07,
    "500 after": 0.05,
    "hang after": 0.05,
}
ODDS = {"posts": FAULTS, "updates": FAULTS, "lookups": {"throttle": 0.03, "500 before": 0.05, "reset before": 0.05}}
#: Seconds of a 429's Retry-After.
RETRY_AFTER = 3
FIRE = ("--odds", json.dumps(ODDS), "--stale", "1.0", "--seed", "11", "--retry-after", str(RETRY_AFTER))

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(1800)]


class Sender:
    """One of the processes, killed and started again on the same journal."""

    def __init__(self, mine: int, began: int, journal: Path, dsn: str, slack: str) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.faults.sender",
            str(TASKS),
            str(PROCESSES),
            str(mine),
            str(began),
            str(journal),
        ]
        self._environment = environment(DATABASE_URL=dsn, **settings(slack))
        self._log = journal.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait_recorded(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "recorded", self._log.read_text()

    def end(self) -> None:
        self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, self._log.read_text()


@pytest.mark.proves("retry-after", "slack-throttles")
@pytest.mark.proves("one-message", "gateway-killed", "slack-answer-lost", "slack-throttles", "lookup-fails")
def test_each_task_has_one_message_and_each_checkpoint_one_reply(
    dsn: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Under faults and kills each task has one current message, each checkpoint one reply, no limit is exceeded."""
    began = time.time_ns()
    asyncio.run(watch_claims(dsn))
    with ExitStack() as stack:
        slack = Slack(tmp_path / "slack.json", *FIRE)
        stack.callback(slack.close)
        senders = [Sender(mine, began, tmp_path / f"journal-{mine}", dsn, slack.url) for mine in range(PROCESSES)]
        for sender in senders:
            stack.callback(sender.process.kill)
        chance = random.Random(3)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 2.0))  # the moment of the kill is the test's dice
            victim = chance.choice(senders)
            victim.kill()
            victim.start()
        for sender in senders:
            sender.wait_recorded()
        states = asyncio.run(final_states(dsn, max(300, TASKS * 3)))
        waiting = asyncio.run(left(dsn))
        for sender in senders:
            sender.end()
        state = slack.end()

    tasks, checkpoints, rows = asyncio.run(truth(dsn))
    assert states == {"delivered": sum(states.values())}, waiting
    assert (
        rows == TASKS * EVENTS == sum(len({(o.part, o.span_id, o.index) for o in task(n, began)}) for n in range(TASKS))
    )
    assert len(tasks) == TASKS

    [messages] = [channel for channel in state["channels"].values() if channel]
    roots = [m for m in messages if m.get("thread_ts", m["ts"]) == m["ts"]]
    keys = Counter(m["metadata"]["event_payload"]["k"] for m in roots)
    assert set(keys.values()) == {1}
    assert len(roots) == TASKS
    expected = {render.root(t, (), key="").text for t in tasks.values()}
    assert {m["text"] for m in roots} == expected

    replies = Counter(m["metadata"]["event_payload"]["k"] for m in messages if m.get("thread_ts", m["ts"]) != m["ts"])
    assert set(replies.values()) == {1}
    later = [c for c in checkpoints.values() if c.kind is not Kind.START]
    assert len(replies) == len(later)
    # Arrival times depend on the machine, and a killed reader of a 429 is unknown: the test judges the
    # claims.
    too_soon, closings = asyncio.run(impatient(dsn))
    assert too_soon == []
    assert closings > 0
    record_property(
        "size", f"{TASKS} tasks, {rows} rows, {KILLS} kills, {sum(state['faults'].values())} faults of Slack"
    )
