"""Three processes post a stream of tasks to a Slack that throttles, fails, resets and hangs, and are killed all the while."""

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
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spanpost.domain.checkpoints import Kind
from spanpost.ledger.base import TaskQuery
from spanpost.sinks.slack import render
from spanpost.testing.fake_slack import TOKEN
from tests.conftest import ROOT, find, fresh_database, made_server
from tests.faults.stream import EVENTS, task

PROCESSES = 3
TASKS = int(os.environ.get("SPANPOST_TEST_TASKS", "40"))
#: What becomes of the calls: reliability.md, 3.6.
FAULTS = {"throttle": 0.05, "500 before": 0.05, "reset before": 0.03, "reset after": 0.07, "500 after": 0.05, "hang after": 0.05}
ODDS = {"posts": FAULTS, "updates": FAULTS, "lookups": {"throttle": 0.03, "500 before": 0.05, "reset before": 0.05}}
#: Seconds that a 429 asks for; and those in which a call that was claimed before may still arrive from another process.
PATIENCE, IN_FLIGHT = 2, 1.0

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def dsn() -> Iterator[str]:
    with made_server(Path(find("postgres"))) as server, fresh_database(server) as dsn:
        yield dsn


class Slack:
    """The fake Slack, as a process of its own."""

    def __init__(self, state: Path) -> None:
        self._state = state
        command = [sys.executable, "-m", "spanpost.testing.fake_slack", "--state", str(state), "--odds", json.dumps(ODDS)]
        command += ["--stale", "1.0", "--seed", "11", "--retry-after", str(PATIENCE)]
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def end(self) -> Any:
        """Stop it; return its state."""
        self._process.terminate()
        self._process.wait(30)
        return json.loads(self._state.read_text())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **more}


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
        self._environment = environment(
            DATABASE_URL=dsn,
            SPANPOST_SLACK__TOKEN=TOKEN,
            SPANPOST_SLACK__BASE_URL=slack,
            SPANPOST_SLACK__TIMEOUT="1",
            SPANPOST_SLACK__SETTLE="3",
            SPANPOST_SLACK__EDITS_PER_MINUTE="6000",
            SPANPOST_SLACK__POSTS_PER_MINUTE="12000",
            SPANPOST_SLACK__POSTS_PER_CHANNEL_PER_MINUTE="12000",
            SPANPOST_SLACK__LOOKS_PER_MINUTE="600",
        )
        self._log = journal.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
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


async def settled(dsn: str, seconds: float) -> Counter[str]:
    """Look until no letter waits or is under way, or the time is over; return the letters by state."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    deadline = time.monotonic() + seconds
    try:
        while True:
            rows = await connection.fetch("SELECT state, count(*) FROM deliveries GROUP BY 1")
            states = Counter({row[0]: row[1] for row in rows})
            if not states["waiting"] and not states["sending"]:
                return states
            if time.monotonic() > deadline:
                return states
            await asyncio.sleep(0.5)  # between two looks at other processes' work
    finally:
        await connection.close()


async def truth(dsn: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return tasks by id, told checkpoints by id, and the number of audit rows."""
    from spanpost.ledger.postgres import PostgresLedger

    ledger = PostgresLedger(dsn)
    await ledger.open()
    tasks = {t.task_id: t for t in await ledger.tasks(TaskQuery(limit=10_000))}
    told = {str(c.id): c for c in await ledger.checkpoints(limit=1_000_000)}
    rows = (await ledger.counts())["agent_events"]
    await ledger.close()
    return tasks, told, rows


def test_each_task_has_one_message_and_each_news_one_reply(dsn: str, tmp_path: Path) -> None:
    """Under faults and kills: one root message a task with the newest text, no news missing or doubled, nobody impatient."""
    began = time.time_ns()
    with ExitStack() as stack:
        slack = Slack(tmp_path / "slack.json")
        stack.callback(slack.close)
        senders = [Sender(mine, began, tmp_path / f"journal-{mine}", dsn, slack.url) for mine in range(PROCESSES)]
        for sender in senders:
            stack.callback(sender.process.kill)
        chance = random.Random(3)
        kills = 0
        until = time.monotonic() + max(20.0, TASKS / 6)
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.5, 2.0))  # the moment of the kill is the test's dice
            victim = chance.choice(senders)
            victim.kill()
            victim.start()
            kills += 1
        for sender in senders:
            sender.wait_recorded()
        states = asyncio.run(settled(dsn, max(300, TASKS * 3)))
        for sender in senders:
            sender.end()
        state = slack.end()

    tasks, told, rows = asyncio.run(truth(dsn))
    assert kills >= 10
    assert states == {"delivered": sum(states.values())}
    assert rows == TASKS * EVENTS == sum(len({(o.part, o.span_id, o.index) for o in task(n, began)}) for n in range(TASKS))
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
    news = [c for c in told.values() if c.kind is not Kind.START]
    assert len(replies) == len(news)
    assert [early for early in state["early"] if early["since"] > IN_FLIGHT] == []
    print(f"{TASKS} tasks, {kills} kills, {dict(state['faults'])}")
