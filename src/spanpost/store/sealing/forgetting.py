"""Rows that leave the tables on purpose: the sealed log says who let them go and why, and every proof still holds.

Call these functions in the transaction that deletes the rows. Both do nothing for a tenant without a sealed log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from spanpost.text.sanitise import line

Source: TypeAlias = Literal["audit_rows", "human_interventions"]

#: Numbers of the tables in `sealed_rows.source`.
SOURCES: Final = {"audit_rows": 1, "human_interventions": 2, "seal_notes": 3}
#: First key of the advisory lock that keeps sealer and deleting transactions apart; the second is the schema's.
LOCK: Final = 0x5353
#: Longest actor and reason in a leaf, characters.
_LONGEST: Final = 1000


class SealedRow(NamedTuple):
    """The name of a row: of `audit_rows` (occurred_at, event_id, content_hash), of `human_interventions` (id,)."""

    source: Source
    key: tuple[datetime, UUID, int] | tuple[UUID]


class RowQuery(NamedTuple):
    """Rows that a query (SELECT) finds, by the columns of `SealedRow.key` in that order."""

    source: Source
    query: str
    arguments: tuple[Any, ...] = ()


class TimeRange(NamedTuple):
    """All rows of the tenant from `begins` until before `ends`, by `audit_rows.occurred_at` or
    `human_interventions.at`.
    """

    source: Source
    begins: datetime
    ends: datetime


_HAS_LOG: Final = "SELECT EXISTS (SELECT FROM seal_logs WHERE tenant = $1)"
_SHARE: Final = f"SELECT pg_advisory_xact_lock_shared({LOCK}, hashtext(current_schema()))"
_GIVEN: Final = {
    "audit_rows": "given(row_at, row_id, row_hash) AS ({query})",
    "human_interventions": "given(row_id) AS ({query})",
}
_SAME: Final = {
    "audit_rows": "s.row_id = g.row_id AND s.row_hash = g.row_hash",
    "human_interventions": "s.row_id = g.row_id AND s.row_hash = 0",
}
_WRITE: Final = """
INSERT INTO seal_notes (tenant, kind, actor, reason, act, archive, rows, leaves)
SELECT {tenant}, {kind}, {actor}, {reason}, {act}, {archive}, {rows},
  coalesce((SELECT range_agg(int8range(leaf, leaf, '[]')) FROM gone), '{{}}')
WHERE {rows} > 0 RETURNING rows"""


async def erased(
    connection: Any, tenant: str, rows: Sequence[SealedRow] | RowQuery, *, actor: str, reason: str, act: UUID
) -> int:
    """Forget the salts of rows that are erased, and note who erased them and why; return how many were given.

    `reason` stays in the log for ever: it must not repeat what is erased. `act`: id of the operation in
    `human_interventions`.
    """
    return await _note(connection, tenant, rows, "erased", (actor, reason, act), None)


async def removed(
    connection: Any,
    tenant: str,
    rows: Sequence[SealedRow] | RowQuery | TimeRange,
    *,
    actor: str,
    reason: str,
    act: UUID,
    archive: bytes | None,
) -> int:
    """Note rows that are in an archive's file (its SHA-256) from now on, or, with None, that are pruned.

    Salts of archived rows stay, for proofs of what the archive has. Return how many rows were given.
    """
    return await _note(connection, tenant, rows, "removed", (actor, reason, act), archive)


async def _note(
    connection: Any,
    tenant: str,
    rows: Sequence[SealedRow] | RowQuery | TimeRange,
    kind: str,
    why: tuple[str, str, UUID],
    archive: bytes | None,
) -> int:
    # The sealer does not read rows while they are deleted: it would give them a leaf that nothing explains.
    await connection.execute(_SHARE)
    if not await connection.fetchval(_HAS_LOG, tenant):
        return 0
    count = 0
    actor, reason, act = why
    for part in _parts(rows):
        with_, same, arguments = _selection(part)
        own = [tenant, kind, line(actor, _LONGEST), line(reason, _LONGEST), act, archive, SOURCES[part.source]]
        names = ("tenant", "kind", "actor", "reason", "act", "archive", "source")
        types = ("text", "text", "text", "text", "uuid", "bytea", "smallint")
        at = {
            name: f"${len(arguments) + i}::{type}" for i, (name, type) in enumerate(zip(names, types, strict=True), 1)
        }
        found = "FROM sealed_rows s" if isinstance(part, TimeRange) else "FROM given g JOIN sealed_rows s ON " + same
        where = f"s.tenant = {at['tenant']} AND s.source = {at['source']}"
        if isinstance(part, TimeRange):
            where += f" AND {same}"
        if archive is not None:
            gone = f"SELECT s.leaf {found} WHERE {where}"
        elif isinstance(part, TimeRange):
            gone = f"DELETE FROM sealed_rows s WHERE {where} RETURNING s.leaf"
        else:
            gone = f"DELETE FROM sealed_rows s USING given g WHERE {same} AND {where} RETURNING s.leaf"
        total = "(SELECT count(*) FROM gone)" if isinstance(part, TimeRange) else "(SELECT count(*) FROM given)"
        statement = f"WITH {with_}gone AS ({gone})" + _WRITE.format(rows=total, **at)
        count += await connection.fetchval(statement, *arguments, *own) or 0
    return count


def _parts(rows: Sequence[SealedRow] | RowQuery | TimeRange) -> list[RowQuery | TimeRange]:
    """Return what one statement each deletes."""
    if isinstance(rows, RowQuery | TimeRange):
        return [rows]
    parts = []
    if keys := [row.key for row in rows if row.source == "audit_rows"]:
        query = "SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::int8[])"
        parts.append(RowQuery("audit_rows", query, tuple(map(list, zip(*keys, strict=True)))))
    if keys := [row.key for row in rows if row.source == "human_interventions"]:
        parts.append(RowQuery("human_interventions", "SELECT unnest($1::uuid[])", ([key[0] for key in keys],)))
    return list(parts)


def _selection(part: RowQuery | TimeRange) -> tuple[str, str, tuple[Any, ...]]:
    """Return the common table expression of the given rows, the condition on `sealed_rows`, and its arguments."""
    if isinstance(part, TimeRange):
        return "", "s.row_at >= $1::timestamptz AND s.row_at < $2::timestamptz", (part.begins, part.ends)
    return _GIVEN[part.source].format(query=part.query) + ",\n", _SAME[part.source], part.arguments
