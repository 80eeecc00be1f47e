"""``spanpost db query``: read-only SQL on the database in use, the embedded one included."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from spanpost.domain.errors import ConfigError, SpanpostError

if TYPE_CHECKING:
    from spanpost.settings import Settings


class BadQuery(SpanpostError):
    """PostgreSQL refused the query."""


def query(settings: Settings, sql: str) -> tuple[list[str], list[list[Any]]]:
    """Return the columns' names and the rows. Raises `BadQuery` with PostgreSQL's own words."""
    from spanpost.ledger.local import reachable

    database = settings.database
    with reachable(settings.dsn, database.data_dir, database.pg_bin) as dsn:
        return asyncio.run(_query(dsn, sql))


async def _query(dsn: str, sql: str) -> tuple[list[str], list[list[Any]]]:
    import asyncpg

    from spanpost.ledger.sql import schema

    try:
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
    except (*schema.UNREACHABLE, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigError(schema.unreachable(error)) from None
    try:
        async with connection.transaction(readonly=True):
            statement = await connection.prepare(sql)
            rows = await statement.fetch()
            return [column.name for column in statement.get_attributes()], [list(row) for row in rows]
    except asyncpg.PostgresError as error:
        raise BadQuery(f"{error}") from None
    finally:
        await connection.close()
