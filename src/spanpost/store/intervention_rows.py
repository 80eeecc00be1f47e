"""Rows of questions and interventions in PostgreSQL, and the notification of processes that wait for them.

A decision is one transaction: the rows of the intervention and the question, the record that is folded, and
the notification. Transactions about the same question or act run one after the other: they lock its topic
(`tasks.approvals.topic_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.acts import Operation
from spanpost.model.ids import named
from spanpost.model.interventions import (
    ApprovalRow,
    AskedPlace,
    Intervention,
    InterventionState,
    StandingAct,
    Verb,
    Verdict,
    Vote,
)
from spanpost.model.queries import ApprovalQuery
from spanpost.model.readings import ReportedDecision
from spanpost.model.tasks import Task
from spanpost.store import standing_rows
from spanpost.store.heartbeats import shown
from spanpost.store.rows import json_text, tidy
from spanpost.store.system_user import system_user
from spanpost.tasks import chains, questions
from spanpost.tasks import interventions as rules
from spanpost.tasks import standing_approvals as approving
from spanpost.tasks.approvals import trace_of_span
from spanpost.text.repair import mend_value

#: The channel of notifications; the payload is a topic in hex.
CHANNEL = "spanpost_last_seen"
#: How long an interaction request is remembered.
REMEMBERED = timedelta(hours=1)

_COLUMNS = (
    "key", "tenant", "approval_id", "mark", "is_asked", "is_cut", "task_uid", "span", "question", "detail", "options",
    "risk", "requested_at", "expires_at", "at_expiry", "escalated_at", "state", "decision", "by", "by_id", "comment",
    "source", "decided_at", "reported_decision", "tool", "needs", "places", "places_after", "votes", "asked", "rule",
    "resume",
)  # fmt: skip
#: Columns of JSON, and the types of their values.
_JSON: Final[Mapping[str, Any]] = {
    "options": tuple[str, ...],
    "reported_decision": ReportedDecision | None,
    "places": tuple[str, ...],
    "resume": tuple[str, ...],
    "votes": tuple[Vote, ...],
    "asked": tuple[AskedPlace, ...],
}
#: The columns of `approvals a` that `row_of` reads.
COLUMNS = ", ".join(f"a.{c}" if c not in _JSON else f"a.{c}::text" for c in _COLUMNS)
_SELECT = f"SELECT {COLUMNS} FROM approvals a"
_VALUES = ", ".join(f"${i}" if c not in _JSON else f"${i}::text::jsonb" for i, c in enumerate(_COLUMNS, 1))
_WRITE = (
    f"INSERT INTO approvals ({', '.join(_COLUMNS)}) VALUES ({_VALUES}) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS[1:])
)
_LISTED = f"""{_SELECT} WHERE ($1::text IS NULL OR a.tenant = $1) AND ($2::text IS NULL OR a.approval_id = $2)
  AND ($3::text IS NULL OR a.state = $3) AND ($4::uuid IS NULL OR a.task_uid = $4) AND ($6::text IS NULL OR a.mark = $6)
  AND ($7::text IS NULL OR split_part(a.span, '-', 1) = $7)
ORDER BY a.requested_at DESC, a.key LIMIT $5"""
#: Decisions of people on the same wording under the same id, in any trace.
_DECIDED = f"""
SELECT DISTINCT ON (a.tenant, a.approval_id, a.mark) {COLUMNS} FROM approvals a
JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked(tenant, id, mark)
  ON a.tenant = asked.tenant AND a.approval_id = asked.id AND a.mark = asked.mark
WHERE a.state = 'decided' AND a.source NOT IN ('', 'rule')
ORDER BY a.tenant, a.approval_id, a.mark, a.decided_at, a.key"""
_LOCK_WORDS = """
SELECT a.key FROM approvals a
JOIN approvals k ON a.tenant = k.tenant AND a.approval_id = k.approval_id AND a.mark = k.mark
WHERE k.key = $1 ORDER BY a.key FOR UPDATE OF a"""
_ANSWER_OTHERS = """
UPDATE approvals a
SET state = 'decided', decision = $4, by = $5, by_id = $6, comment = $7, source = $8, decided_at = $9,
  reported_decision = NULL
WHERE a.tenant = $1 AND a.approval_id = $2 AND a.mark = $3
  AND (a.state = 'open' OR (a.state = 'decided' AND a.source = '')) AND (a.needs <= $10 OR $4 = 'deny')
RETURNING a.span"""
_TASK = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.uid = $1
UNION ALL
SELECT t.doc, spanpost_phase(t) FROM task_redirects r JOIN agent_tasks t ON t.uid = r.merged_into
WHERE r.uid = $1 LIMIT 1"""
_REFERRED = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND (t.task_id = $2 OR t.aliases @> to_jsonb($2::text))
ORDER BY t.task_id = $2 DESC, t.started_at DESC NULLS LAST, t.uid LIMIT 1"""
_OF_TRACE = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND t.trace_id = $2 AND (t.ended_at IS NULL OR t.end_reason = 'interrupted')
ORDER BY t.parent_uid IS NULL DESC, t.started_at NULLS LAST, t.uid LIMIT 1"""
_SHOWN = """
SELECT d.task_uid, d.ordering_key FROM deliveries d
WHERE d.sink = $1 AND d.receipt IS NOT NULL AND d.receipt -> 'ref' @> $2::text::jsonb
ORDER BY d.mode = 'state' DESC, d.id DESC LIMIT 1"""
_TIMERS = """
INSERT INTO timers (key, at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[])
ON CONFLICT (key) DO UPDATE SET at = excluded.at"""
_VERDICT = "SELECT verdict::text FROM human_interventions WHERE tenant = $1 AND idempotency_key = $2"
_ACT = """
INSERT INTO human_interventions (id, tenant, task_uid, approval_id, action, question, detail, options, risk,
  expires_at, decision, actor, comment, via, at, trace_id, span_id, key, idempotency_key, verb, result, refusal,
  actor_id, actor_email, verdict, scope, rule, mark, credential, client, launcher, parameters, order_id, os_user)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
  $22, $23, $24, $25::text::jsonb, $26, $27, $28, $29, $30, $31, $32::text::jsonb, $33, $34)"""
_PROGRAM = """
INSERT INTO human_interventions (id, tenant, task_uid, approval_id, action, question, detail, options, risk,
  expires_at, decision, actor, comment, via, at, trace_id, span_id, key, mark, verb, result, actor_id, os_user)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, 'spanpost', $12, $13, $14, $15, $16, $17, $18, $19,
  'done', 'spanpost', $20)
ON CONFLICT (id) DO NOTHING"""
_OPERATION = """
INSERT INTO human_interventions (id, tenant, task_uid, approval_id, action, question, detail, options, risk,
  expires_at, decision, comment, at, trace_id, span_id, verb, via, result, refusal, actor, actor_id, actor_email,
  credential, client, os_user)
VALUES (gen_random_uuid(), $1, $2, '', $3, '', $4, '[]', '', '', '', '', clock_timestamp(), '', '', $3, $5, $6, $7,
  $8, $9, $10, $11, $12, $13) RETURNING id"""
_DEEDS = """
SELECT number, verb, actor AS by, comment AS text, recorded_at AS at FROM human_interventions
WHERE task_uid = $1 AND number > $2 AND result = 'done' AND verb = ANY($3::text[])
  AND ($5::timestamptz IS NULL OR recorded_at > $5) ORDER BY number LIMIT $4"""
# Reads the index of a task's checkpoints backwards in time: only the checkpoints since its last end.
_LAST_END = """
SELECT recorded_at FROM agent_checkpoints WHERE task_uid = $1 AND kind = 'end' ORDER BY at DESC LIMIT 1"""
_FIRST = "INSERT INTO interaction_requests (key) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
_FORGET = "DELETE FROM interaction_requests WHERE at < clock_timestamp() - $1::interval"

_NOBODY = UUID(int=0)


def row_of(row: Any) -> ApprovalRow:
    """Return the question of a row."""
    values = dict(row)
    for name, kind in _JSON.items():
        values[name] = msgspec.json.decode(values[name], type=kind) if values[name] is not None else None
    values["state"] = InterventionState(values["state"])
    return ApprovalRow(**values)


async def approval(connection: Any, key: UUID, *, is_locked: bool = False) -> ApprovalRow | None:
    """Return a question by its key; `is_locked`: lock it until the transaction ends."""
    row = await connection.fetchrow(f"{_SELECT} WHERE a.key = $1{' FOR UPDATE' if is_locked else ''}", key)
    return row_of(row) if row is not None else None


async def approvals(connection: Any, query: ApprovalQuery) -> list[ApprovalRow]:
    """List questions, newest first."""
    asked = query.tenant, query.approval_id, query.state, query.task_uid, query.limit, query.mark, query.trace
    found = await connection.fetch(_LISTED, *asked)
    return [row_of(row) for row in found]


async def lock_words(connection: Any, key: UUID) -> None:
    """Lock a question and all with its wording and id, in the order of their keys to avoid deadlocks."""
    await connection.execute(_LOCK_WORDS, key)


async def answer_others(connection: Any, row: ApprovalRow) -> list[ApprovalRow]:
    """Apply a question's answer to all others with the same wording and id; return these, as changed."""
    row = tidy(row)
    answer = row.decision, row.by, row.by_id, row.comment, row.source, row.decided_at
    found = await connection.fetch(_ANSWER_OTHERS, row.tenant, row.approval_id, row.mark, *answer, rules.backing(row))
    return [msgspec.structs.replace(row, span=other["span"]) for other in found]


async def task(connection: Any, uid: UUID) -> Task | None:
    """Return a task, or the task that it was merged into, with its status as of now."""
    row = await connection.fetchrow(_TASK, uid)
    return shown(*row) if row is not None else None


async def referred(connection: Any, tenant: str, ref: str) -> Task | None:
    """Return a task by one of its ids, by a trace id the topmost open task of the trace.

    By the id of a root span that is not known yet: the task of its trace.
    """
    row = await connection.fetchrow(_REFERRED, tenant, ref)
    if row is None and len(ref) == 32:
        with suppress(ValueError):
            row = await connection.fetchrow(_OF_TRACE, tenant, bytes.fromhex(ref))
    if row is None and (trace := trace_of_span(ref)):
        row = await connection.fetchrow(_REFERRED, tenant, trace)
    return shown(*row) if row is not None else None


async def shown_in(connection: Any, sink: str, ref: Mapping[str, Any]) -> Task | None:
    """Return the root task of a sink's message, by a part of its receipt's `ref`."""
    row = await connection.fetchrow(_SHOWN, sink, json_text(ref))
    if row is None:
        return None
    found = await task(connection, row["task_uid"])
    if found is None or found.root_uid in (None, found.uid):
        return found
    return await task(connection, found.root_uid) or found


async def deeds(
    connection: Any, uid: UUID, verbs: Sequence[str], after: int, limit: int, since: datetime | None
) -> list[StandingAct]:
    """Return acts on a task that were granted, numbered above `after` and recorded later than `since`."""
    return [StandingAct(**dict(row)) for row in await connection.fetch(_DEEDS, uid, after, list(verbs), limit, since)]


async def last_end(connection: Any, uid: UUID) -> datetime | None:
    """Return when the newest end of a run of a task was recorded."""
    found: datetime | None = await connection.fetchval(_LAST_END, uid)
    return found


async def is_first(connection: Any, key: str) -> bool:
    """Remember a request; False when it was received before, within the hour."""
    await connection.execute(_FORGET, REMEMBERED)
    return bool(await connection.fetchval(_FIRST, blake2b(key.encode("utf-8", "replace"), digest_size=16).digest()))


async def keep(connection: Any, tasks: Sequence[Task], now: datetime) -> questions.KeptQuestion:
    """Update the rows of these tasks' questions, and notify processes that wait for those that changed.

    A new question that a standing approval covers is decided here: both are locked, so that one which is revoked
    before this transaction commits has either decided or not.
    """
    keys, asked = questions.questions_of(tasks)
    known, decided = {}, []
    if keys:
        found = await connection.fetch(
            f"{_SELECT} WHERE a.key = ANY($1::uuid[]) ORDER BY a.key FOR UPDATE", sorted(keys)
        )
        known = {row["key"]: row_of(row) for row in found}
    if asked:
        decided = [
            row_of(row) for row in await connection.fetch(_DECIDED, *map(list, zip(*sorted(asked), strict=True)))
        ]
    standing = await standing_rows.candidates(connection, questions.tools_of(tasks, known))
    kept = questions.keep(known, decided, tasks, now, standing)
    for key in sorted(kept.rows):
        await write(connection, kept.rows[key])
    for one, row, task in kept.uses:
        await standing_rows.count(connection, one, now)
        await write_act(connection, *approving.use_of(one, row, task, now), row, is_repeatable=True)
    if kept.timers:
        await set_timers(connection, kept.timers)
    if kept.next_places:
        await set_timers(connection, kept.next_places, chains.NEXT)
    await notify(connection, kept.topics)
    return kept


async def write(connection: Any, row: ApprovalRow) -> None:
    """Insert or update a question."""
    row = tidy(row)
    values = [getattr(row, column) for column in _COLUMNS]
    for name in _JSON:
        value = getattr(row, name)
        values[_COLUMNS.index(name)] = json_text(value) if value is not None else None
    await connection.execute(_WRITE, *values)


async def set_timers(connection: Any, timers: Sequence[tuple[UUID, datetime]], kind: bytes = rules.TIMER) -> None:
    """Set the timers at which questions expire, or another `kind` of timer of theirs."""
    ordered = sorted((key.bytes + kind, at) for key, at in timers)
    await connection.execute(_TIMERS, [key for key, _ in ordered], [at for _, at in ordered])


async def notify(connection: Any, topics: Iterable[bytes]) -> None:
    """Notify all processes, at commit, of questions and acts that changed."""
    for topic in sorted(topics):
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, topic.hex())


async def verdict_of(connection: Any, act: Intervention) -> Verdict | None:
    """Return the verdict on the same act, if it was recorded before."""
    text = await connection.fetchval(_VERDICT, act.tenant, act.idempotency_key)
    return msgspec.json.decode(text, type=Verdict) if text is not None else None


async def write_act(
    connection: Any, act: Intervention, verdict: Verdict, row: ApprovalRow | None, *, is_repeatable: bool = False
) -> None:
    """Write an intervention with its verdict; `is_repeatable`: unless it is there already."""
    act = tidy(act)
    is_decision = act.verb.is_decision
    stands = verdict.result == "done"
    decision = rules.decision_of(act)
    trace, _, span = row.span.partition("-") if row is not None else ("", "", "")
    await connection.execute(
        _ACT + " ON CONFLICT DO NOTHING" * is_repeatable,
        UUID(bytes=named(f"{act.tenant}\0act\0{act.idempotency_key}")), act.tenant, verdict.task_uid or _NOBODY,
        row.approval_id if row is not None else "", "resolved" if is_decision and stands else str(act.verb),
        row.question if row is not None else "", row.detail if row is not None else "",
        json_text(row.options if row is not None else ()), row.risk if row is not None else "",
        row.expires_at.isoformat() if row is not None and row.expires_at is not None else "",
        decision, rules.name_of(act.actor), act.text, act.source or act.actor.provider, act.at, bytes.fromhex(trace),
        bytes.fromhex(span), act.key, act.idempotency_key, str(act.verb), str(verdict.result), act.refusal,
        rules.id_of(act.actor), act.actor.email, json_text(msgspec.structs.replace(verdict, recorded=None)),
        str(act.scope) if act.verb is Verb.APPROVE else "", verdict.rule, row.mark if row is not None else "",
        act.actor.credential, act.actor.client, act.launcher, json_text(act.parameters), verdict.order_id,
        system_user(),
    )  # fmt: skip


async def write_program_act(connection: Any, row: ApprovalRow, verb: str, at: datetime, comment: str = "") -> None:
    """Write what a deadline, a chain or a withdrawal did to a question. Safe to repeat."""
    row = tidy(row)
    trace, _, span = row.span.partition("-")
    await connection.execute(
        _PROGRAM,
        UUID(bytes=named(f"{row.tenant}\0{verb}\0{row.key}\0{row.requested_at.isoformat()}\0{comment}")), row.tenant,
        row.task_uid, row.approval_id, "resolved" if row.is_decided else verb, row.question, row.detail,
        json_text(row.options), row.risk, row.expires_at.isoformat() if row.expires_at is not None else "",
        row.decision, comment or row.comment, row.source or rules.SPANPOST, at, bytes.fromhex(trace),
        bytes.fromhex(span), row.key, row.mark, verb, system_user(),
    )  # fmt: skip


async def note_operation(connection: Any, operation: Operation) -> UUID:
    """Write an operation on the database or a gateway as an act without a task; return its id.

    See `Acts.note_operation`.
    """
    one, by = operation, tidy(operation.by)
    detail, refusal = (str(mend_value(text)[0]) for text in (one.detail, one.refusal))
    who = rules.name_of(by), rules.id_of(by), by.email, by.credential, by.client, system_user()
    given = one.tenant, _NOBODY, one.verb, detail, one.source, one.result, refusal
    id: UUID = await connection.fetchval(_OPERATION, *given, *who)
    return id
