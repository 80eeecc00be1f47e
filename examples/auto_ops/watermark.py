"""Which alerts are done: rows of a small table, ``auto_ops``, beside spanpost's own.

An alert is worked on while a session holds its advisory lock, so by one process at a time, and the lock of a
process that is killed is free at once. A row that is done is never taken again. What was approved is run at
most once: `acting` is committed before. The watermark is what the rows say: the oldest alert that is not
done, else the newest. Alerts arrive late, so each query goes back further.

Advisory locks are a session's: a PgBouncer in between must pool sessions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg

#: Maximum delay between an alert's start and its arrival: Alertmanager's `group_wait`, an outage on the way.
LATE = timedelta(hours=1)
#: Maximum attempts at a failed piece of work.
TRIES = 3

_TABLE = """
CREATE TABLE IF NOT EXISTS auto_ops (
    alert text PRIMARY KEY,
    fired_at timestamptz NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    acting boolean NOT NULL DEFAULT false,
    done_at timestamptz,
    outcome text
)"""
_MARK = "SELECT coalesce(min(fired_at) FILTER (WHERE done_at IS NULL), max(fired_at)) FROM auto_ops"
# An alert that was taken a moment ago may be newer than the list.
_OVER = """
UPDATE auto_ops SET done_at = now(), outcome = 'over before it was done'
WHERE done_at IS NULL AND fired_at >= $1 AND taken_at < now() - $2::interval AND alert <> ALL($3::text[])"""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('auto_ops:' || $1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('auto_ops:' || $1, 0))"
_TAKE = """
INSERT INTO auto_ops (alert, fired_at, tries) VALUES ($1, $2, 1)
ON CONFLICT (alert) DO UPDATE SET tries = auto_ops.tries + 1, taken_at = now() WHERE auto_ops.done_at IS NULL
RETURNING tries, acting"""


class Work:
    """One alert that only this process works on."""

    def __init__(self, connection: asyncpg.Connection, alert: str, *, tries: int, was_acting: bool) -> None:
        self._connection, self._alert = connection, alert
        self.tries = tries
        #: A process was stopped between approval and outcome: it is unknown whether the action ran.
        self.was_acting = was_acting

    async def acting(self) -> None:
        """Record that the approved action runs now."""
        await self._connection.execute("UPDATE auto_ops SET acting = true WHERE alert = $1", self._alert)

    async def done(self, outcome: str) -> None:
        """Record that the alert is done."""
        await self._connection.execute(
            "UPDATE auto_ops SET done_at = now(), outcome = $2 WHERE alert = $1", self._alert, outcome[:500]
        )


class Watermark:
    """The table. `url` is spanpost's database, or any other PostgreSQL."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, *, makes_table: bool = True) -> Watermark:
        """Connect, and create the table if it does not exist."""
        pool = await asyncpg.create_pool(url, min_size=1, max_size=10, timeout=10)
        if makes_table:
            async with pool.acquire() as connection, connection.transaction():
                # Two processes that start at once would both create it.
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('auto_ops'))")
                await connection.execute(_TABLE)
        return cls(pool)

    async def close(self) -> None:
        """Close all connections, which releases the locks."""
        await self._pool.close()

    async def since(self) -> datetime | None:
        """Return the time from which alerts are handled; None if there was none yet."""
        if await self._pool.fetchval("SELECT to_regclass('auto_ops')") is None:
            return None
        mark = await self._pool.fetchval(_MARK)
        return mark - LATE if mark is not None else None

    async def over(self, since: datetime, firing: list[str]) -> None:
        """Mark leftover alerts as done that no longer fire; `firing` are those that do and began since."""
        await self._pool.execute(_OVER, since, LATE, firing)

    async def is_done(self, alert: str) -> bool:
        """Return whether an alert is done."""
        if await self._pool.fetchval("SELECT to_regclass('auto_ops')") is None:
            return False
        return bool(await self._pool.fetchval("SELECT done_at IS NOT NULL FROM auto_ops WHERE alert = $1", alert))

    @asynccontextmanager
    async def take(self, alert: str, fired_at: datetime) -> AsyncIterator[Work | None]:
        """Lock an alert while it is worked on. None if it is done, or another process works on it."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(_LOCK, alert):
                yield None
                return
            try:
                row = await connection.fetchrow(_TAKE, alert, fired_at)
                yield Work(connection, alert, tries=row["tries"], was_acting=row["acting"]) if row is not None else None
            finally:
                if not connection.is_closed():
                    await connection.execute(_UNLOCK, alert)
