"""The sealer: every committed row has one leaf, in any order of commits, and checkpoints sign what the tables hold."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.store import roles
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing import checkpoints, leaves, tree
from spanpost.store.sealing.sealer import Sealer
from tests.store.sealing.sealed import act, record, said, seal

pytestmark = pytest.mark.acceptance


async def test_rows_have_one_leaf_each(store: PostgresStore, database: Any) -> None:
    """Audit rows of two tenants get leaves in their own logs, whose signed roots follow from the entries."""
    key = Ed25519PrivateKey.generate()
    await record(store, "a", 300)
    await record(store, "b", 5)
    await seal(database, key)
    await record(store, "a", 10, first=1000)
    await seal(database, key)
    counts = dict(await database.fetch("SELECT tenant, count(*) FROM audit_rows GROUP BY 1"))
    found = await database.fetch("SELECT tenant, note, size FROM seal_checkpoints ORDER BY tenant, size")
    newest = {row["tenant"]: checkpoints.opened(row["note"], [key.public_key().public_bytes_raw()]) for row in found}
    assert {tenant: one.size for tenant, one in newest.items()} == {"a": counts["a"] + 1, "b": counts["b"] + 1}
    for tenant, one in newest.items():
        bundles = await database.fetch("SELECT body FROM seal_entries WHERE tenant = $1 ORDER BY bundle", tenant)
        hashes = [tree.leaf_hash(leaf) for row in bundles for leaf in leaves.unbundled(row["body"])]
        assert tree.root_of(hashes) == one.root
        assert one.origin == f"here/{tenant}"


async def test_a_row_of_a_late_commit_is_sealed(store: PostgresStore, database: Any, postgres_dsn: str) -> None:
    """Rows of a transaction that is still open when later ones are sealed get their leaves after it has ended, and
    those of one that was rolled back never.
    """
    key = Ed25519PrivateKey.generate()
    for is_kept in (True, False):
        other = await asyncpg.connect(postgres_dsn)
        transaction = other.transaction()
        await transaction.start()
        await act(other, "t")
        await record(store, "t", 20, first=1 + 100 * is_kept)
        await seal(database, key)
        assert await unsealed(database) == 20
        await (transaction.commit() if is_kept else transaction.rollback())
        await other.close()
        await seal(database, key)
        assert await unsealed(database) == 0
    assert await doubled(database) == 0


@pytest.mark.proves("named")
async def test_two_sealers_make_one_log(store: PostgresStore, database: Any, postgres_dsn: str) -> None:
    """Two sealers at the same time, while rows are recorded, give every row one leaf of a valid log."""
    key = Ed25519PrivateKey.generate()
    other = await asyncpg.connect(postgres_dsn)

    async def recording() -> None:
        for first in range(1, 600, 60):
            await record(store, "t", 60, first=first)

    await asyncio.gather(recording(), seal(database, key), seal(other, key))
    await asyncio.gather(seal(database, key), seal(other, key))
    await other.close()
    assert (await unsealed(database), await doubled(database)) == (0, 0)
    assert await said(database) == []


@pytest.mark.proves("named", "connections-cut")
@pytest.mark.parametrize("step", ["sealed", "signed"])
async def test_a_sealer_that_is_killed_loses_and_doubles_nothing(
    store: PostgresStore, database: Any, postgres_dsn: str, step: str
) -> None:
    """A sealer whose connection ends before its transaction does leaves the log as it was; the next one goes on."""
    key = Ed25519PrivateKey.generate()
    await record(store, "t", 300)
    await seal(database, key)
    await record(store, "t", 300, first=1000)
    other = await asyncpg.connect(postgres_dsn)

    def kill(at: str) -> None:
        if at == step:
            other.terminate()

    sealer = Sealer(other, "here", key, kill)

    async def go_on() -> None:
        while True:
            await sealer.step()
            await sealer.sign()

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await go_on()
    await seal(database, key)
    assert (await unsealed(database), await doubled(database)) == (0, 0)
    assert await said(database) == []


async def test_a_restored_dump_is_continued(store: PostgresStore, database: Any) -> None:
    """On another server transactions are counted anew: old rows, sealed or not, and new ones have one leaf."""
    key = Ed25519PrivateKey.generate()
    await record(store, "t", 30)
    await seal(database, key)
    await record(store, "t", 30, first=1000)
    await database.execute("UPDATE seal_state SET cluster = 'another', sealed_before = sealed_before + 1000000")
    await database.execute("UPDATE audit_rows SET written_in = written_in + 1000000")
    await record(store, "t", 30, first=2000)
    await seal(database, key)
    assert (await unsealed(database), await doubled(database)) == (0, 0)
    await record(store, "t", 30, first=3000)
    await seal(database, key)
    assert (await unsealed(database), await doubled(database)) == (0, 0)


async def test_a_log_that_was_changed_is_not_signed(store: PostgresStore, database: Any) -> None:
    """The sealer does not sign a log whose beginning is not what it signed before."""
    key = Ed25519PrivateKey.generate()
    await record(store, "t", 30)
    await seal(database, key)
    await database.execute("UPDATE seal_tiles SET hashes = sha256('x') || substr(hashes, 33)")
    await record(store, "t", 30, first=1000)
    with pytest.raises(ValueError, match="audit verify"):
        await seal(database, key)


async def test_a_writer_may_seal(store: PostgresStore, database: Any) -> None:
    """The rights of a gateway's role are enough to seal and sign."""
    key = Ed25519PrivateKey.generate()
    await database.execute("DROP ROLE IF EXISTS seal_writer")
    await database.execute("CREATE ROLE seal_writer")
    await roles.grant(database, {"writer": "seal_writer"})
    await record(store, "t", 30)
    await database.execute("SET ROLE seal_writer")
    await seal(database, key)
    await database.execute("RESET ROLE")
    assert await unsealed(database) == 0
    await database.execute("DROP OWNED BY seal_writer")
    await database.execute("DROP ROLE seal_writer")


async def unsealed(database: Any) -> int:
    return await database.fetchval(
        "SELECT (SELECT count(*) FROM audit_rows) + (SELECT count(*) FROM human_interventions)"
        " - (SELECT count(*) FROM sealed_rows WHERE source <= 2)"
    )


async def doubled(database: Any) -> int:
    return await database.fetchval(
        "SELECT (SELECT sum(size) FROM seal_logs)"
        " - (SELECT count(DISTINCT (source, row_id, row_hash)) FROM sealed_rows)"
    )
