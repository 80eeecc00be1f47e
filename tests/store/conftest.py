"""Fixtures that need a real component; a missing one skips its tests on a laptop and fails them in CI."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from spanpost.model.errors import ConfigError
from spanpost.testing.exercise_store import ROUTED_RULES
from tests.conftest import fresh_database, made_server

if TYPE_CHECKING:
    from spanpost.store.postgres import PostgresStore


def missing(reason: str) -> None:
    """Skip for a missing component; in CI fail: there the component should be."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


#: `make test-postgres` names the system's server, and repeats nothing with the embedded one.
SERVERS = ["system"] if "TEST_POSTGRES" in os.environ else ["system", "embedded"]


@pytest.fixture(scope="session", params=SERVERS)
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """DSN of a throw-away server, of the system's and of the embedded PostgreSQL, with a migrated database."""
    pytest.importorskip("asyncpg")
    if request.param == "system":
        yield request.getfixturevalue("server")
        return
    try:
        with made_server(None) as dsn:
            yield dsn
    except ConfigError as error:
        missing(str(error))


@pytest.fixture
def postgres_dsn(postgres_server: str) -> Iterator[str]:
    """DSN of a fresh database with the schema."""
    with fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """A store on a fresh database."""
    from spanpost.store.postgres import PostgresStore

    made = PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=4)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Any]:
    """A connection to the same database."""
    import asyncpg

    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()
