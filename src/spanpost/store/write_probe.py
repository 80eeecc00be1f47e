"""Tests whether PostgreSQL takes writes: not on a standby, when set read-only, or with a full disk.

A new temporary table is filled and dropped in one transaction. Unlike a row in a table of ours it needs new
disk blocks each time (on a full disk old ones may still have free space), and it leaves nothing behind. Its
commit writes to the write-ahead log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from spanpost.model.errors import StoreUnavailable

#: Nearly empty blocks: 1 MiB is 128 of them, filled in some milliseconds.
_FILL: Final = (
    "SET LOCAL temp_tablespaces = ''",
    "CREATE TEMPORARY TABLE spanpost_write_probe (n integer) WITH (fillfactor = 10) ON COMMIT DROP",
    "INSERT INTO spanpost_write_probe SELECT generate_series(1, 2600)",
)
_REASONS: Final = {
    "53100": "the database's disk is full",
    "25006": "the database is read-only",
    "53300": "the database has no free connection",
}

Run = Callable[[Callable[[Any], Awaitable[str]]], Awaitable[str]]


async def why_not_writable(run: Run, *, tries: bool) -> str:
    """Return why no transaction can write; empty: it can. `tries`: write something, else ask only."""

    async def ask(connection: Any) -> str:
        if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
            return _REASONS["25006"]
        if tries:
            try:
                async with connection.transaction():
                    for statement in _FILL:
                        await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError:  # it may make no temporary tables
                await connection.fetchval("SELECT pg_current_xact_id()")
        return ""

    try:
        return await run(ask)
    except StoreUnavailable as error:
        state = getattr(error.__cause__, "sqlstate", None)
        return _REASONS.get(str(state), "the database cannot be reached")
