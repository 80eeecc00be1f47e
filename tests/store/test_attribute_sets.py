"""Attribute sets: attributes that audit rows share are stored once, and `agent_events` shows each row whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Origin
from spanpost.store import attribute_sets
from spanpost.store.attribute_sets import AttributeSets, Content
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import an_event, ended

pytestmark = pytest.mark.acceptance

ORIGIN = Origin(resource={"service.name": "shop", "n": 1}, scope="lib", scope_version="2.0")
SHARED = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.finish_reasons": ["stop"]}


def calls(first: int, count: int, **more: Any) -> list[Observation]:
    """Return model calls, each in its own trace, with equal shared attributes and a number of their own."""
    return [
        msgspec.structs.replace(
            ended(trace=n, span=n, name="chat m", attributes={**SHARED, "n": n, **more}), origin=ORIGIN
        )
        for n in range(first, first + count)
    ]


def _text(origin: Origin) -> str:
    return msgspec.json.encode(origin.resource).decode()


async def shown(database: Any) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        "SELECT name, attributes::text, resource::text, scope, idx, seq, links::text, producer, status_message, body"
        " FROM agent_events ORDER BY (attributes->>'n')::int"
    )
    return [(row[0], msgspec.json.decode(row[1]), msgspec.json.decode(row[2]), *row[3:]) for row in rows]


async def test_rows_share_a_set_and_show_as_they_came(store: PostgresStore, database: Any) -> None:
    """Rows after the first few name one attribute set, hold only their own, and read as complete ones."""
    await store.record(calls(1, 5))
    await store.record(calls(6, 5))
    sets = await database.fetch("SELECT id, name, tenant FROM attribute_sets WHERE name IS NOT NULL")
    assert [tuple(row)[1:] for row in sets] == [("chat m", "default")]
    own = await database.fetch("SELECT attributes::text, name, resource FROM audit_rows WHERE set_id = $1", sets[0][0])
    assert [(msgspec.json.decode(row[0]).keys(), row[1], row[2]) for row in own] == [({"n"}, None, None)] * 5
    assert await shown(database) == [
        ("chat m", {**SHARED, "n": n}, ORIGIN.resource, "lib 2.0", 0, 0, "[]", "", "", None) for n in range(1, 11)
    ]


async def test_a_row_without_attributes_of_its_own(store: PostgresStore, database: Any) -> None:
    """A row with only shared attributes, and one without any, read as they came."""
    for first in (1, 7):
        spans = [msgspec.structs.replace(o, attributes=SHARED) for o in calls(first, 6)]
        events = [an_event(trace=n, span=n, name="exception", index=n) for n in range(first, first + 6)]
        await store.record([*spans, *events])
    rows = await database.fetch("SELECT part, idx, attributes::text FROM agent_events")
    assert sorted((row[0], row[1], msgspec.json.decode(row[2]) == [SHARED, {}][row[0] // 2]) for row in rows) == sorted(
        [(0, 0, True)] * 12 + [(2, n, True) for n in range(1, 13)]
    )
    own = await database.fetch(
        "SELECT part, attributes::text, count(*) FROM audit_rows WHERE set_id IS NOT NULL GROUP BY 1, 2"
    )
    assert {tuple(row) for row in own} == {(0, None, 6), (2, "{}", 6)}


async def test_unique_values_make_no_sets(store: PostgresStore, database: Any) -> None:
    """Rows whose shared attributes all differ name the set of their sender alone."""
    for first in (1, 11, 21):
        await store.record([o for n in range(first, first + 10) for o in calls(n, 1, **{"agent.id": f"unique {n}"})])
    assert await database.fetchval("SELECT count(*) FROM attribute_sets WHERE name IS NOT NULL") == 0
    assert await database.fetchval("SELECT count(*) FROM audit_rows WHERE set_id IS NOT NULL") == 20
    assert [row[1]["agent.id"] for row in await shown(database)] == [f"unique {n}" for n in range(1, 31)]


async def test_a_large_resource_is_stored_once(store: PostgresStore, database: Any) -> None:
    """Rows whose body states a large resource once hold it once, whatever their names and attributes."""
    origin = Origin(resource={"key": "x" * 2 * attribute_sets.LARGE}, scope="lib")
    for first in (1, 101):
        batch = [msgspec.structs.replace(o, origin=origin) for n in range(first, first + 100) for o in calls(n, 1)]
        named = [msgspec.structs.replace(o, name=f"chat {n // 5}") for n, o in enumerate(batch)]
        await store.record(named)
    assert await database.fetchval("SELECT count(*) FROM attribute_sets WHERE resource = $1", _text(origin)) == 1
    assert await database.fetchval("SELECT count(*) FROM audit_rows WHERE resource IS NOT NULL") == 0
    assert [row[2:4] for row in await shown(database)] == [(origin.resource, "lib")] * 200


async def test_a_large_resource_of_a_batch_that_is_rolled_back_leaves_no_set(
    store: PostgresStore, database: Any
) -> None:
    """A set that a transaction made for its own rows is used by others only once it is committed."""
    await database.execute("ALTER TABLE audit_rows ADD CONSTRAINT no CHECK (false)")
    origin = Origin(resource={"key": "x" * 2 * attribute_sets.LARGE}, scope="lib")
    batch = [msgspec.structs.replace(o, origin=origin) for o in calls(1, 10)]
    assert (await store.record(batch)).dropped
    await database.execute("ALTER TABLE audit_rows DROP CONSTRAINT no; DELETE FROM quarantine")
    await database.execute("DELETE FROM attribute_sets")
    await store.record(batch)
    assert [row[2] for row in await shown(database)] == [origin.resource] * 10


async def test_a_set_with_other_content_is_not_used(store: PostgresStore, database: Any) -> None:
    """No row names a set whose content differs from its id's."""
    await store.record(calls(1, 5))
    await store._sets.learn(store.run)
    await database.execute('UPDATE attribute_sets SET resource = \'{"service.name": "forged"}\'')
    other = AttributeSets()
    store._sets = other
    await store.record(calls(6, 5))
    await store.record(calls(11, 5))
    assert {row[2]["service.name"] for row in await shown(database)} == {"shop"}


async def test_tenants_share_no_set(store: PostgresStore, database: Any) -> None:
    """Equal content of two tenants is two sets."""
    for first in (1, 6):
        for tenant, at in (("red", 0), ("blue", 100)):
            await store.record([msgspec.structs.replace(o, tenant=tenant) for o in calls(first + at, 5)])
    found = await database.fetch(
        "SELECT DISTINCT r.tenant, s.tenant FROM audit_rows r JOIN attribute_sets s ON s.id = r.set_id ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [("blue", "blue"), ("red", "red")]


async def test_a_process_asks_again_before_unused_sets_are_deleted(store: PostgresStore, database: Any) -> None:
    """Retention deletes unnamed sets last requested two days ago; a process relies on a set for half a day."""
    await store.record(calls(1, 5))
    await store.record(calls(6, 5))
    await database.execute("UPDATE attribute_sets SET used_at = used_at - interval '3 days'")
    unused = (
        "INSERT INTO attribute_sets (id, tenant, resource, scope, used_at) "
        "VALUES ($1, 'default', '{}', '', now() - $2::interval)"
    )
    await database.execute(unused, 1, timedelta(days=3))
    await database.execute(unused, 2, timedelta(days=1))
    named = set(await database.fetchval("SELECT array_agg(DISTINCT set_id) FROM audit_rows WHERE set_id IS NOT NULL"))
    await database.execute("SELECT spanpost_tidy()")
    assert set(await database.fetchval("SELECT array_agg(id) FROM attribute_sets")) == named | {2}
    assert timedelta(days=2) > attribute_sets.FRESH


async def test_knowledge_of_a_set_ends(store: PostgresStore) -> None:
    """Half a day after a process requested a set, it requests it again before it names it."""
    now = datetime.now(UTC)
    sets, content = AttributeSets(), Content("default", msgspec.Raw(b'{"a":1}'), "lib")
    for _ in range(4):
        assert sets.find(content, now) is None
        sets.note(content, 1)
    await sets.learn(store.run)
    assert sets.find(content, now) == content.id
    assert sets.find(content, now + attribute_sets.FRESH + timedelta(minutes=1)) is None
