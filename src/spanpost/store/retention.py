"""Prune old data: audit rows, the task state of closed traces, deliveries that arrived.

A task is *kept* while it, or any task with the same root, is not final or has changed since the given time.
Nothing of a kept task is deleted, however old. Of the rest, everything older than the given time is deleted:

- `audit_rows`: a whole month if no kept task has a row in it, else row by row. Rows of no month
  (`audit_rows_rest`: senders whose clocks are years off) go by the time they were received.
- `task_state`: a trace's records, if none of them was touched since.
- `attribute_sets`: those that no audit row names, if no process has asked for them since.
- `deliveries`: all of an ordering key, if all were delivered.

Tasks, checkpoints, artifacts and interventions stay: they are small, and they are the history.

Limit: a span of a closed task that is sent again after pruning is recorded as new. So the given time should
be longer than any sender buffers its data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from spanpost.semconv import FINAL_STATUSES
from spanpost.store.locks import lock
from spanpost.store.task_state import FetchedRecords, unpacked
from spanpost.tasks.record_keys import domain_of, members_key, state_key
from spanpost.tasks.records import DuplicateCalls, Members, RunCandidates

#: Rows of one transaction: short transactions delay neither vacuum nor recording.
CHUNK = 10_000
#: Domains of one transaction: recording in these domains waits for their locks.
_DOMAINS = 200

# Connected tasks have one root. Tasks that only share a message are independent of each other here.
_KEPT = """
SELECT t.uid, t.tenant, t.trace_id, t.span_id FROM agent_tasks t
WHERE coalesce(t.root_uid, t.uid) IN (
  SELECT coalesce(k.root_uid, k.uid) FROM agent_tasks k WHERE NOT (k.status = ANY($1::text[]) AND k.updated_at < $2))"""
_MONTHS = """
SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' AS is_rest,
  substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('([^']+)'\\)$$)::timestamptz AS ends
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit_rows'::regclass ORDER BY 1"""
# A process asks for a set again after `attribute_sets.FRESH`, which is shorter than two days.
_DROP_SETS = """
DELETE FROM attribute_sets s WHERE s.used_at < least($1, now() - interval '2 days')
  AND NOT EXISTS (SELECT FROM audit_rows r WHERE r.set_id = s.id)"""
_OLD = "{age} < $1 AND (task_uid IS NULL OR task_uid <> ALL($2::uuid[]))"
_TREE = (
    "SELECT key, touched_at < $2 AS is_old, CASE WHEN ties THEN doc END AS tie"
    " FROM task_state WHERE key > $1 ORDER BY key LIMIT $3"
)
# Checks the age again under the locks: a trace may have been touched meanwhile.
_DROP_DOMAINS = """
WITH old AS (SELECT domain FROM unnest($1::bytea[]) AS domain WHERE NOT EXISTS (
  SELECT FROM task_state WHERE key >= domain AND key < domain || '\\xff'::bytea AND touched_at >= $2))
DELETE FROM task_state USING old WHERE key >= domain AND key < domain || '\\xff'::bytea"""
_DROP_TIMERS = """
DELETE FROM timers WHERE substr(key, 1, 16) = ANY($1::bytea[])
  AND NOT EXISTS (SELECT FROM task_state WHERE task_state.key = substr(timers.key, 1, 16))"""
_ORDERING_KEYS = """
SELECT d.sink, d.ordering_key, count(*) AS deliveries FROM deliveries d
JOIN ordering_keys l ON l.sink = d.sink AND l.ordering_key = d.ordering_key
WHERE l.due_at IS NULL AND l.lease_until IS NULL GROUP BY d.sink, d.ordering_key
HAVING bool_and(d.state = 'delivered' AND coalesce(d.finalized_at, d.born_at) < $1 AND d.task_uid <> ALL($2::uuid[]))
ORDER BY d.sink, d.ordering_key"""
_LOCK_ORDERING_KEYS = """
SELECT l.sink, l.ordering_key FROM ordering_keys l
JOIN unnest($1::text[], $2::text[]) AS g(sink, ordering_key) ON g.sink = l.sink AND g.ordering_key = l.ordering_key
WHERE l.due_at IS NULL AND l.lease_until IS NULL ORDER BY l.sink, l.ordering_key FOR UPDATE OF l"""
_GIVEN = "USING unnest($1::text[], $2::text[]) AS g(sink, ordering_key)"
_DROP_DELIVERIES = f"DELETE FROM deliveries d {_GIVEN} WHERE d.sink = g.sink AND d.ordering_key = g.ordering_key"
_DROP_ORDERING_KEYS = f"DELETE FROM ordering_keys l {_GIVEN} WHERE l.sink = g.sink AND l.ordering_key = g.ordering_key"


class Pruned(msgspec.Struct, kw_only=True):
    """The result of pruning: deleted rows, or rows to delete."""

    before: datetime
    is_done: bool
    #: Months of audit_rows that were dropped as a whole.
    months: list[str] = []
    events: int = 0
    task_state: int = 0
    ordering_keys: int = 0
    deliveries: int = 0
    #: Number of kept tasks.
    kept_tasks: int = 0


async def prune(connection: Any, older_than: timedelta, *, is_done: bool) -> Pruned:
    """Delete what is older, by the database's clock; `is_done` False: only count.

    Safe to repeat and to interrupt.
    """
    before = await connection.fetchval("SELECT clock_timestamp() - $1::interval", older_than)
    pruned = Pruned(before=before, is_done=is_done)
    kept = await connection.fetch(_KEPT, sorted(FINAL_STATUSES), before)
    uids = [row["uid"] for row in kept]
    pruned.kept_tasks = len(uids)
    await _events(connection, pruned, uids)
    await _tree(connection, pruned, await _domains(connection, kept))
    await _deliveries(connection, pruned, uids)
    return pruned


async def _events(connection: Any, pruned: Pruned, kept: Sequence[Any]) -> None:
    for name, is_rest, ends in await connection.fetch(_MONTHS):
        whole = not is_rest and ends is not None and ends <= pruned.before
        if whole and not await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {name} WHERE task_uid = ANY($1::uuid[]))", kept
        ):
            pruned.events += await connection.fetchval(f"SELECT count(*) FROM {name}")
            pruned.months.append(name)
            if pruned.is_done:
                await connection.execute(f"DROP TABLE {name}")
            continue
        # Rows of no month have unreliable event times (1970, 2099), so they go by the time they were
        # received.
        old = _OLD.format(age="received_at" if is_rest else "occurred_at")
        if not pruned.is_done:
            pruned.events += await connection.fetchval(f"SELECT count(*) FROM {name} WHERE {old}", pruned.before, kept)
        else:
            some = f"SELECT ctid FROM {name} WHERE {old} LIMIT {CHUNK}"
            while count := _affected(
                await connection.execute(f"DELETE FROM {name} WHERE ctid = ANY(ARRAY({some}))", pruned.before, kept)
            ):
                pruned.events += count
    if pruned.is_done:
        await connection.execute(_DROP_SETS, pruned.before)


async def _domains(connection: Any, kept: Sequence[Any]) -> set[bytes]:
    """Return the domains of kept tasks: their traces, their own ids, and the traces of their subtrees."""
    domains, members = set(), []
    for row in kept:
        trace, own = domain_of(row["tenant"], row["trace_id"]), row["uid"].bytes
        domains |= {trace, own}
        members += [members_key(key) for key in (state_key(own), state_key(trace), state_key(trace, row["span_id"]))]
    for start in range(0, len(members), CHUNK):
        some = members[start : start + CHUNK]
        found = FetchedRecords()
        await found.fetch(connection, some)
        for record in map(found.get, some):
            if isinstance(record, Members):
                domains |= {subtree[:16] for subtree in record.subtrees}
    return domains


async def _tree(connection: Any, pruned: Pruned, kept: set[bytes]) -> None:
    after, at, count, is_old = b"", b"", 0, False
    waiting: list[bytes] = []
    while True:
        rows = await connection.fetch(_TREE, after, pruned.before, CHUNK)
        for key, is_untouched, tie in rows:
            if key[:16] != at:
                waiting += _closed(pruned, at, count, is_old)
                at, count, is_old = key[:16], 0, key[:16] not in kept
            count += 1
            is_old = is_old and is_untouched and not (tie is not None and _is_tied(key, tie, kept))
        if len(rows) < CHUNK:
            waiting += _closed(pruned, at, count, is_old)
        else:
            after = rows[-1][0]
        while pruned.is_done and waiting:
            chunk, waiting = waiting[:_DOMAINS], waiting[_DOMAINS:]
            async with connection.transaction():
                await lock(connection, chunk)
                pruned.task_state += _affected(await connection.execute(_DROP_DOMAINS, chunk, pruned.before))
                await connection.execute(_DROP_TIMERS, chunk)
        if len(rows) < CHUNK:
            return


def _closed(pruned: Pruned, domain: bytes, count: int, is_old: bool) -> Iterator[bytes]:
    if is_old:
        if not pruned.is_done:
            pruned.task_state += count
        yield domain


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


async def _deliveries(connection: Any, pruned: Pruned, kept: Sequence[Any]) -> None:
    found = await connection.fetch(_ORDERING_KEYS, pruned.before, kept)
    if not pruned.is_done:
        pruned.ordering_keys, pruned.deliveries = len(found), sum(row["deliveries"] for row in found)
        return
    for start in range(0, len(found), CHUNK):
        chunk = found[start : start + CHUNK]
        async with connection.transaction():
            held = await connection.fetch(
                _LOCK_ORDERING_KEYS, [r["sink"] for r in chunk], [r["ordering_key"] for r in chunk]
            )
            sinks, ordering_keys = [r["sink"] for r in held], [r["ordering_key"] for r in held]
            pruned.deliveries += _affected(await connection.execute(_DROP_DELIVERIES, sinks, ordering_keys))
            pruned.ordering_keys += _affected(await connection.execute(_DROP_ORDERING_KEYS, sinks, ordering_keys))


def _affected(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
