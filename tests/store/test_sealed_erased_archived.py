"""The sealed log stays valid while rows are archived, restored and erased, in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.store.archiving import listing
from spanpost.store.archiving.restoring import restore
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.verified import Verified
from spanpost.store.sealing.verifying import verify
from tests.store.archiving.aged import KEEP, age, back, deliver, retain, rules
from tests.store.erasing_history import ALICE, BOB, NEEDLES, a_task, act, erased, found
from tests.store.sealing.sealed import seal

#: One server: `test_erasing` tries both.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]
pytest.importorskip("pyarrow")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_UNSEALED = """
SELECT count(*) FROM audit_rows r WHERE NOT EXISTS (
  SELECT FROM sealed_rows s WHERE s.row_id = r.event_id AND s.row_hash = r.content_hash AND s.row_at = r.occurred_at)"""


async def verified(database: Any, directory: Path) -> Verified:
    """Return the result of a verification, which found nothing wrong, against every checkpoint that was signed, with
    the files of archives.
    """
    notes = [row[0] for row in await database.fetch("SELECT note FROM seal_checkpoints")]
    async with database.transaction(isolation="repeatable_read", readonly=True):
        result = await verify(
            database, outside=notes, trusted=[KEY.public_key().public_bytes_raw()], directory=directory
        )
    assert [(finding.leaf, finding.what) for finding in result.findings] == []
    return result


async def history(store: PostgresStore, database: Any) -> None:
    """Record tasks of long ago and of today, with a person in some of them; seal all."""
    await store.record(back(a_task(1, requested_by="alice@wonder.example")))
    await store.record(back(a_task(2, attributes={"user.email": "alice@wonder.example"})))
    await store.record(back(a_task(3, requested_by="bob@wonder.example")))
    await act(store, ALICE)
    await act(store, BOB, 901)
    await deliver(store)
    await age(database)
    await store.record(a_task(4, requested_by="alice@wonder.example"))
    await store.record(a_task(5, attributes={"user.email": "alice@wonder.example"}))
    await store.record(a_task(6, requested_by="bob@wonder.example"))
    await act(store, ALICE, 902)
    await seal(database, KEY)


async def leaves(database: Any) -> int:
    return int(await database.fetchval("SELECT sum(size) FROM seal_logs"))


async def restored(database: Any, directory: Path) -> None:
    for archive in await listing.archives(database):
        await restore(database, directory, archive, keep=KEEP)


async def expire(database: Any) -> None:
    await database.execute("UPDATE archives SET restored_until = clock_timestamp() - interval '1 s'")


async def test_archived_and_restored_rows_keep_their_leaves(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Archived rows count as archived; restored ones are the sealed ones and get no second leaf."""
    await history(store, database)
    directory = tmp_path / "archive"
    before = await verified(database, directory)
    await retain(database, rules(directory))
    archived = await verified(database, directory)
    assert archived.archived > 0
    assert archived.rows + archived.archived == before.rows
    await seal(database, KEY)
    assert (await verified(database, directory)).archived == archived.archived
    count = await leaves(database)
    await restored(database, directory)
    await seal(database, KEY)
    again = await verified(database, directory)
    assert (again.archived, await leaves(database)) == (0, count)
    await expire(database)
    await retain(database, rules(directory))
    await seal(database, KEY)
    assert (await verified(database, directory)).archived == archived.archived


async def test_a_person_is_erased_from_tables_and_archives(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Half of the tasks are archived: the log is valid after the erasure, and changed rows have a leaf anew."""
    await history(store, database)
    directory = tmp_path / "archive"
    await retain(database, rules(directory))
    await seal(database, KEY)
    await erased(database, directory, person=("alice@wonder.example",))
    assert (await verified(database, directory)).erased > 0
    await seal(database, KEY)
    assert (await verified(database, directory)).erased > 0
    assert await database.fetchval(_UNSEALED) == 0
    # The comment stays where another person wrote the same.
    assert await found(database, NEEDLES[:3]) == []
    await restored(database, directory)
    await seal(database, KEY)
    await verified(database, directory)
    assert await database.fetchval(_UNSEALED) == 0


@pytest.mark.parametrize("asked", [{"person": ("alice@wonder.example",)}, {"task": "task-default-1"}])
async def test_an_erasure_while_rows_are_restored(
    store: PostgresStore, database: Any, tmp_path: Path, asked: dict[str, Any]
) -> None:
    """Rows in a file and in the tables lose their salt once; those that stay are sealed anew and archived again."""
    await history(store, database)
    directory = tmp_path / "archive"
    await retain(database, rules(directory))
    await restored(database, directory)
    await seal(database, KEY)
    await erased(database, directory, **asked)
    await verified(database, directory)
    await seal(database, KEY)
    assert (await verified(database, directory)).erased > 0
    assert await database.fetchval(_UNSEALED) == 0
    for _ in range(2):
        await expire(database)
        await database.execute("UPDATE archives SET written_at = written_at - interval '1 year'")
        await retain(database, rules(directory))
        await seal(database, KEY)
        await verified(database, directory)
    old = "SELECT count(*) FROM audit_rows WHERE occurred_at < clock_timestamp() - interval '200 days'"
    assert await database.fetchval(old) == 0


async def test_the_log_names_each_archive_as_it_is_now(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """An erasure makes files again: a leaf of the log holds the new SHA-256, with the leaves of the rows that stay."""
    await history(store, database)
    directory = tmp_path / "archive"
    await retain(database, rules(directory))
    await seal(database, KEY)
    was = {archive.id: archive.sha256 for archive in await listing.archives(database)}
    await erased(database, directory, person=("alice@wonder.example",))
    await seal(database, KEY)
    await verified(database, directory)
    made_again = 0
    for archive in await listing.archives(database):
        if archive.source not in ("audit_rows", "audit_rows_rest", "human_interventions"):
            continue
        made_again += was[archive.id] != archive.sha256
        noted = await database.fetch(
            "SELECT rows, (SELECT sum(upper(r) - lower(r)) FROM unnest(leaves) AS r) AS leaves FROM seal_notes n"
            " WHERE archive = $1 AND EXISTS (SELECT FROM sealed_rows s WHERE s.row_id = n.id)",
            archive.sha256,
        )
        assert [tuple(row) for row in noted] == [(archive.rows, archive.rows)]
    assert made_again > 0


async def test_the_log_of_an_erased_tenant_proves_its_erasure(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """A tenant goes, half of it from archives: its log stays valid against older checkpoints, holds no salt and no text
    of its rows, says who erased them, why and how many, and goes on with the tenant's next rows.
    """
    directory = tmp_path / "archive"
    person = {"attributes": {"user.email": "alice@wonder.example"}, "tenant": "acme"}
    await store.record([*back(a_task(1, requested_by="alice@wonder.example", **person)), *back(a_task(2))])
    await age(database)
    await store.record([*a_task(3, **person), *a_task(4)])
    await seal(database, KEY)
    await retain(database, rules(directory))
    await seal(database, KEY)
    size = await database.fetchval("SELECT size FROM seal_logs WHERE tenant = 'acme'")
    await erased(database, directory, tenant="acme")
    assert await found(database, ("alice@wonder.example", "task-acme", "work 1", "work 3", "racme")) == []
    assert not list(directory.glob("tenant=acme/*/*.parquet"))
    for _ in range(2):
        result = await verified(database, directory)
        of_acme = [one for one in result.let_go if one.tenant == "acme" and one.kind == "erased"]
        assert {(one.actor, one.reason) for one in of_acme} == {("root@tests", "ticket 18")}
        notes = await database.fetchval("SELECT count(*) FROM sealed_rows WHERE tenant = 'acme' AND source = 3")
        assert await database.fetchval("SELECT count(*) FROM sealed_rows WHERE tenant = 'acme'") == notes
        assert sum(one.rows for one in of_acme) == result.erased
        await seal(database, KEY)
    assert notes < size
    await store.record(a_task(5, tenant="acme"))
    await seal(database, KEY)
    assert await database.fetchval("SELECT size FROM seal_logs WHERE tenant = 'acme'") > size
    await verified(database, directory)
