"""Leaves whose rows are in no table, and the notes of the log that explain them.

One byte of memory for each leaf, whatever the notes say.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final
from uuid import UUID

from spanpost.store.sealing.forgetting import SOURCES
from spanpost.store.sealing.verified import MOST, Verified

#: What is known of a leaf: its row is in no table; a note says that it was erased, or archived; its row was found in
#: an archive; the note of the archive that is being read names it.
_MISSING, _ERASED, _ARCHIVED, _FOUND, _HERE = 1, 2, 4, 8, 16
_RANGES: Final = "SELECT lower(r), upper(r) FROM seal_notes n, unnest(n.leaves) AS r WHERE n.id = ANY($1::uuid[])"
_NAMES: Final = "SELECT leaf, source, row_id FROM sealed_rows WHERE tenant = $1 AND leaf = ANY($2::int8[])"
_SOURCES: Final = {number: source for source, number in SOURCES.items()}
#: Notes of one query.
_AT_ONCE: Final = 500


def _with(bit: int) -> bytes:
    return bytes(state | bit for state in range(256))


def _without(bit: int) -> bytes:
    return bytes(state & ~bit for state in range(256))


class GoneRows:
    """Leaves of one log without rows in the tables."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self._states = bytearray()
        self._erasing: list[UUID] = []
        #: Notes by the SHA-256 of the archive that they name.
        self._archiving: defaultdict[bytes, list[UUID]] = defaultdict(list)

    def grow(self, size: int) -> None:
        """Add leaves up to `size`, of which nothing is known."""
        self._states.extend(bytes(size - len(self._states)))

    def miss(self, leaf: int) -> None:
        """Note that the row of a leaf is in no table, or has no name any more."""
        self._states[leaf] |= _MISSING

    def note(self, id: UUID, kind: str, archive: bytes | None) -> None:
        """Take a note of the log that explains leaves without rows."""
        if kind == "removed" and archive is not None:
            self._archiving[archive].append(id)
        elif kind != "key":
            self._erasing.append(id)

    async def read_notes(self, connection: Any) -> None:
        """Read which leaves the notes explain."""
        await self._mark(connection, self._erasing, _with(_ERASED))
        await self._mark(connection, [id for ids in self._archiving.values() for id in ids], _with(_ARCHIVED))

    async def begin_archive(self, connection: Any, sha256: bytes) -> bool:
        """Read which leaves the notes of an archive name; False: no note names it."""
        await self._mark(connection, self._archiving.get(sha256, []), _with(_HERE))
        return sha256 in self._archiving

    async def end_archive(self, connection: Any, sha256: bytes) -> None:
        """Forget what `begin_archive` read."""
        await self._mark(connection, self._archiving.get(sha256, []), _without(_HERE))

    async def believe_archive(self, connection: Any, sha256: bytes) -> None:
        """Take the rows of an archive whose file is not read as found."""
        await self._mark(connection, self._archiving.get(sha256, []), _with(_FOUND))

    def find(self, leaf: int) -> None:
        """Note that an archive holds the row of a leaf, unchanged."""
        if self._states[leaf] & _HERE:
            self._states[leaf] |= _FOUND

    async def explain(self, connection: Any, result: Verified) -> None:
        """Add findings for leaves that no note explains, and for those that are in no archive."""
        unexplained: list[int] = []
        for leaf, state in enumerate(self._states):
            if not state & _MISSING:
                continue
            if state & _ERASED:
                result.erased += 1
            elif state & _FOUND:
                result.archived += 1
            elif len(unexplained) < MOST:
                unexplained.append(leaf)
            else:
                result.more_findings += 1
        names = {row["leaf"]: row for row in await connection.fetch(_NAMES, self.tenant, unexplained)}
        for leaf in unexplained:
            row = names.get(leaf)
            name = f"{_SOURCES.get(row['source'], 'row')} {row['row_id']}" if row is not None else "its row"
            if self._states[leaf] & _ARCHIVED:
                what = f"{name} was archived, and no archive that is listed and named by the log holds it unchanged"
            elif row is not None:
                what = f"{name} was deleted, or its key was changed"
            else:
                what = "the salt and the key of its row were deleted"
            result.add(self.tenant, what, leaf)

    async def _mark(self, connection: Any, notes: list[UUID], table: bytes) -> None:
        states, size = self._states, len(self._states)
        for start in range(0, len(notes), _AT_ONCE):
            async for lower, upper in connection.cursor(_RANGES, notes[start : start + _AT_ONCE], prefetch=10_000):
                # The owner of the database may have written any range.
                begin, end = max(lower or 0, 0), min(size if upper is None else upper, size)
                if begin < end:
                    states[begin:end] = states[begin:end].translate(table)
