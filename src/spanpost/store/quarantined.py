"""The rows of `quarantine`: listed, tried again, discarded.

An observation that is tried again is recorded like any other: if it fails as before, its row counts one more
attempt and stays. Otherwise its row is deleted afterwards. A kill in between loses nothing, because an
observation that was recorded is recognised as a duplicate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from spanpost.model.observations import Observation
from spanpost.model.quarantine import QuarantineFilter, QuarantineRow, Retried
from spanpost.model.recorded import Recorded
from spanpost.store.quarantine import OBSERVATION, unpacked
from spanpost.store.transactions import Transact

#: Rows that are tried again together, and their bytes, about.
_AT_ONCE, _BYTES = 500, 8 * 1024 * 1024

_CHOSEN = """
($1::int8[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR tenant = $3)"""
_LIST = f"""
SELECT id, tenant, source, reason, error, octet_length(bytes) AS size, attempts, first_at, last_at
FROM quarantine WHERE {_CHOSEN} ORDER BY last_at DESC, id DESC LIMIT $4"""
_NEXT = f"""
WITH next AS MATERIALIZED (
  SELECT id, source, bytes, attempts FROM quarantine WHERE {_CHOSEN} AND id > $4 ORDER BY id LIMIT $5
), sized AS (SELECT *, sum(octet_length(bytes)) OVER (ORDER BY id) - octet_length(bytes) AS before FROM next)
SELECT id, source, bytes, attempts FROM sized WHERE before < $6 ORDER BY id"""
_NEWEST = f"SELECT max(id) FROM quarantine WHERE {_CHOSEN}"
# One that failed again has an attempt more.
_DONE = """
DELETE FROM quarantine AS q USING unnest($1::int8[], $2::int8[]) AS tried(id, attempts)
WHERE q.id = tried.id AND q.attempts = tried.attempts RETURNING q.id"""
_DISCARD = f"WITH gone AS (DELETE FROM quarantine WHERE {_CHOSEN} RETURNING 1) SELECT count(*) FROM gone"


class Quarantined:
    """The rows of one store; `record` is its `record_apart`. All methods raise `StoreUnavailable`."""

    def __init__(self, run: Transact, record: Callable[[Sequence[Observation]], Awaitable[Recorded]]) -> None:
        self._run = run
        self._record = record

    async def list(self, which: QuarantineFilter, limit: int) -> list[QuarantineRow]:
        """Return rows, the last ones first."""
        rows = await self._run(lambda c: c.fetch(_LIST, *_given(which), limit))
        return [QuarantineRow(**dict(row)) for row in rows]

    async def retry(self, which: QuarantineFilter) -> Retried:
        """Record observations again; delete the rows of those that do not fail as before."""
        retried = Retried()
        given, last = _given(which), 0
        newest = await self._run(lambda c: c.fetchval(_NEWEST, *given)) or 0
        while rows := await self._next(given, last, newest):
            last = rows[-1]["id"]
            found = [(row, o) for row in rows if (o := _observation(row)) is not None]
            retried.skipped += len(rows) - len(found)
            if not found:
                continue
            await self._record([o for _, o in found])
            tried = [row["id"] for row, _ in found], [row["attempts"] for row, _ in found]
            done = await self._run(lambda c, tried=tried: c.fetch(_DONE, *tried))  # type: ignore[misc]
            retried.recorded += len(done)
            retried.kept += len(found) - len(done)
        return retried

    async def _next(self, given: tuple[Any, ...], last: int, newest: int) -> Sequence[Any]:
        rows = await self._run(lambda c: c.fetch(_NEXT, *given, last, _AT_ONCE, _BYTES))
        return [row for row in rows if row["id"] <= newest]  # later ones were set aside meanwhile

    async def discard(self, which: QuarantineFilter) -> int:
        """Delete rows; return their number."""
        return int(await self._run(lambda c: c.fetchval(_DISCARD, *_given(which))))


def _given(which: QuarantineFilter) -> tuple[Any, ...]:
    return list(which.ids) if which.ids is not None else None, which.reason, which.tenant


def _observation(row: Any) -> Observation | None:
    return unpacked(row["bytes"]) if row["source"] == OBSERVATION else None
