"""Verification names what the owner of the database changed, and is content with what was let go on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.model.acts import Operation
from spanpost.store.intervention_rows import note_operation
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing import checkpoints
from spanpost.store.sealing.forgetting import RowQuery, erased
from spanpost.store.sealing.leaves import COLUMNS, NOT_SEALED
from spanpost.store.sealing.verifying import verify
from tests.store.sealing.sealed import SIZE, act, record, said, seal, verified

pytestmark = pytest.mark.acceptance
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.fixture
async def sealed(store: PostgresStore, database: Any) -> Any:
    """A database with a sealed log of audit rows, over a tile's width, and of acts."""
    await record(store, "t", SIZE)
    await act(database, "t")
    await seal(database, KEY)
    return database


@pytest.mark.proves("named")
async def test_an_untouched_log_is_valid(sealed: Any, store: PostgresStore) -> None:
    """All rows of both tables are found unchanged, also after tasks were merged and with rows that are not sealed."""
    await sealed.execute("UPDATE audit_rows SET task_uid = gen_random_uuid(), subtree = 'x'")
    await sealed.execute("UPDATE human_interventions SET task_uid = gen_random_uuid(), subtree = 'x'")
    await record(store, "t", 3, first=5000)
    found = await verified(sealed)
    assert (found.findings, found.rows, found.leaves) == ([], SIZE + 2, SIZE + 2)


@pytest.mark.proves("named", "rows-tampered")
async def test_every_sealed_column_is_guarded(sealed: Any) -> None:
    """Whatever column of a row is changed, the row is named; all columns are sealed or listed as not sealed."""
    for source, columns in COLUMNS.items():
        types = await sealed.fetch(
            "SELECT attname, atttypid::regtype::text AS type FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
            source,
        )
        assert {row["attname"] for row in types} == {*columns, *NOT_SEALED[source]}
        row = await sealed.fetchrow(f"SELECT tableoid::regclass::text AS part, ctid FROM {source} LIMIT 1")
        for column, type in types:
            if column in NOT_SEALED[source]:
                continue
            change = OTHER[type].format(column)
            transaction = sealed.transaction()
            await transaction.start()
            if column == "number":
                await sealed.execute("ALTER TABLE human_interventions ALTER number DROP IDENTITY")
            await sealed.execute(f"UPDATE {source} SET {column} = {change} WHERE ctid = $1", row["ctid"])
            assert (await verify(sealed)).findings, f"{source}.{column}"
            await transaction.rollback()


#: SQL of another value of a column, by its type.
OTHER = {
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "bigint": "coalesce({0}, 0) + 1",
    "integer": "coalesce({0}, 0) + 1",
    "smallint": "coalesce({0}, 0) + 1",
    "uuid": "gen_random_uuid()",
    "text": "coalesce({0}, '') || 'x'",
    "bytea": "coalesce({0}, '') || '\\x01'::bytea",
    "jsonb": "jsonb_build_array({0})",
}

CHANGES = {
    "a row deleted": ("DELETE FROM audit_rows WHERE ctid = (SELECT min(ctid) FROM audit_rows)", "was deleted"),
    "an act deleted": ("DELETE FROM human_interventions", "was deleted"),
    "an act changed": ("UPDATE human_interventions SET decision = 'deny'", "was changed"),
    "a shared attribute changed": ("UPDATE attribute_sets SET resource = '{}'", "was changed"),
    "a row inserted behind": (
        "INSERT INTO human_interventions (id, tenant, task_uid, action, decision, comment, actor, via, approval_id,"
        " question, detail, options, risk, expires_at, trace_id, span_id, at, written_in) VALUES (gen_random_uuid(),"
        " 't', gen_random_uuid(), 'resolved', 'approve', '', 'the CEO', 'cli', '', '', '', '[]', '', '', '', '',"
        " now(), 3)",
        "inserted behind the log",
    ),
    "a row inserted for later": (
        "INSERT INTO audit_rows SELECT (jsonb_populate_record(r, jsonb_build_object('event_id', gen_random_uuid(),"
        " 'written_in', 1000000000000))).* FROM audit_rows r LIMIT 1",
        "inserted behind the log",
    ),
    "its salt deleted": ("DELETE FROM sealed_rows WHERE leaf = 7", "the salt and the key of its row were deleted"),
    "its salt changed": ("UPDATE sealed_rows SET salt = gen_random_uuid() WHERE leaf = 7", "was changed"),
    "two leaves exchanged": (
        "UPDATE sealed_rows a SET row_at = b.row_at, row_hash = b.row_hash + 1, row_id = b.row_id, salt = b.salt"
        " FROM sealed_rows b WHERE a.leaf = 7 AND b.leaf = 8",
        "was deleted, or its key was changed",
    ),
    "an entry changed": (
        "UPDATE seal_entries SET body = set_byte(body, 300, get_byte(body, 300) # 1) WHERE bundle = 0",
        "the first",
    ),
    "an entry cut off": (
        "UPDATE seal_entries SET body = substr(body, 1, length(body) - 1) WHERE bundle = 0",
        "bundle 0",
    ),
    "a bundle deleted": ("DELETE FROM seal_entries WHERE bundle = 1", "bundle 1"),
    "a tile changed": (
        "UPDATE seal_tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE level = 0 AND tile = 0",
        "tile 0/0 was changed",
    ),
    "an upper tile changed": ("UPDATE seal_tiles SET hashes = '' WHERE level = 1", "tile 1/0 was changed"),
    "a checkpoint's root changed": ("UPDATE seal_checkpoints SET root = sha256('x')", "says something else"),
    "a checkpoint's note changed": (
        "UPDATE seal_checkpoints SET note = replace(note, E'\\n' || size || E'\\n', E'\\n' || size - 1 || E'\\n')",
        "signature",
    ),
    "the log cut off": (
        "WITH a AS (UPDATE seal_logs SET size = 200), b AS (DELETE FROM seal_entries WHERE bundle = 1),"
        " c AS (DELETE FROM seal_tiles WHERE level = 1 OR tile = 1) DELETE FROM sealed_rows WHERE leaf >= 200",
        "its end was cut off",
    ),
    "a note of the log changed": ("UPDATE seal_notes SET reason = 'x'", "was changed in seal_notes"),
    "a note's time out of the calendar": ("UPDATE seal_notes SET at = '4000-01-01 BC'", "was changed in seal_notes"),
    "a note's time without end": ("UPDATE seal_notes SET at = 'infinity'", "was changed in seal_notes"),
    "a note of too many rows": ("UPDATE seal_notes SET rows = 1::int8 << 62", "was changed in seal_notes"),
    "a salt of no table": ("UPDATE sealed_rows SET source = 0 WHERE leaf = 7", "sealed_rows says nothing"),
    "an entry of nested lists": (
        "UPDATE seal_entries SET body = '\\xffff'::bytea || convert_to(repeat('[', 65535), 'UTF8') WHERE bundle = 0",
        "bundle 0 has 1 leaves",
    ),
    "a note of the log deleted": ("DELETE FROM seal_notes", "was deleted from seal_notes"),
}


@pytest.mark.proves("named", "rows-tampered")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_by_the_owner_is_named(sealed: Any, change: str) -> None:
    """The owner of the database changes rows, salts, entries, tiles, checkpoints or notes by SQL: it is named."""
    statement, expected = CHANGES[change]
    await sealed.execute(statement)
    assert expected in "\n".join(await said(sealed))


@pytest.mark.proves("named", "rows-tampered")
async def test_a_log_that_was_written_anew_is_named(sealed: Any) -> None:
    """Who has database and key writes a whole new log: it is valid in itself, and not the one whose checkpoint left."""
    left = await sealed.fetchval("SELECT note FROM seal_checkpoints ORDER BY size LIMIT 1")
    await sealed.execute("UPDATE human_interventions SET decision = 'deny'")
    tables = "seal_state, seal_logs, sealed_rows, seal_entries, seal_tiles, seal_checkpoints, seal_notes, seal_keys"
    await sealed.execute(f"TRUNCATE {tables}")
    await seal(sealed, KEY)
    assert await said(sealed) == []
    assert "not those that were signed" in "\n".join(await said(sealed, outside=[left], trusted=[PUBLIC]))


@pytest.mark.proves("named", "rows-tampered")
async def test_a_checkpoint_of_a_foreign_key_is_not_believed(sealed: Any) -> None:
    """With the keys that the verifier trusts, checkpoints of another key are findings, in the tables and outside."""
    other = Ed25519PrivateKey.generate()
    found = await said(sealed, trusted=[other.public_key().public_bytes_raw()])
    assert {one.partition(": ")[2] for one in found} == {"no key of the log has signed the checkpoint"}
    forged = checkpoints.signed(checkpoints.SignedRoot("here/t", 1, bytes(32)), other)
    assert "cannot be trusted" in "\n".join(await said(sealed, outside=[forged]))


async def test_erased_rows_are_explained(sealed: Any) -> None:
    """Rows that were erased by the program are counted, before and after the note itself is sealed; a row that was
    deleted beside them is named.
    """
    async with sealed.transaction():
        noted = await note_operation(sealed, Operation("erase", "ann", "request 12"))
        few = "FROM audit_rows WHERE span_id < '\\x0000000000000005'"
        erasing = RowQuery("audit_rows", f"SELECT occurred_at, event_id, content_hash {few}")
        await erased(sealed, "t", erasing, actor="ann", reason="request 12", act=noted)
        await sealed.execute(f"DELETE {few}")
    for _ in range(2):
        found = await verified(sealed)
        assert (found.findings, found.erased) == ([], 4)
        assert [(one.actor, one.reason, one.rows) for one in found.let_go] == [("ann", "request 12", 4)]
        await seal(sealed, KEY)
    await sealed.execute("DELETE FROM audit_rows WHERE span_id = '\\x0000000000000009'")
    assert len(await said(sealed)) == 1
