"""A process that is frozen for longer than its lease while it holds deliveries: another takes them over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.sinks.slack import render
from tests.conftest import ROOT
from tests.faults.posted import Slack, environment, final_states, left, settings, truth

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]
#: The shortest that the settings allow: a lease is twice as long.
SHORTEST = {"SPANPOST_NOTIFICATIONS__DELIVERY_TIMEOUT": "2"}


def begin(dsn: str, slack: str, began: int, journal: Path, *frozen: str) -> subprocess.Popen[str]:
    """Start a process that records a task in one transaction and posts it; `frozen` says at which moment it stops."""
    return subprocess.Popen(
        [sys.executable, "-m", *(frozen or ["tests.faults.sender"]), "1", "1", "0", str(began), str(journal)],
        cwd=ROOT,
        env=environment(DATABASE_URL=dsn, **settings(slack) | SHORTEST),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.proves("one-message", "replica-frozen")
@pytest.mark.proves("delivered", "replica-frozen")
@pytest.mark.parametrize("moment", ["claimed", "answered"])
def test_what_a_frozen_process_holds_is_taken_over_and_posted_once(dsn: str, tmp_path: Path, moment: str) -> None:
    """Frozen beyond its lease before a call or after its answer: another posts all; awake, it doubles nothing."""
    began = time.time_ns()
    slack = Slack(tmp_path / "slack.json")
    frozen = begin(dsn, slack.url, began, tmp_path / "frozen", "tests.faults.frozen_dispatcher", moment)
    other = None
    try:
        _, status = os.waitpid(frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status
        other = begin(dsn, slack.url, began, tmp_path / "other")  # the same task: its sender repeats it
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "recorded"
        states = asyncio.run(final_states(dsn, 60))
        assert states == {"delivered": sum(states.values())}, asyncio.run(left(dsn))
        held = states["delivered"]
        os.kill(frozen.pid, signal.SIGCONT)
        for process in (frozen, other):
            process.communicate("\n", timeout=60)
            assert process.returncode == 0
        states = asyncio.run(final_states(dsn, 60))
        state = slack.end()
    finally:
        for each in (frozen, other):
            if each is not None:
                each.kill()
                each.wait()
        slack.close()
    tasks, checkpoints, _ = asyncio.run(truth(dsn))
    assert len(tasks) == 1
    assert states["delivered"] == sum(states.values()) >= held
    [messages] = [channel for channel in state["channels"].values() if channel]
    keys = Counter(message["metadata"]["event_payload"]["k"] for message in messages)
    assert set(keys.values()) == {1}
    roots = [m["text"] for m in messages if m.get("thread_ts", m["ts"]) == m["ts"]]
    assert roots == [render.root(task, (), key="").text for task in tasks.values()]
    replies = len(messages) - len(roots)
    assert replies == sum(each.kind is not Kind.START for each in checkpoints.values())
