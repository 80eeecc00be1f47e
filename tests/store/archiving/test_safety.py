"""Archiving is interrupted, refused and disturbed: no row is lost, and none is there twice."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing, parquet, recovering, running
from spanpost.store.archiving.sources import SOURCES
from spanpost.store.archiving.writing import Watch
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER
from tests.store.archiving.aged import LONG_AGO, age, back, contents, deliver, retain, rules

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")
STEPS = ("copied", "verified", "listed", "named", "deleted", "removed", "placement", "finished")


@pytest.fixture
async def aged(store: PostgresStore, database: Any) -> dict[str, list[str]]:
    """The rows of a database with two runs of long ago."""
    await store.record(back([*a_run("one", trace=1), *a_run("two", trace=2)]))
    await deliver(store)
    await age(database)
    return await contents(database)


async def archived(database: Any, directory: Path) -> Counter[tuple[str, ...]]:
    """Return how often each key is in a file whose rows have left the table."""
    found: Counter[tuple[str, ...]] = Counter()
    for archive in await listing.archives(database, states=["removed"]):
        source = SOURCES[archive.source]
        for batch in parquet.batches(directory / archive.path):
            values = [map(str, batch.column(name).to_pylist()) for name in source.key]
            found.update((source.target, *key) for key in zip(*values, strict=True))
    return found


def stop_at(step: str) -> Watch:
    """Return a function that raises at a step."""

    def watch(at: str) -> None:
        if at == step:
            raise InterruptedError(step)

    return watch


@pytest.mark.proves("archived", "killed-at-each-step")
@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_is_killed_loses_and_doubles_nothing(
    step: str, aged: dict[str, list[str]], database: Any, postgres_dsn: str, tmp_path: Path
) -> None:
    """Killed at a step of its second file, and then run to its end, it has archived each row exactly once."""
    directory = tmp_path / "archive"
    time = "1" if step in ("placement", "finished") else "2"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.archiving.killed", postgres_dsn, str(directory), step, time, cwd=ROOT
    )
    assert await process.wait() == -signal.SIGKILL
    # What is not in a table is in a file that is listed and whole.
    left = await contents(database)
    listed = await listing.archives(database, states=["removed"])
    assert sum(a.rows for a in listed) + sum(map(len, left.values())) == sum(map(len, aged.values()))
    for archive in listed:
        assert files.hash_of(directory / archive.path) == archive.sha256
    await retain(database, rules(directory, rows_per_file=3))
    assert all(not rows for rows in (await contents(database)).values())
    rows = await archived(database, directory)
    assert sum(rows.values()) == sum(map(len, aged.values()))
    assert set(rows.values()) == {1}
    # Nothing is left over.
    listed = await listing.archives(database)
    kept = {directory / archive.path for archive in listed} | {directory / files.MARKER}
    assert {path for path in directory.rglob("*") if path.is_file()} == kept


async def test_a_row_that_changes_meanwhile_is_not_removed(
    aged: dict[str, list[str]], database: Any, tmp_path: Path
) -> None:
    """If a row changes between its copy and its removal, the file is discarded and the next run archives it anew."""
    given = rules(tmp_path / "archive")
    with pytest.raises(InterruptedError):
        await retain(database, given, watch=stop_at("named"))
    [archive] = await listing.archives(database)
    assert archive.state == "written"
    assert archive.source.startswith("audit_rows")
    await database.execute("UPDATE audit_rows SET subtree = '\\x01'::bytea")
    done = await retain(database, given)
    assert done.changed == 1
    assert not (tmp_path / "archive" / archive.path).exists()
    assert done.rows == sum(map(len, aged.values()))


@pytest.mark.proves("archived")
async def test_a_full_disk_deletes_nothing(aged: dict[str, list[str]], database: Any, tmp_path: Path) -> None:
    """When no more can be written, the run says so, database and directory are as before, and the next one works."""
    directory = tmp_path / "archive"
    given = rules(directory)
    await recovering.open_directory(database, directory)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="is full: nothing was deleted"):
            await retain(database, given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await contents(database) == aged
    assert not list(directory.rglob("*.parquet*"))
    assert (await retain(database, given)).rows == sum(map(len, aged.values()))


@pytest.mark.proves("archived", "bit-flips")
async def test_a_file_that_is_not_what_was_written_is_refused(
    aged: dict[str, list[str]], database: Any, tmp_path: Path
) -> None:
    """If a byte of the file changes before the rows are removed, they stay in the database."""
    given = rules(tmp_path / "archive")
    with pytest.raises(InterruptedError):
        await retain(database, given, watch=stop_at("named"))
    [archive] = await listing.archives(database)
    path = tmp_path / "archive" / archive.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not the file that was written"):
        await retain(database, given)
    assert await contents(database) == aged
    error = await database.fetchval("SELECT error FROM retention_progress")
    assert "is not the file" in error


async def test_a_missing_archive_stops_the_run(aged: dict[str, list[str]], database: Any, tmp_path: Path) -> None:
    """When a file is gone whose rows are in no table, nothing more is archived until it is back."""
    given = rules(tmp_path / "archive")
    await retain(database, given)
    first, *_ = await listing.archives(database)
    path = tmp_path / "archive" / first.path
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ConfigError, match="lacks 1 archives"):
        await retain(database, given)
    path.with_suffix(".away").rename(path)
    await retain(database, given)


async def test_a_directory_belongs_to_one_database(database: Any, tmp_path: Path) -> None:
    """A directory of another database, or one that others may read, is refused."""
    await retain(database, rules(tmp_path / "archive"))
    await database.execute("UPDATE retention_progress SET archive_id = gen_random_uuid()")
    with pytest.raises(ConfigError, match="another database"):
        await retain(database, rules(tmp_path / "archive"))
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="mode 0700"):
        await retain(database, rules(tmp_path / "open"))


async def test_one_process_at_a_time(database: Any, postgres_dsn: str) -> None:
    """While one process has its turn, another has none; afterwards it has."""
    other = await asyncpg.connect(postgres_dsn)
    async with running.turn(database) as is_ours, running.turn(other) as is_theirs:
        assert (is_ours, is_theirs) == (True, False)
    async with running.turn(other) as is_theirs:
        assert is_theirs
    await other.close()


@pytest.mark.proves("add-only", "role-attacks")
async def test_a_writer_removes_only_what_the_owner_allows(
    aged: dict[str, list[str]], store: PostgresStore, database: Any, postgres_dsn: str, tmp_path: Path
) -> None:
    """The writer's role archives old rows. Rows younger than the owner's time stay, whatever it calls."""
    writer = await asyncpg.connect(as_role(postgres_dsn, WRITER))
    given = rules(tmp_path / "archive")
    assert (await retain(writer, given)).rows == sum(map(len, aged.values()))
    await store.record(a_run("young", trace=7))
    row = await database.fetchrow("SELECT occurred_at, event_id, content_hash, tenant FROM audit_rows LIMIT 1")
    keys = [[row["occurred_at"].isoformat()], [str(row["event_id"])], [str(row["content_hash"])]]
    attack = "SELECT spanpost_remove('audit_rows', $1, $2, $3, $4)"
    assert await writer.fetchval(attack, row["tenant"], *keys) == 0
    for statement in (
        "DELETE FROM audit_rows",
        "DELETE FROM human_interventions",
        "TRUNCATE audit_rows",
        "UPDATE retention_floors SET shortest = '0'",
        "INSERT INTO retention_floors VALUES ('session_secret', '0', 'now()')",
        "SELECT spanpost_remove('session_secret', '', '{a}', '{}', '{}')",
        "DROP TABLE audit_rows_rest",
        "SELECT * FROM audit_rows_rest",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await writer.execute(statement)
    assert await database.fetchval("SELECT count(*) FROM audit_rows") == len(a_run("young"))
    await database.execute("UPDATE retention_floors SET shortest = '0'")
    assert await writer.fetchval(attack, row["tenant"], *keys) == 1
    await writer.close()


async def test_less_than_the_owner_allows_is_refused(aged: dict[str, list[str]], database: Any, tmp_path: Path) -> None:
    """If the settings want less than the owner allows, the run says which command allows it, and nothing goes."""
    await database.execute("UPDATE retention_floors SET shortest = $1", 2 * LONG_AGO)
    with pytest.raises(ConfigError, match="spanpost archive allow"):
        await retain(database, rules(tmp_path / "archive"))
    assert await contents(database) == aged


async def test_the_sealed_log_says_which_rows_are_in_which_file(
    aged: dict[str, list[str]], database: Any, tmp_path: Path
) -> None:
    """Each file of sealed rows has one note with its SHA-256, the number of its rows and their leaves."""
    await database.execute("INSERT INTO seal_logs (tenant, origin, size) VALUES ('default', 'here', 0)")
    await database.execute(
        "INSERT INTO sealed_rows (leaf, row_at, row_hash, row_id, salt, source, tenant)"
        " SELECT row_number() OVER () - 1, occurred_at, content_hash, event_id, gen_random_uuid(), 1, tenant"
        " FROM audit_rows"
    )
    await retain(database, rules(tmp_path / "archive", rows_per_file=3))
    notes = await database.fetch("SELECT kind, actor, archive, rows, leaves FROM seal_notes")
    written = [a for a in await listing.archives(database) if SOURCES[a.source].target == "audit_rows"]
    assert {(n["kind"], n["actor"], n["archive"], n["rows"]) for n in notes} == {
        ("removed", "test", archive.sha256, archive.rows) for archive in written
    }
    leaves = sorted(leaf for n in notes for each in n["leaves"] for leaf in range(each.lower, each.upper))
    assert leaves == list(range(len(aged["audit_rows"])))
