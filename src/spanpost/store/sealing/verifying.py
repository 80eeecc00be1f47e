"""Verification of sealed logs: the rows against the leaves, the leaves against the tiles, the tiles against what was
signed, and all of it against checkpoints that left the premises.

Each step trusts only what the step before it has shown. The leaves are read in order and their tree is built anew, so
tiles and tables of the log are checked, not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from spanpost.store.sealing import checkpoints, leaves, tree
from spanpost.store.sealing.archived import ArchiveFiles
from spanpost.store.sealing.checkpoints import BadNote, SignedRoot
from spanpost.store.sealing.forgetting import SOURCES, Source
from spanpost.store.sealing.gone import GoneRows
from spanpost.store.sealing.roots import Roots, compare, verify_tiles
from spanpost.store.sealing.verified import MOST, LetGo, Show, Steps, Verified

#: Entry bundles that are read at once.
_BUNDLES: Final = 20
_LOGS: Final = "SELECT tenant, origin, size FROM seal_logs WHERE $1::text IS NULL OR tenant = $1 ORDER BY tenant"
_SOURCES: Final = {number: source for source, number in SOURCES.items()}
_ENTRIES: Final = """
SELECT bundle, width, body FROM seal_entries WHERE tenant = $1 AND bundle >= $2 AND bundle < $3 ORDER BY bundle"""
_SIGNED: Final = "SELECT size, root, note FROM seal_checkpoints WHERE tenant = $1 ORDER BY size"
_KEYS: Final = "SELECT public_key FROM seal_keys"
_SEALED: Final = """
SELECT leaf, source, row_id FROM sealed_rows WHERE tenant = $1 AND leaf >= $2 AND leaf < $3"""
#: A note names the act of the command that let rows go. The act has a leaf, too, or will have one soon.
_ACT: Final = f"""n.kind = 'key' OR EXISTS (
  SELECT FROM human_interventions a WHERE a.id = n.act AND a.result = 'done'
    AND a.verb IN ('erase', CASE n.kind WHEN 'removed' THEN 'archive' END)
) OR NOT EXISTS (SELECT FROM human_interventions a WHERE a.id = n.act) AND EXISTS (
  SELECT FROM sealed_rows x
  WHERE x.row_id = n.act AND x.row_hash = 0 AND x.source = {SOURCES["human_interventions"]})"""
_NOTES: Final = f"""
SELECT s.leaf, n.id, n.rows, {_ACT} AS has_act, CASE WHEN n.id IS NOT NULL THEN {leaves.NOTE} END AS note
FROM sealed_rows s LEFT JOIN seal_notes n ON n.id = s.row_id AND n.tenant = s.tenant
WHERE s.tenant = $1 AND s.leaf >= $2 AND s.leaf < $3 AND s.source = {SOURCES["seal_notes"]}"""
_WITHOUT_LEAF: Final = f"""NOT EXISTS (
  SELECT FROM sealed_rows s WHERE s.row_id = n.id AND s.row_hash = 0 AND s.source = {SOURCES["seal_notes"]})"""
_FRESH_NOTES: Final = f"""
SELECT n.id, n.kind, n.archive, n.rows, {_ACT} AS has_act FROM seal_notes n
WHERE n.tenant = $1 AND n.written_in >= (SELECT sealed_before FROM seal_state)
  AND n.written_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint AND {_WITHOUT_LEAF}"""
#: A time that SQL can write and Python cannot hold becomes the nearest one.
_LET_GO: Final = f"""
SELECT tenant, kind, greatest(least(at, '9999-12-30'), '0001-01-02') AS at, actor, reason, rows,
  encode(archive, 'hex') AS archive FROM seal_notes
WHERE kind <> 'key' AND ($1::text IS NULL OR tenant = $1) ORDER BY at DESC LIMIT {MOST}"""
_STATE: Final = "SELECT sealed_before, rescan FROM seal_state"


def _rows(source: Source) -> str:
    at, id, _ = leaves.KEYS[source]
    written = leaves.TIME.format(f"e.{leaves.WRITTEN_AT[source]}")
    return f"""
SELECT s.leaf, e.{id} IS NOT NULL AS is_there, {written} AS written_at, e.{at} AS row_at,
  e.tenant IS NOT DISTINCT FROM s.tenant AS is_own, {leaves.digest(source, "s.salt")} AS digest
FROM sealed_rows s LEFT JOIN {leaves.FROM[source]} e ON {leaves.same_row(source, "s")}
WHERE s.tenant = $1 AND s.leaf >= $2 AND s.leaf < $3 AND s.source = {SOURCES[source]}"""


def _behind(source: Source) -> str:
    at, id, hash = leaves.KEYS[source]
    hash = "0" if hash.startswith("0") else f"e.{hash}"
    return f"""
SELECT e.tenant, e.{at} AS at, e.{id} AS id FROM {source} e
WHERE (e.written_in < $1 OR e.written_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
  AND ($2::text IS NULL OR e.tenant = $2) AND NOT EXISTS (
  SELECT FROM sealed_rows s WHERE s.row_id = e.{id} AND s.row_hash = {hash} AND s.source = {SOURCES[source]})
LIMIT {MOST}"""


_NOTES_BEHIND: Final = f"""
SELECT n.tenant, n.id FROM seal_notes n
WHERE (n.written_in < $1 OR n.written_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
  AND ($2::text IS NULL OR n.tenant = $2) AND {_WITHOUT_LEAF} LIMIT {MOST}"""


async def verify(
    connection: Any,
    *,
    tenant: str | None = None,
    outside: Sequence[str] = (),
    trusted: Sequence[bytes] = (),
    directory: Path | None = None,
    busy: str = "",
    show: Show = lambda done, total: None,
) -> Verified:
    """Verify the logs of all tenants, or of one. Read-only; call it in one transaction of level repeatable read.

    `outside`: checkpoints (signed notes) that left the premises. `trusted`: public keys; without, those that the
    database lists, which its owner can replace. `directory`: that of the archives; their files are not read where it
    is missing, or `busy` says why they cannot be.
    """
    result = Verified()
    known = await connection.fetch(_LOGS, tenant)
    files = await ArchiveFiles.listed(connection, tenant, directory, busy)
    steps = Steps(sum(row["size"] for row in known) + files.rows, show)
    keys = list(trusted) or [row[0] for row in await connection.fetch(_KEYS)]
    given: dict[str, list[SignedRoot]] = {}
    for note in outside:
        try:
            checkpoint = checkpoints.opened(note, keys)
        except BadNote as error:
            result.add(tenant or "", f"a given checkpoint cannot be trusted: {error}")
            continue
        given.setdefault(checkpoint.origin, []).append(checkpoint)
    for own, origin, size in known:
        result.logs += 1
        await _log(connection, own, origin, size, keys, given.pop(origin, []), files, result, steps)
    for origin in given:
        result.add(tenant or "", f"there is no log {origin!r}, of which a checkpoint was given")
    await files.verify_rest(result)
    await _inserted(connection, tenant, result)
    result.let_go = [LetGo(**dict(row)) for row in await connection.fetch(_LET_GO, tenant)]
    return result


async def _log(
    connection: Any,
    tenant: str,
    origin: str,
    size: int,
    keys: Sequence[bytes],
    outside: Sequence[SignedRoot],
    files: ArchiveFiles,
    result: Verified,
    steps: Steps,
) -> None:
    hashes = bytearray()
    gone = GoneRows(tenant)
    for first in range(0, -(-size // tree.WIDTH), _BUNDLES):
        some = await _bundles(connection, tenant, first, size, result)
        begin = first * tree.WIDTH
        await _leaves(connection, tenant, begin, some, gone, result)
        for body in some:
            hashes += tree.leaf_hash(body)
        result.leaves += len(some)
        steps.add(len(some))
        if begin + len(some) < min(size, (first + _BUNDLES) * tree.WIDTH):
            break  # the rest is missing; a finding says so
    for row in await connection.fetch(_FRESH_NOTES, tenant):
        _has_act(tenant, None, row, result)
        gone.note(row["id"], row["kind"], row["archive"])
    await gone.read_notes(connection)
    await files.verify(connection, gone, hashes, result, steps)
    await gone.explain(connection, result)
    roots = Roots(hashes)
    await verify_tiles(connection, tenant, roots, result)
    signed = 0
    async for row in connection.cursor(_SIGNED, tenant, prefetch=500):
        result.checkpoints += 1
        try:
            found = checkpoints.opened(row["note"], keys)
        except BadNote as error:
            result.add(tenant, f"checkpoint {row['size']}: {error}")
            continue
        if (found.origin, found.size, found.root) != (origin, row["size"], row["root"]):
            result.add(tenant, f"checkpoint {row['size']}: its note says something else than its row")
        signed = max(signed, compare(tenant, found, roots, "checkpoint", result))
    for found in outside:
        compare(tenant, found, roots, "given checkpoint", result)
    result.unsigned += max(roots.size - signed, 0)


async def _bundles(connection: Any, tenant: str, first: int, size: int, result: Verified) -> list[bytes]:
    """Return the leaves of some bundles, as far as they are whole."""
    found: list[bytes] = []
    rows = {row["bundle"]: row for row in await connection.fetch(_ENTRIES, tenant, first, first + _BUNDLES)}
    for bundle in range(first, min(first + _BUNDLES, -(-size // tree.WIDTH))):
        expected = min(tree.WIDTH, size - bundle * tree.WIDTH)
        some = leaves.unbundled(rows[bundle]["body"]) if bundle in rows else []
        found += some[:expected]
        if len(some) != expected:
            begin = bundle * tree.WIDTH + len(some)
            result.add(tenant, f"bundle {bundle} has {len(some)} leaves instead of {expected}", begin)
            break
    return found


async def _leaves(
    connection: Any, tenant: str, begin: int, some: Sequence[bytes], gone: GoneRows, result: Verified
) -> None:
    """Compare leaves with their rows."""
    end = begin + len(some)
    gone.grow(end)
    listed = {row["leaf"]: row for row in await connection.fetch(_SEALED, tenant, begin, end)}
    rows: dict[int, Any] = {}
    for source in leaves.COLUMNS:
        rows |= {row["leaf"]: (source, row) for row in await connection.fetch(_rows(source), tenant, begin, end)}
    notes = {row["leaf"]: row for row in await connection.fetch(_NOTES, tenant, begin, end)}
    for leaf, body in enumerate(some, begin):
        fields = leaves.read_leaf(body)
        source = fields.get("source", "")
        if leaf not in listed:
            gone.miss(leaf)
        elif (named := _SOURCES.get(listed[leaf]["source"], "nothing")) != source:
            result.add(tenant, f"sealed_rows says {named}, the leaf {source or 'nothing'}", leaf)
        elif source == "seal_notes":
            _note(tenant, leaf, body, fields, notes[leaf], gone, result)
        else:
            _row(tenant, leaf, body, listed[leaf], rows[leaf], gone, result)


def _row(tenant: str, leaf: int, body: bytes, listed: Any, found: Any, gone: GoneRows, result: Verified) -> None:
    source, row = found
    name = f"{source} {listed['row_id']}"
    if not row["is_there"]:
        gone.miss(leaf)
    elif not row["is_own"]:
        result.add(tenant, f"{name} is another tenant's now", leaf)
    elif leaves.leaf_of_row(source, row["written_at"], row["digest"]) != body:
        result.add(tenant, f"{name} was changed", leaf)
    else:
        result.rows += 1


def _note(
    tenant: str, leaf: int, body: bytes, fields: dict[str, Any], row: Any, gone: GoneRows, result: Verified
) -> None:
    if row["note"] is None:
        result.add(tenant, f"the log's note {fields.get('id')} was deleted from seal_notes", leaf)
    elif not _is_of_note(body, row["note"]):
        result.add(tenant, f"the log's note {fields.get('id')} was changed in seal_notes", leaf)
    else:
        result.rows += 1
        _has_act(tenant, leaf, row, result)
        gone.note(row["id"], fields["kind"], bytes.fromhex(fields["archive"]) if fields["archive"] else None)


def _is_of_note(body: bytes, note: str) -> bool:
    try:
        return leaves.leaf_of_note(note) == body
    except ValueError:
        return False


def _has_act(tenant: str, leaf: int | None, note: Any, result: Verified) -> None:
    if not note["has_act"]:
        what = (
            f"the log's note {note['id']} lets {note['rows']:,} rows go, and names no act of an erasure or an archive"
        )
        result.add(tenant, what, leaf)


async def _inserted(connection: Any, tenant: str | None, result: Verified) -> None:
    """Look for rows that claim a transaction whose rows are sealed, or one that has not begun."""
    state = await connection.fetchrow(_STATE)
    if state is None or state["rescan"] is not None:
        return
    for source in leaves.COLUMNS:
        for row in await connection.fetch(_behind(source), state["sealed_before"], tenant):
            result.add(row["tenant"], f"{source} {row['id']} has no leaf: it was inserted behind the log")
    for row in await connection.fetch(_NOTES_BEHIND, state["sealed_before"], tenant):
        result.add(row["tenant"], f"seal_notes {row['id']} has no leaf: it was inserted behind the log")
