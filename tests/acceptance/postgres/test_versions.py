"""Each major version of PostgreSQL that spanpost supports: the schema, the roles, and a day's work in small.

`make test-postgres` runs all tests of the store on each of them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost.cli.query import query
from spanpost.model.outcomes import GiveUp
from spanpost.settings import DatabaseSettings
from spanpost.store.embedded_roles import READER, USER
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.testing.exercise_store import ROUTED_RULES, SINK
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import as_role
from tests.conftest import POSTGRES_VERSIONS, find, fresh_database, made_server
from tests.store.archiving.aged import LONG_AGO, age, retain, rules

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("version", POSTGRES_VERSIONS)
def test_a_version_works(version: int, tmp_path: Path) -> None:
    """The owner makes the schema, a role that owns nothing records a trace, claims its delivery and makes a month's
    partition, a reader reads, and the writer archives what is old.
    """
    with made_server(Path(find(f"postgres-{version}"))) as server, fresh_database(server) as dsn:
        assert asyncio.run(a_day(dsn, tmp_path / "archive")) == version
        read = query(DatabaseSettings(), as_role(dsn, READER), "SELECT name, status FROM agent_tasks")
        assert read == (["name", "status"], [["version", "complete"]])


async def a_day(dsn: str, directory: Path) -> int:
    owner, writer = as_role(dsn, USER), as_role(dsn, "spanpost_writer")
    assert await schema.upgrade(owner) == (schema.HEAD, schema.HEAD)
    store = PostgresStore(writer, rules=ROUTED_RULES)
    await store.open()
    assert (await store.record(a_run("version"))).events == 4
    assert (await store.record(a_run("version"))).duplicates == 4
    [delivery] = await store.outbox.claim([SINK], 1)
    await store.outbox.finish(delivery, GiveUp(reason="smoke"))
    connection: Any = await asyncpg.connect(owner)
    [month] = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_rows'::regclass ORDER BY 1 DESC "
        "OFFSET 1 LIMIT 1"
    )
    await connection.execute(f"DROP TABLE {month[0]}")
    assert await store.run(lambda c: c.fetchval("SELECT spanpost_keep_months()")) == 1
    await store.close()
    await age(connection)
    gateway: Any = await asyncpg.connect(writer)
    archived = await retain(gateway, rules(directory, tasks=2 * LONG_AGO))
    assert archived.rows > 0
    assert archived.changed == archived.left == 0
    await gateway.close()
    await connection.close()
    assert store.server is not None
    return store.server.version
