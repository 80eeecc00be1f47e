"""Verification reads the files of archives: what the owner of the database or of the disk changed there is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.model.acts import Operation
from spanpost.store.archiving import files, listing
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.sources import SOURCES
from spanpost.store.intervention_rows import note_operation
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.leaves import COLUMNS
from tests.store.archiving.aged import age, back, retain, rules
from tests.store.erasing_history import BOB, a_task, act
from tests.store.sealing.sealed import said, seal, verified

#: One server: the embedded one does the same.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_FORGED = """
INSERT INTO seal_notes (tenant, kind, actor, reason, act, archive, rows, leaves, written_in)
SELECT 'default', $1, 'ann', 'request 12', $2, $3, 1, int8multirange(int8range(leaf, leaf, '[]')),
  coalesce($5, pg_current_xact_id()::text::bigint) FROM sealed_rows WHERE row_id = $4 RETURNING id"""
_AN_ACT = "SELECT act FROM seal_notes WHERE act IS NOT NULL LIMIT 1"


async def archived(store: PostgresStore, database: Any, directory: Path) -> dict[str, Archive]:
    """Record and seal old tasks and acts, and a young task; archive the old; return the archives by their table."""
    await store.record([o for number in range(1, 7) for o in back(a_task(number))])
    await act(store, BOB)
    await age(database)
    await store.record([*a_task(7), *a_task(8)])
    await seal(database, KEY)
    await retain(database, rules(directory))
    await seal(database, KEY)
    return {SOURCES[a.source].target: a for a in await listing.archives(database, tenant="default")}


def changed(path: Path, column: str) -> str:
    """Write a file anew, validly, with another value in a column of one row; return the row's id."""
    table = parquet.read_table(path)
    values = table.column(column).to_pylist()
    values[1] = "denied" if column == "decision" else "another"
    at = table.schema.get_field_index(column)
    table = table.set_column(at, table.schema.field(at), pyarrow.array(values, table.schema.field(at).type))
    parquet.write_table(table, path)
    return str(table.column("event_id" if "event_id" in table.schema.names else "id").to_pylist()[1])


@pytest.mark.proves("named", "rows-tampered")
async def test_archived_rows_are_read_in_their_files(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """All files are read and fit; what happens to a file or its row in the list is named, with the rows."""
    directory = tmp_path / "archive"
    found = await archived(store, database, directory)
    result = await verified(database, directory=directory)
    assert (result.findings, result.not_checked) == ([], 0)
    assert (result.archived, result.archives) == (
        sum(a.rows for a in await listing.archives(database) if SOURCES[a.source].target in COLUMNS),
        len(await listing.archives(database)),
    )
    assert result.rows + result.archived == result.leaves
    audit, acts, tasks = (directory / found[name].path for name in ("audit_rows", "human_interventions", "agent_tasks"))

    async def names(*expected: str) -> None:
        what = "\n".join(await said(database, directory=directory))
        for one in expected:
            assert one in what, what

    async def after(*paths: Path, do: Callable[[], Any], expected: tuple[str, ...]) -> None:
        before = {path: path.read_bytes() for path in paths}
        do()
        await names(*expected)
        for path, content in before.items():
            path.write_bytes(content)

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)

    def swap() -> None:
        first, second = audit.read_bytes(), acts.read_bytes()
        audit.write_bytes(second)
        acts.write_bytes(first)

    for path in (audit, tasks):
        await after(path, do=lambda path=path: flip(path), expected=(f"{path.name} was changed: its SHA-256",))
        await after(path, do=path.unlink, expected=(f"{path.name} is missing",))
    await after(audit, do=audit.unlink, expected=("was archived, and no archive that is listed",))
    await after(audit, do=lambda: audit.write_bytes(b""), expected=("was changed", "cannot be read to its end"))
    await after(audit, acts, do=swap, expected=(f"{audit.name} was changed", f"{acts.name} was changed"))
    await after(acts, do=lambda: changed(acts, "decision"), expected=("was changed in archive",))
    id = changed(audit, "name")
    await names(f"{audit.name} was changed", f"audit_rows {id} was changed in archive")
    # The owner of the database makes the list fit the file, then the log as well; the row is not that of its leaf.
    await database.execute(
        "UPDATE archives SET sha256 = $2, size = $3 WHERE id = $1",
        found["audit_rows"].id, files.hash_of(audit), audit.stat().st_size,
    )  # fmt: skip
    await names("no note of the log names this file", f"audit_rows {id} was changed in archive")
    await database.execute(
        "INSERT INTO seal_notes (tenant, kind, actor, reason, act, archive, rows, leaves) SELECT tenant, kind, actor,"
        " reason, act, $1, rows, leaves FROM seal_notes WHERE archive = $2",
        files.hash_of(audit), found["audit_rows"].sha256,
    )  # fmt: skip
    await seal(database, KEY)
    await names(f"audit_rows {id} was changed in archive", f"audit_rows {id} was archived, and no archive")
    await database.execute("DELETE FROM archives WHERE id = $1", found["audit_rows"].id)
    await names("was archived, and no archive that is listed")


async def test_a_note_that_was_forged_explains_nothing(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Rows are deleted with notes of an archive that does not hold them, of no archive, of no erasure, or behind the
    log: each is named, before and after the notes have leaves. A note with an act that was forged, too, is listed.
    """
    directory = tmp_path / "archive"
    found = await archived(store, database, directory)
    ids = [row[0] for row in await database.fetch("SELECT event_id FROM audit_rows ORDER BY event_id")]
    of_archive = await database.fetchval(_AN_ACT)
    sha256 = found["audit_rows"].sha256
    moved = "audit_rows {} was archived, and no archive that is listed and named by the log holds it unchanged"
    expected = {moved.format(ids[0]), moved.format(ids[1]), f"audit_rows {ids[4]} was deleted, or its key was changed"}
    forged = await note_operation(database, Operation("erase", "ann", "task: request 12"))
    for id, kind, noted, archive, by in (
        (ids[0], "removed", of_archive, sha256, None),
        (ids[1], "removed", of_archive, bytes(32), None),
        (ids[2], "erased", of_archive, None, None),
        (ids[3], "erased", ids[3], None, None),
        (ids[4], "erased", forged, None, 3),
        (ids[5], "erased", forged, None, None),
    ):
        note = await database.fetchval(_FORGED, kind, noted, archive, id, by)
        await database.execute("DELETE FROM audit_rows WHERE event_id = $1", id)
        if id in ids[2:4]:
            expected.add(f"the log's note {note} lets 1 rows go, and names no act of an erasure or an archive")
        if by is not None:
            expected.add(f"seal_notes {note} has no leaf: it was inserted behind the log")
    for _ in range(2):
        result = await verified(database, directory=directory)
        assert {finding.what for finding in result.findings} == expected
        assert result.erased == 3
        assert [(one.actor, one.rows) for one in result.let_go].count(("ann", 1)) == 6
        # Without the files, a note of an archive that is listed is believed, and counted as not checked.
        assert set(await said(database)) == expected - {moved.format(ids[0])}
        await seal(database, KEY)


async def test_archives_that_are_elsewhere_are_not_checked(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Without a directory, or where it is missing, the archives are counted as not checked, with the reason."""
    await archived(store, database, tmp_path / "archive")
    listed = len(await listing.archives(database))
    for given, why in (
        ({}, "is not set"),
        ({"directory": tmp_path / "other"}, "is no directory"),
        ({"busy": "x"}, "x"),
    ):
        result = await verified(database, **given)
        assert (result.findings, result.not_checked, result.archives) == ([], listed, 0)
        assert why in result.not_checked_why
        assert result.archived > 0
