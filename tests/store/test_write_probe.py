"""Whether PostgreSQL takes writes is found out with few rights, and without leaving anything behind."""

from __future__ import annotations

import pytest

from spanpost.store.postgres import PostgresStore
from spanpost.testing.postgres import as_role
from tests.conftest import WRITER

pytestmark = pytest.mark.needs("postgres")


async def probed(dsn: str) -> list[str]:
    """Return what the store says, asked and tried."""
    store = PostgresStore(dsn)
    await store.open()
    try:
        return [await store.why_not_writable(tries=tries) for tries in (False, True)]
    finally:
        await store.close()


async def test_a_role_with_a_gateways_rights_can_find_out(dsn: str) -> None:
    """With the rights of a gateway alone, also without temporary tables, a writable database is writable."""
    name = dsn.partition("@/")[2].partition("?")[0]
    for rights in (f"GRANT TEMPORARY ON DATABASE {name} TO PUBLIC", f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"):
        await _run(dsn, rights)
        assert await probed(as_role(dsn, WRITER)) == ["", ""]


async def test_a_read_only_database_is_known_without_a_write(dsn: str) -> None:
    """A database that is set read-only is known by asking, and again writable when the setting is gone."""
    name = dsn.partition("@/")[2].partition("?")[0]
    store = PostgresStore(dsn)
    await store.open()
    try:
        await _run(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await store._pool.expire_connections()
        assert await store.why_not_writable(tries=False) == "the database is read-only"
        await _run(dsn, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET ALL")
        await store._pool.expire_connections()
        assert await store.why_not_writable(tries=True) == ""
    finally:
        await store.close()


async def _run(dsn: str, *statements: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
