"""Delete trees of tasks: rows, state and deliveries, in transactions of some hundred tasks each.

A transaction locks the domains of the traces first, as a recorder does. Afterwards each trace has a tombstone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.store.compression import compressed, decompressed
from spanpost.store.erasing import messages, tombstones
from spanpost.store.erasing.author import SEALED_ANEW, Author
from spanpost.store.erasing.columns import TABLES, Goes
from spanpost.store.erasing.selection import Trace
from spanpost.store.locks import lock
from spanpost.tasks.conversations import conversation_domain
from spanpost.tasks.record_keys import domain_of, tenant_key
from spanpost.tasks.records import DuplicateCalls, Node, RunCandidates, Subtree, TaskState

#: Tasks and traces of one transaction.
AT_ONCE: Final = 200

#: Rows by trace, and rows by task: one statement for both would read the whole table.
_BY_TRACE: Final = """
FROM audit_rows r {using} unnest($1::text[], $2::bytea[]) AS g(tenant, trace_id)
WHERE r.trace_id = g.trace_id AND r.tenant = g.tenant"""
_BY_TASK: Final = "FROM audit_rows r WHERE r.task_uid = ANY($1::uuid[])"
_RETURNING: Final = "RETURNING r.tenant, r.occurred_at, r.event_id, r.content_hash, r.set_id"
_DELETE_BY_TRACE: Final = f"DELETE {_BY_TRACE.format(using='USING')} {_RETURNING}"
_DELETE_BY_TASK: Final = f"DELETE {_BY_TASK} {_RETURNING}"
_COUNT: Final = f"""
SELECT (SELECT count(*) {_BY_TRACE.format(using="CROSS JOIN")}) + (SELECT count(*) FROM audit_rows r
  WHERE r.task_uid = ANY($3::uuid[])
    AND NOT EXISTS (SELECT FROM unnest($2::bytea[]) AS g(trace_id) WHERE g.trace_id = r.trace_id))"""
_STATE: Final = """
SELECT s.key, s.doc FROM unnest($1::bytea[]) AS g(domain) CROSS JOIN LATERAL (
  SELECT key, doc FROM task_state WHERE key >= g.domain AND key < g.domain || '\\xff'::bytea ORDER BY key LIMIT 1000000
) AS s"""
#: The lateral join with its LIMIT makes the planner use the index, whatever size it assumes for the table.
_DELETE_STATE: Final = f"""
DELETE FROM task_state WHERE key = ANY(ARRAY(SELECT found.key FROM ({_STATE}) AS found))"""
_DELETE_TIMERS: Final = "DELETE FROM timers WHERE substr(key, 1, 16) = ANY($1::bytea[])"
_QUESTIONS: Final = "SELECT key FROM approvals WHERE task_uid = ANY($1::uuid[])"
#: Statements that delete further rows of tasks ($1) with these public ids ($2, by tenant $3).
_MORE: Final = {
    "launch_orders": """DELETE FROM launch_orders WHERE task_uid = ANY($1::uuid[]) OR id::text IN (
  SELECT order_id FROM agent_tasks WHERE uid = ANY($1::uuid[]))""",
    "standing_approvals": "DELETE FROM standing_approvals WHERE task_uid = ANY($1::uuid[]) AND scope = 'task'",
    "task_redirects": """DELETE FROM task_redirects WHERE uid = ANY($1::uuid[]) OR merged_into = ANY($1::uuid[])""",
    "budget_reservations": """DELETE FROM budget_reservations b USING agent_tasks t
WHERE t.uid = ANY($1::uuid[]) AND b.tenant = t.tenant
  AND (b.ref = t.task_id OR t.aliases ? b.ref OR b.ref = encode(t.trace_id, 'hex'))""",
    **{
        name: f"DELETE FROM {name} WHERE {table.task} = ANY($1::uuid[])"
        for name, table in TABLES.items()
        if table.goes is Goes.WITH_TASK
    },
    "agent_tasks": "DELETE FROM agent_tasks WHERE uid = ANY($1::uuid[])",
}
#: An act stays as an act: who did what and when. What it was about goes.
_EMPTY_ACTS: Final = f"""
UPDATE human_interventions SET idempotency_key = NULL, decision = CASE WHEN decision IN ('', 'approve', 'deny') THEN
  decision ELSE 'erased' END, comment = '', refusal = '', verdict = NULL, approval_id = '', question = '', detail = '',
  options = '[]', parameters = '{{}}', mark = '', key = NULL, {SEALED_ANEW}
WHERE task_uid = ANY($1::uuid[])
  AND (question, detail, comment, approval_id, mark, parameters) <> ('', '', '', '', '', '{{}}')
RETURNING tenant, id"""
_EMPTY_STANDING: Final = """
UPDATE standing_approvals SET reason = '' WHERE task_uid = ANY($1::uuid[]) AND reason <> ''"""


async def counted(connection: Any, uids: set[UUID], traces: set[Trace]) -> Counter[str]:
    """Return how many rows would go, by table."""
    found: Counter[str] = Counter()
    given = list(uids)
    found["audit_rows"] = await connection.fetchval(_COUNT, *_columns(traces), given)
    for name, table in TABLES.items():
        if table.task and name != "audit_rows":
            found[name] = await connection.fetchval(
                f"SELECT count(*) FROM {name} WHERE {table.task} = ANY($1::uuid[])", given
            )
    return +found


async def erase(
    connection: Any, uids: set[UUID], traces: set[Trace], key: bytes, author: Author, erasure: UUID
) -> tuple[Counter[str], set[int], bool]:
    """Delete trees in one transaction.

    Return how many rows went by table, the attribute sets that they named, and whether everything is gone: a
    message that is being sent at this moment stays until its receipt is known.
    """
    domains = {domain_of(*trace) for trace in traces} | {uid.bytes for uid in uids}
    beside = await _beside(connection, domains)
    done: Counter[str] = Counter()
    async with connection.transaction():
        tenants = {tenant_key(tenant) for tenant, _ in traces}
        await lock(connection, domains | beside | tenants)
        beside |= await _beside(connection, domains)
        await tombstones.write(connection, (domain_of(*trace) for trace in traces), key)
        rows = await connection.fetch(_DELETE_BY_TRACE, *_columns(traces))
        rows += await connection.fetch(_DELETE_BY_TASK, list(uids))
        done["audit_rows"] = len(rows)
        for tenant in {row["tenant"] for row in rows}:
            keys = [(row[1], row[2], row[3]) for row in rows if row["tenant"] == tenant]
            await author.erased_rows(connection, tenant, keys)
        await _leave(connection, beside - domains, domains)
        done["task_state"] = affected(await connection.execute(_DELETE_STATE, list(domains)))
        questions = [row[0].bytes for row in await connection.fetch(_QUESTIONS, list(uids))]
        done["timers"] = affected(await connection.execute(_DELETE_TIMERS, [*domains, *questions]))
        acts = await connection.fetch(_EMPTY_ACTS, list(uids))
        done["human_interventions"] = len(acts)
        for tenant in {row["tenant"] for row in acts}:
            await author.erased_acts(connection, tenant, [row["id"] for row in acts if row["tenant"] == tenant])
        await connection.execute(_EMPTY_STANDING, list(uids))
        for table, statement in _MORE.items():
            done[table] += affected(await connection.execute(statement, list(uids)))
        posted, is_whole = await messages.withdraw(connection, uids, erasure)
        done += posted
    return done, {row["set_id"] for row in rows if row["set_id"] is not None}, is_whole


async def _beside(connection: Any, domains: Iterable[bytes]) -> set[bytes]:
    """Return further domains that the records of these name: response ids, conversations, candidate sets."""
    found: set[bytes] = set()
    for key, doc in await connection.fetch(_STATE, list(domains)):
        for rest, record in _unpacked(key, doc).items():
            kind = _KINDS.get(rest[:1])
            held = msgspec.msgpack.decode(record, type=kind) if kind is not None else None
            if isinstance(held, Node) and held.duplicates:
                found.add(held.duplicates[:16])
            elif isinstance(held, Subtree):
                found |= {candidates[:16] for candidates in held.candidate_sets}
            elif isinstance(held, TaskState):
                talks = {talk.conversation for talk in held.conversations.values()} - {""}
                found |= {conversation_domain(held.tenant, talk) for talk in talks}
    return found


_KINDS: Final[dict[bytes, Any]] = {b"c": Node, b"u": Subtree, b"g": TaskState}


def _unpacked(key: bytes, doc: bytes) -> dict[bytes, Any]:
    if len(key) > 16:
        return {key[16:]: doc}
    return msgspec.msgpack.decode(decompressed(doc), type=dict[bytes, msgspec.Raw]) if doc else {}


async def _leave(connection: Any, beside: set[bytes], erased: set[bytes]) -> None:
    """Take what erased traces left in domains that others share: copies of calls, runs that may go on."""
    for key, doc in await connection.fetch(_STATE, list(beside)):
        known = _unpacked(key, doc)
        left = {}
        for rest, record in known.items():
            held = _left(rest, record, erased)
            if held is not None:
                left[rest] = held
        if left.keys() == known.keys() and all(left[rest] is known[rest] for rest in left):
            continue
        if not left and doc:
            await connection.execute("DELETE FROM task_state WHERE key = $1", key)
        elif len(key) > 16:
            await connection.execute("UPDATE task_state SET doc = $2 WHERE key = $1", key, left[key[16:]])
        else:
            stored = compressed(msgspec.msgpack.encode(dict(sorted(left.items()))))
            await connection.execute("UPDATE task_state SET doc = $2 WHERE key = $1", key, stored)


def _left(rest: bytes, record: Any, erased: set[bytes]) -> Any:
    """Return a record without erased traces; the same object when it has none, None when nothing is left."""
    if rest[:1] == b"w":
        return None  # how full the window of an erased conversation was
    if rest[:1] == b"s":
        calls = msgspec.msgpack.decode(record, type=DuplicateCalls)
        kept = {at: copy for at, copy in calls.call_copies.items() if at[:16] not in erased}
        if len(kept) == len(calls.call_copies):
            return record
        calls.call_copies = kept
        return msgspec.Raw(msgspec.msgpack.encode(calls)) if kept else None
    if rest[:1] in (b"r", b"l"):
        candidates = msgspec.msgpack.decode(record, type=RunCandidates)
        before = len(candidates.runs) + len(candidates.linked)
        for runs in (candidates.runs, candidates.linked):
            for at in [at for at, run in runs.items() if at[:16] in erased or run.state[:16] in erased]:
                del runs[at]
        if len(candidates.runs) + len(candidates.linked) == before:
            return record
        return msgspec.Raw(msgspec.msgpack.encode(candidates)) if candidates.runs or candidates.linked else None
    return record


def _columns(traces: Iterable[Trace]) -> tuple[list[str], list[bytes]]:
    given: Sequence[Trace] = list(traces)
    return [tenant for tenant, _ in given], [trace for _, trace in given]


def affected(tag: str) -> int:
    """Return the number of rows in a command's tag."""
    return int(tag.rpartition(" ")[2])
