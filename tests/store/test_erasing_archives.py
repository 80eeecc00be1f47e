"""Erasure reaches archives: files are made again without what is erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import listing, parquet
from spanpost.store.archiving.restoring import restore
from spanpost.store.postgres import PostgresStore
from tests.store.archiving.aged import KEEP, age, back, retain, rules
from tests.store.erasing_history import ALICE, NEEDLES, a_task, act, deliver, erased, found

#: One server: `test_erasing` tries both.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]
pytest.importorskip("pyarrow")


async def archived(store: PostgresStore, database: Any, directory: Path) -> None:
    """Archive tasks of two people, and a task in which the first acted."""
    await store.record(back(a_task(1, requested_by="alice@wonder.example")))
    await store.record(back(a_task(2, attributes={"user.email": "alice@wonder.example"})))
    await store.record(back(a_task(3, requested_by="bob@wonder.example")))
    await act(store, ALICE)
    await deliver(store)
    await age(database)
    await retain(database, rules(directory))
    assert await database.fetchval("SELECT count(*) FROM archives") > 5


def in_files(directory: Path) -> str:
    """Return all values of all files, in lower case."""
    rows = [
        row for path in directory.rglob("*.parquet") for batch in parquet.batches(path) for row in batch.to_pylist()
    ]
    return str(rows).lower()


@pytest.mark.proves("erased")
async def test_a_person_is_gone_from_every_file(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Nothing of the person is in a file; other tasks' rows are, can be restored, and each file is the listed one."""
    directory = tmp_path / "archive"
    await archived(store, database, directory)
    assert all(needle in in_files(directory) for needle in NEEDLES)
    await erased(database, directory, person=("alice@wonder.example",))
    said = in_files(directory)
    assert [needle for needle in NEEDLES if needle in said] == []
    assert "task-default-1" not in said
    assert "bob@wonder.example" in said
    assert await found(database) == []
    for archive in await listing.archives(database):
        await restore(database, directory, archive, keep=KEEP)
    assert await database.fetchval("SELECT count(*) FROM agent_events WHERE task_uid IS NOT NULL") >= 4
    assert await found(database) == []


async def test_archives_that_cannot_be_reached_stop_an_erasure(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Without the directory, or without a file, nothing is erased: an erasure that leaves archives out is none."""
    directory = tmp_path / "archive"
    await archived(store, database, directory)
    with pytest.raises(ConfigError, match=r"retention\.directory is not set"):
        await erased(database, person=("alice@wonder.example",))
    next(directory.rglob("*.parquet")).unlink()
    with pytest.raises(ConfigError, match="missing"):
        await erased(database, directory, person=("alice@wonder.example",))


async def test_a_tenants_files_are_deleted(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Of an erased tenant no file is left; the other tenant's files stay."""
    directory = tmp_path / "archive"
    for tenant in ("acme", "other"):
        await store.record(back(a_task(1, tenant=tenant)))
    await deliver(store)
    await age(database)
    await retain(database, rules(directory))
    await erased(database, directory, tenant="acme")
    assert {archive.tenant for archive in await listing.archives(database)} == {"other"}
    assert "task-acme-1" not in in_files(directory)
    assert "task-other-1" in in_files(directory)
