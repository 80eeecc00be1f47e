"""Locks on domains with a real PostgreSQL: which batches wait for which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.store.locks import FINE, lock, lock_free, try_lock
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.record_keys import domain_of, tenant_key
from spanpost.testing.builders import a_span

pytestmark = pytest.mark.acceptance

FEW = {bytes([n]) * 16 for n in range(3)}
MINE, THEIRS = tenant_key("mine"), tenant_key("theirs")
MANY = {n.to_bytes(16, "big") for n in range(FINE + 1)}
#: A domain of neither.
OTHER = bytes([77]) * 16


@pytest.fixture
async def two(postgres_dsn: str) -> AsyncIterator[tuple[Any, Any]]:
    """Two connections, each within a transaction."""
    first, second = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)
    await first.execute("BEGIN")
    await second.execute("BEGIN; SET LOCAL lock_timeout = '200ms'")
    yield first, second
    await first.close()
    await second.close()


async def waits(connection: Any, domains: set[bytes]) -> bool:
    try:
        await lock(connection, domains)
    except asyncpg.LockNotAvailableError:
        return True
    return False


class Asked:
    """A connection that only keeps what a statement was given."""

    async def fetchval(self, _sql: str, *given: Any) -> None:
        self.keys = given[2]


@pytest.mark.proves("replicas")
@given(st.sets(st.binary(min_size=16, max_size=16), max_size=20), st.sets(st.text(max_size=3), min_size=1, max_size=3))
def test_locks_are_asked_for_in_one_order(domains: set[bytes], tenants: set[str]) -> None:
    """Whatever two batches have in common, both ask for it in rising order: neither holds what the other waits for."""
    asked = Asked()
    asyncio.run(lock(asked, domains | set(map(tenant_key, tenants))))
    assert asked.keys == sorted(set(asked.keys))
    assert len(asked.keys) <= len(domains) + len(tenants)


@pytest.mark.parametrize(
    ("held", "asked", "is_kept_waiting"),
    [
        (FEW, {OTHER}, False),
        (FEW, {OTHER, bytes([1]) * 16}, True),
        (MANY, FEW, True),
        (FEW, MANY | FEW, True),
        (MANY, MANY, True),
    ],
    ids=["strangers", "one in common", "few after many", "many after few", "many after many"],
)
async def test_who_has_a_domain_in_common_waits(
    two: tuple[Any, Any], held: set[bytes], asked: set[bytes], is_kept_waiting: bool
) -> None:
    """Batches of different domains run concurrently; those that share one do not, however many either has."""
    first, second = two
    await lock(first, {MINE, *held})
    assert await waits(second, {MINE, *asked}) is is_kept_waiting


async def test_a_tenant_in_common_is_none(two: tuple[Any, Any]) -> None:
    """Hundreds of domains do not wait for hundreds of others of the same tenant."""
    first, second = two
    await lock(first, {MINE, *(n.to_bytes(16, "big") for n in range(400))})
    assert not await waits(second, {MINE, *(n.to_bytes(16, "big") for n in range(400, 800))})


async def test_very_many_of_one_tenant_keep_no_other_waiting(two: tuple[Any, Any]) -> None:
    """A batch with too many domains for single locks keeps its own tenant waiting, and no other."""
    first, second = two
    await lock(first, {MINE, *MANY})
    assert not await waits(second, {THEIRS, OTHER})
    assert not await waits(second, {THEIRS, *(n.to_bytes(16, "little") for n in range(FINE + 1))})
    assert await try_lock(second, {THEIRS, OTHER}, {b"free" * 4})
    assert (await lock_free(second, {THEIRS, OTHER}))[1] == set()


async def test_what_is_tried_is_had_at_once_or_not(two: tuple[Any, Any]) -> None:
    """A further domain is locked without waiting; a locked one, or one too many, is refused."""
    first, second = two
    await lock(first, FEW)
    await lock(second, {OTHER})
    assert not await asyncio.wait_for(try_lock(second, {OTHER}, set(FEW)), 60)
    assert await try_lock(second, {OTHER}, {b"free" * 4})
    assert await try_lock(first, set(FEW), set(FEW))  # its own
    assert not await try_lock(first, set(FEW), MANY)
    assert await waits(second, {bytes([0]) * 16})


async def test_a_batch_of_many_traces_waits_for_nobody_who_has_none_of_them(
    two: tuple[Any, Any], postgres_dsn: str
) -> None:
    """A batch of many domains is recorded in parts, so that others' domains are not blocked."""
    await lock(two[0], {n.to_bytes(16, "little") for n in range(400)})
    store = PostgresStore(postgres_dsn)
    await store.open()
    try:
        batch = [a_span(trace=n, attributes={"gen_ai.operation.name": "invoke_agent"}) for n in range(1, FINE + 10)]
        recorded = await asyncio.wait_for(store.record(batch), 60)
    finally:
        await store.close()
    assert (recorded.events, len(recorded.tasks)) == (len(batch), len(batch))


async def test_what_is_free_is_had_and_the_rest_is_named(two: tuple[Any, Any]) -> None:
    """Of several domains the free ones are locked at once, and the locked ones returned."""
    first, second = two
    await lock(first, FEW)
    _, taken = await asyncio.wait_for(lock_free(second, FEW | {OTHER}), 60)
    assert taken == FEW
    assert not await try_lock(first, set(FEW), {OTHER})
    _, taken = await asyncio.wait_for(lock_free(second, {b"free" * 4}), 60)
    assert taken == set()


async def test_all_of_them_are_taken_where_somebody_has_very_many(two: tuple[Any, Any]) -> None:
    """If another holds very many domains of a tenant, none is free: the tenant's key is returned."""
    first, second = two
    await lock(first, {MINE, *MANY})
    asked = {MINE, *sorted(MANY)[:3]}
    _, taken = await asyncio.wait_for(lock_free(second, asked), 60)
    assert taken == {MINE}


@pytest.mark.proves("replicas")
async def test_a_batch_waits_for_a_trace_that_somebody_holds_with_that_trace_alone(
    two: tuple[Any, Any], postgres_dsn: str
) -> None:
    """The free traces of a batch commit while another process holds one, and that one afterwards."""
    first, looking = two
    held, free = 1, range(2, 6)
    await lock(first, {domain_of("default", held.to_bytes(16, "big"))})
    batch = [a_span(trace=n, attributes={"gen_ai.operation.name": "invoke_agent"}) for n in (held, *free)]
    assert batch[0].trace_id == held.to_bytes(16, "big")
    await looking.execute("COMMIT")

    async def recorded_by_now() -> list[int]:
        found = await looking.fetch("SELECT trace_id FROM agent_events WHERE part = 0 ORDER BY trace_id")
        return [int.from_bytes(row[0], "big") for row in found]

    store = PostgresStore(postgres_dsn)
    await store.open()
    try:
        recording = asyncio.create_task(store.record(batch))
        async with asyncio.timeout(60):
            while await recorded_by_now() != [*free]:
                assert not recording.done()
                await asyncio.sleep(0.02)
        assert not recording.done()
        await first.execute("COMMIT")
        recorded = await asyncio.wait_for(recording, 60)
        assert await recorded_by_now() == [held, *free]
    finally:
        await store.close()
    assert (recorded.events, len(recorded.tasks)) == (len(batch), len(batch))
