"""``spanpost db query``: read-only SQL on the database in use, the embedded one included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spanpost.domain.errors import LedgerUnavailable, SpanpostError

if TYPE_CHECKING:
    from spanpost.settings import Settings


class BadQuery(SpanpostError):
    """PostgreSQL refused the query."""


def query(settings: Settings, sql: str) -> tuple[list[str], list[list[Any]]]:
    """Return the columns' names and the rows. Raises `BadQuery` with PostgreSQL's own words."""
    with reachable(settings) as dsn:
        return asyncio.run(_query(dsn, sql))


@contextmanager
def reachable(settings: Settings) -> Iterator[str]:
    """Lend the address of the database, starting the embedded one for as long as that, or joining it where it runs."""
    if settings.dsn:
        yield settings.dsn
        return
    from spanpost.ledger.embedded import AlreadyOpen, EmbeddedPostgres

    server = EmbeddedPostgres(settings.database.data_dir, pg_bin=settings.database.pg_bin)
    try:
        dsn = server.start()
    except AlreadyOpen as running:
        if running.dsn is None:
            raise
        yield running.dsn
        return
    try:
        yield dsn
    finally:
        server.stop()


async def _query(dsn: str, sql: str) -> tuple[list[str], list[list[Any]]]:
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(f"the database cannot be reached: {error}; see `spanpost check`") from None
    try:
        async with connection.transaction(readonly=True):
            statement = await connection.prepare(sql)
            rows = await statement.fetch()
            return [column.name for column in statement.get_attributes()], [list(row) for row in rows]
    except asyncpg.PostgresError as error:
        raise BadQuery(f"{error}") from None
    finally:
        await connection.close()
