"""A process that is frozen while it holds locks: the others go on, and it records its batch when it wakes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from spanpost.model.errors import StoreUnavailable
from spanpost.model.queries import TaskQuery
from spanpost.store import transactions
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_stall import AGENT
from spanpost.testing.observed import ended
from tests.conftest import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.fixture(params=["between", "copying"])
def frozen(dsn: str, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Start a process that stopped in the middle of a transaction."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.frozen", request.param],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    yield child
    child.kill()
    child.wait()


@pytest.mark.proves("frozen", "replica-frozen")
async def test_a_frozen_process_keeps_no_locks_and_loses_nothing(
    dsn: str, frozen: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process with a locked task delays others only briefly; when it wakes, it records its batch anew."""
    monkeypatch.setattr(transactions, "IDLE", timedelta(seconds=1))
    monkeypatch.setattr(transactions, "WAIT", 2.0)
    store = PostgresStore(dsn)
    await store.open()
    more = AGENT | {"agent.task.id": "shared"}
    batch = [ended(trace=9, span=1, name="agent", attributes=more)]
    refused = 0
    while True:
        try:
            assert (await store.record(batch)).events > 0
            break
        except StoreUnavailable:  # the caller keeps it and tries again
            refused += 1
            assert refused < 20

    os.kill(frozen.pid, signal.SIGCONT)
    said, _ = await asyncio.to_thread(frozen.communicate, timeout=90)
    assert (said.split(), frozen.returncode) == (["True", "0"], 0)
    [task] = await store.tasks(TaskQuery(task_id="shared"))
    assert task.runs == 2
    texts = [c.text for c in await store.reader.checkpoints() if c.kind == "checkpoint"]
    assert texts == ["told once"]
    await store.close()
