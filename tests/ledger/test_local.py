"""The embedded database outlives whoever started it: its next user starts it again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from spanpost.ledger.base import TaskQuery
from spanpost.ledger.local import LocalLedger
from spanpost.testing.observed import a_run


async def test_the_owner_may_leave_first(open_dir: Callable[[], Path]) -> None:
    """A ledger that joined another's server goes on when that one closes: both runs are there."""
    data_dir = open_dir() / "db"
    owner, guest = LocalLedger(data_dir), LocalLedger(data_dir)
    await owner.open()
    await guest.open()
    try:
        await owner.record(a_run("first"))
        await guest.record(a_run("second", trace=2))
        await owner.close()
        assert (await guest.record(a_run("third", trace=3))).events
        assert {task.name for task in await guest.tasks(TaskQuery())} == {"first", "second", "third"}
    finally:
        await guest.close()


async def test_a_server_that_fell_over_is_started_again(open_dir: Callable[[], Path]) -> None:
    """When the server is killed, the next batch brings it back and is recorded; a closed ledger stays closed."""
    ledger = LocalLedger(open_dir() / "db")
    await ledger.open()
    try:
        await ledger.record(a_run("before"))
        server = ledger._server._server
        assert server is not None
        os.kill(server.pid, signal.SIGQUIT)
        server.wait()
        assert (await ledger.record(a_run("after", trace=2))).events
        assert {task.name for task in await ledger.tasks(TaskQuery())} == {"before", "after"}
    finally:
        await ledger.close()
    assert not ledger._server.is_running
