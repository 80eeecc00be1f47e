"""Fixtures that need a real component; a component that is missing skips its tests on a laptop and fails them in CI."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator

import pytest

from spanpost.domain.errors import ConfigError

pytest.register_assert_rewrite("spanpost.testing.exercise_ledger")


def missing(reason: str) -> None:
    """Skip for want of a component; where CI is set, fail: there the component should be."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=["system", "embedded"])
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """DSN of a throw-away server, of the system's PostgreSQL and of the embedded one, with a migrated database ``made``."""
    asyncpg = pytest.importorskip("asyncpg")
    from spanpost.ledger.sql.schema import upgrade
    from spanpost.testing.postgres import system_binaries, throwaway_postgres, with_database

    pg_bin = system_binaries() if request.param == "system" else None
    if request.param == "system" and pg_bin is None:
        missing("no PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")

    async def make(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE DATABASE made")
        await connection.close()
        await upgrade(with_database(dsn, "made"))

    try:
        with throwaway_postgres(pg_bin=pg_bin) as dsn:
            asyncio.run(make(dsn))
            yield dsn
    except ConfigError as error:
        missing(str(error))


_numbers = itertools.count(1)


@pytest.fixture
def postgres_dsn(postgres_server: str) -> Iterator[str]:
    """DSN of a fresh database with the schema."""
    import asyncpg

    from spanpost.testing.postgres import with_database

    name = f"test_{next(_numbers)}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"CREATE DATABASE {name} TEMPLATE made"))
    yield with_database(postgres_server, name)
    asyncio.run(run(f"DROP DATABASE {name} WITH (FORCE)"))
