"""Who waits for whom: locks on domains before a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from spanpost.ledger.locks import FINE, lock, try_lock
from spanpost.ledger.postgres import PostgresLedger
from spanpost.testing.builders import a_span

pytestmark = pytest.mark.acceptance

FEW = {bytes([n]) * 16 for n in range(3)}
MANY = {n.to_bytes(16, "big") for n in range(FINE + 1)}
#: A domain that is in neither.
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
    """Batches of different domains go side by side; those that share one do not, however many either has."""
    first, second = two
    await lock(first, held)
    assert await waits(second, asked) is is_kept_waiting


async def test_a_stripe_in_common_is_none(two: tuple[Any, Any]) -> None:
    """Hundreds of domains, whose stripes overlap by far, do not wait for hundreds of others."""
    first, second = two
    await lock(first, {n.to_bytes(16, "big") for n in range(400)})
    assert not await waits(second, {n.to_bytes(16, "big") for n in range(400, 800)})


async def test_what_is_tried_is_had_at_once_or_not(two: tuple[Any, Any]) -> None:
    """Further domains are locked without waiting; what somebody has, or what makes too many, is not."""
    first, second = two
    await lock(first, FEW)
    await lock(second, {OTHER})
    assert not await asyncio.wait_for(try_lock(second, {OTHER}, set(FEW)), 5)
    assert await try_lock(second, {OTHER}, {b"free" * 4})
    assert await try_lock(first, set(FEW), set(FEW))  # its own
    assert not await try_lock(first, set(FEW), MANY)
    assert await waits(second, {bytes([0]) * 16})


async def test_a_batch_of_many_traces_waits_for_nobody_who_has_none_of_them(two: tuple[Any, Any], postgres_dsn: str) -> None:
    """More domains than are locked one by one are recorded some at a time: who has others in hand keeps nobody waiting."""
    await lock(two[0], {n.to_bytes(16, "little") for n in range(400)})
    ledger = PostgresLedger(postgres_dsn)
    await ledger.open()
    try:
        batch = [a_span(trace=n, attributes={"gen_ai.operation.name": "invoke_agent"}) for n in range(1, FINE + 10)]
        recorded = await asyncio.wait_for(ledger.record(batch), 60)
    finally:
        await ledger.close()
    assert (recorded.events, len(recorded.tasks)) == (len(batch), len(batch))
