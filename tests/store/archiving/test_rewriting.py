"""Archives are written again without erased rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing, parquet, recovering
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.rewriting import finish, rewrite
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import a_run
from tests.store.archiving.aged import age, back, deliver, retain, rules

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")


@pytest.fixture
async def archive(store: PostgresStore, database: Any, tmp_path: Path) -> Archive:
    """The archive of the audit rows of two runs."""
    await store.record(back([*a_run("erased", trace=1), *a_run("kept", trace=2)]))
    await deliver(store)
    await age(database)
    await retain(database, rules(tmp_path / "archive"))
    [found] = [a for a in await listing.archives(database) if a.source.startswith("audit_rows")]
    return found


def keeps(batch: Any) -> Any:
    """Keep the rows of the second trace."""
    return pc.equal(batch.column("trace_id"), f"{2:032x}")


def traces(path: Path) -> list[str]:
    """Return the traces of the rows of a file."""
    return sorted(pa.Table.from_batches(parquet.batches(path, ["trace_id"])).column("trace_id").to_pylist())


async def test_a_file_is_made_again_without_erased_rows(archive: Archive, database: Any, tmp_path: Path) -> None:
    """The new file is listed with its own number, size and hash; the old one is gone; a repeat changes nothing."""
    directory = tmp_path / "archive"
    async with database.transaction():
        changed = await rewrite(database, directory, archive, keeps)
    assert changed is not None
    finish(directory, archive, changed)
    assert await listing.archives(database, id=archive.id) == [changed]
    assert traces(directory / changed.path) == [f"{2:032x}"] * changed.rows
    assert 0 < changed.rows < archive.rows
    assert not (directory / archive.path).exists()
    assert files.hash_of(directory / changed.path) == changed.sha256
    assert b"erased" not in (directory / changed.path).read_bytes()
    async with database.transaction():
        assert await rewrite(database, directory, changed, keeps) == changed


async def test_a_file_without_any_row_left_is_deleted(archive: Archive, database: Any, tmp_path: Path) -> None:
    """When all rows are refused, file and row are gone."""
    directory = tmp_path / "archive"
    async with database.transaction():
        assert await rewrite(database, directory, archive, lambda batch: pa.array([False] * batch.num_rows)) is None
    finish(directory, archive, None)
    assert await listing.archives(database, id=archive.id) == []
    assert not (directory / archive.path).exists()


async def test_a_rewriting_that_is_rolled_back_leaves_the_old_file(
    archive: Archive, database: Any, tmp_path: Path
) -> None:
    """Without its commit, the old file is listed and whole, and the new one is cleared away by the next run."""
    directory = tmp_path / "archive"
    transaction = database.transaction()
    await transaction.start()
    await rewrite(database, directory, archive, keeps)
    await transaction.rollback()
    await recovering.recover(database, directory)
    assert await listing.archives(database, id=archive.id) == [archive]
    assert files.hash_of(directory / archive.path) == archive.sha256
    assert not list(directory.rglob(".*"))


@pytest.mark.parametrize("is_renamed", [False, True])
async def test_a_kill_after_the_commit_leaves_no_erased_row(
    is_renamed: bool, archive: Archive, database: Any, tmp_path: Path
) -> None:
    """Killed between the commit and the end, the next run puts the new file in its place and deletes the old one."""
    directory = tmp_path / "archive"
    async with database.transaction():
        changed = await rewrite(database, directory, archive, keeps)
    assert changed is not None
    if is_renamed:
        files.give_name(files.partial(directory / changed.path), directory / changed.path)
    await recovering.recover(database, directory)
    assert not (directory / archive.path).exists()
    assert traces(directory / changed.path) == [f"{2:032x}"] * changed.rows


async def test_a_file_that_was_changed_is_not_rewritten(archive: Archive, database: Any, tmp_path: Path) -> None:
    """A file that is not the listed one is refused: nobody knows what is in it."""
    with (tmp_path / "archive" / archive.path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="is not the file that was written"):
        await rewrite(database, tmp_path / "archive", archive, keeps)
