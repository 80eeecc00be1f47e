"""Flush and shutdown while the database hangs: they end, and report what was not recorded."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.processes.conftest import Run

pytestmark = pytest.mark.slow

#: A foreign transaction that blocks all recording until it ends.
HANG = """
import asyncio, asyncpg, threading
class Lock:
    def __init__(self):
        self.is_held = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.hold()), daemon=True).start()
        self.is_held.wait()
    async def hold(self):
        self.loop, self.released = asyncio.get_running_loop(), asyncio.Event()
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        async with connection.transaction():
            await connection.execute("LOCK TABLE audit_rows, agent_tasks IN ACCESS EXCLUSIVE MODE")
            self.is_held.set()
            await self.released.wait()
        await connection.close()
    def release(self):
        self.loop.call_soon_threadsafe(self.released.set)
"""


@pytest.mark.proves("bounded-end", "database-hangs")
def test_a_flush_while_the_database_hangs(run: Run, database: Database) -> None:
    """A flush gives up while the database still hangs, whatever its timeout; after the hang everything is
    recorded.
    """
    code = (
        HANG
        + """
app = spanpost.attach()
lock = Lock()
agent("a").end()
assert not spanpost.flush(0.2)
assert not trace.get_tracer_provider().force_flush(10**9)
assert not app.force_flush()
lock.release()
assert spanpost.flush(20)
"""
    )
    assert run(code, DATABASE_URL=database.dsn) == ""
    assert database.tasks == [("a", "complete")]


@pytest.mark.proves("bounded-end", "database-hangs")
def test_a_shutdown_while_the_database_hangs(run: Run, database: Database) -> None:
    """The process ends while the database still hangs, and reports that not everything was recorded."""
    code = (
        HANG
        + """
spanpost.attach()
lock = Lock()
agent("a").end(); left = agent("b")
"""
    )
    assert "not everything was recorded" in run(code, DATABASE_URL=database.dsn)
    assert database.tasks == []


@pytest.mark.proves("counted-losses")
def test_a_flush_reports_a_loss(run: Run) -> None:
    """An overflow of the queue makes the next flush return False, and the one after it True."""
    code = """
        import threading
        app = spanpost.attach(intake={"queue_size": 64})
        held = threading.Event()
        app._loop.call(held.wait)  # as a slow store would hold it up
        for n in range(2000): agent(str(n)).end()
        held.set()
        assert app.dropped["queue_full"]
        assert (spanpost.flush(20), spanpost.flush(20)) == (False, True)
    """
    run(code)
