"""Delete the records that only place telemetry: task state and timers of traces that are over.

A trace is over when none of its tasks is kept (`sources`), none of its records was touched since the cut, and none
ties it to a trace that is kept. Its tasks, checkpoints and audit rows stay: they are archived by their own retention.

What comes for such a trace afterwards is recognised by its task (`late`): a span that is sent again is a duplicate as
long as its audit row is in the table, and a new one is recorded as an audit row of its task. Neither changes figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from spanpost.semconv import FINAL_STATUSES
from spanpost.store.locks import lock
from spanpost.store.task_state import FetchedRecords, unpacked
from spanpost.tasks.record_keys import domain_of, members_key, state_key
from spanpost.tasks.records import DuplicateCalls, Members, RunCandidates

#: Rows of one query.
_CHUNK: Final = 10_000
#: Domains of one transaction: recording in these domains waits for their locks.
_DOMAINS: Final = 200
_KEPT: Final = """
SELECT t.uid, t.tenant, t.trace_id, t.span_id FROM agent_tasks t
WHERE coalesce(t.root_uid, t.uid) IN (
  SELECT coalesce(k.root_uid, k.uid) FROM agent_tasks k WHERE NOT (k.status = ANY($1::text[]) AND k.updated_at < $2))"""
_TREE: Final = (
    "SELECT key, touched_at < $2 AS is_old, CASE WHEN ties THEN doc END AS tie"
    " FROM task_state WHERE key > $1 ORDER BY key LIMIT $3"
)
# Checks the age again under the locks: a trace may have been touched meanwhile.
_DROP_DOMAINS: Final = """
WITH old AS (SELECT domain FROM unnest($1::bytea[]) AS domain WHERE NOT EXISTS (
  SELECT FROM task_state WHERE key >= domain AND key < domain || '\\xff'::bytea AND touched_at >= $2))
DELETE FROM task_state USING old WHERE key >= domain AND key < domain || '\\xff'::bytea"""
_DROP_TIMERS: Final = """
DELETE FROM timers WHERE substr(key, 1, 16) = ANY($1::bytea[])
  AND NOT EXISTS (SELECT FROM task_state WHERE task_state.key = substr(timers.key, 1, 16))"""


async def forget_placement(connection: Any, cut: datetime, *, is_done: bool) -> int:
    """Delete records of traces that are over since the cut, or only count them; return their number."""
    kept = await _domains(connection, await connection.fetch(_KEPT, sorted(FINAL_STATUSES), cut))
    after, found = b"", 0
    scan = _Scan(kept)
    while True:
        rows = await connection.fetch(_TREE, after, cut, _CHUNK)
        for key, is_untouched, tie in rows:
            scan.add(key, is_untouched=is_untouched, tie=tie)
        if len(rows) < _CHUNK:
            scan.close()
        else:
            after = rows[-1][0]
        while is_done and scan.over:
            chunk, scan.over = scan.over[:_DOMAINS], scan.over[_DOMAINS:]
            async with connection.transaction():
                await lock(connection, chunk)
                found += int((await connection.execute(_DROP_DOMAINS, chunk, cut)).rpartition(" ")[2])
                await connection.execute(_DROP_TIMERS, chunk)
        if len(rows) < _CHUNK:
            return found if is_done else scan.records


class _Scan:
    """Finds the domains that are over among records in the order of their keys."""

    def __init__(self, kept: set[bytes]) -> None:
        self._kept = kept
        self._domain, self._count, self._is_over = b"", 0, False
        #: Domains that are over, and the number of all their records.
        self.over: list[bytes] = []
        self.records = 0

    def add(self, key: bytes, *, is_untouched: bool, tie: bytes | None) -> None:
        if key[:16] != self._domain:
            self.close()
            self._domain, self._is_over = key[:16], key[:16] not in self._kept
        self._count += 1
        self._is_over = self._is_over and is_untouched and not (tie is not None and _is_tied(key, tie, self._kept))

    def close(self) -> None:
        if self._is_over:
            self.over.append(self._domain)
            self.records += self._count
        self._count, self._is_over = 0, False


async def _domains(connection: Any, kept: Sequence[Any]) -> set[bytes]:
    """Return the domains of kept tasks: their traces, their own ids, and the traces of their subtrees."""
    domains, members = set(), []
    for row in kept:
        trace, own = domain_of(row["tenant"], row["trace_id"]), row["uid"].bytes
        domains |= {trace, own}
        members += [members_key(key) for key in (state_key(own), state_key(trace), state_key(trace, row["span_id"]))]
    for start in range(0, len(members), _CHUNK):
        some = members[start : start + _CHUNK]
        found = FetchedRecords()
        await found.fetch(connection, some)
        for record in map(found.get, some):
            if isinstance(record, Members):
                domains |= {subtree[:16] for subtree in record.subtrees}
    return domains


def _is_tied(key: bytes, doc: bytes, kept: set[bytes]) -> bool:
    """Return whether a row has a record that ties its domain to a kept one."""
    return any(one[:16] in kept for rest, record in unpacked(key, doc).items() for one in _tied(rest[:1], record))


def _tied(kind: bytes, doc: bytes) -> Iterable[bytes]:
    """Return the keys that a record ties to its domain."""
    if kind == b"s":
        return msgspec.msgpack.decode(doc, type=DuplicateCalls).call_copies
    if kind in (b"r", b"l"):
        candidates = msgspec.msgpack.decode(doc, type=RunCandidates)
        return [*candidates.runs, candidates.into]
    return ()
