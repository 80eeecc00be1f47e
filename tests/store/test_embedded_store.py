"""The embedded database outlives its first user: the next user starts it again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from spanpost.model.queries import TaskQuery
from spanpost.store.embedded_store import EmbeddedStore
from spanpost.testing.observed import a_run

pytestmark = pytest.mark.slow


async def test_the_owner_may_leave_first(open_dir: Callable[[], Path]) -> None:
    """A store that joined another's server goes on when that one closes: both runs are recorded."""
    data_dir = open_dir() / "db"
    owner, guest = EmbeddedStore(data_dir), EmbeddedStore(data_dir)
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


@pytest.mark.proves("answered", "database-killed")
async def test_a_server_that_fell_over_is_started_again(open_dir: Callable[[], Path]) -> None:
    """When the server is killed, the next batch restarts it and is recorded; a closed store stays closed."""
    store = EmbeddedStore(open_dir() / "db")
    await store.open()
    try:
        await store.record(a_run("before"))
        server = store._server._server
        assert server is not None
        os.kill(server.pid, signal.SIGQUIT)
        server.wait()
        assert (await store.record(a_run("after", trace=2))).events
        assert {task.name for task in await store.tasks(TaskQuery())} == {"before", "after"}
    finally:
        await store.close()
    assert not store._server.is_running
