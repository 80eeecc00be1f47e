"""What a fold came to, as rows: SQL beside the values that go into it.

jsonb travels as text with a cast: that needs no codec on the connection, so that it works behind a pooler as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.observations import Observation, Origin, Part
from spanpost.domain.tasks import Task
from spanpost.fold.batch import Folded, Move, Placed
from spanpost.fold.mend import mend_value

S = TypeVar("S", bound=msgspec.Struct)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 2**63 - 1
_json = msgspec.json.Encoder(enc_hook=str).encode
_pack = msgspec.msgpack.Encoder().encode
_unpack_task = msgspec.msgpack.Decoder(Task).decode


def json_text(value: Any) -> str:
    """Return JSON as text; NaN and infinity become null."""
    return _json(value).decode()


def event_at(o: Observation) -> datetime:
    """Return an observation's own time, a pure function of what its content hash covers."""
    return EPOCH + timedelta(microseconds=o.at_ns // 1000)


def tidy(record: S) -> S:
    """Return a record whose text PostgreSQL takes (no NUL, no lone surrogate): the very record when it is clean.

    Rows that are *derived* must never be refused: the fault would be blamed on observations that have no part in it.
    """
    try:
        if b"\\u0000" not in _json(record):
            return record
    except (UnicodeError, ValueError):
        pass
    return msgspec.convert(mend_value(msgspec.to_builtins(record))[0], type(record))


# --- events -----------------------------------------------------------------------------------------------------------

_EVENT_COLUMNS = {
    "event_id": "uuid", "content_hash": "bytea", "tenant": "text", "trace_id": "bytea", "span_id": "bytea",
    "parent_span_id": "bytea", "part": "int2", "idx": "int8", "name": "text", "kind": "int2", "role": "int2", "occurred_at": "timestamptz", "start_ns": "int8",
    "end_ns": "int8", "status": "int2", "status_message": "text", "attributes": "jsonb", "resource": "jsonb", "scope": "text",
    "links": "jsonb", "body": "jsonb", "severity": "int2", "repairs": "int4", "task_uid": "uuid", "unit": "bytea",
    "producer": "text", "seq": "int8",
}  # fmt: skip


def _unnested(columns: dict[str, str]) -> str:
    arrays = ", ".join(f"${i}::{'text' if t == 'jsonb' else t}[]" for i, t in enumerate(columns.values(), 1))
    values = ", ".join(f"{c}::jsonb" if t == "jsonb" else c for c, t in columns.items())
    return f"SELECT {values} FROM unnest({arrays}) AS given({', '.join(columns)})"


INSERT_EVENTS = f"INSERT INTO agent_events ({', '.join(_EVENT_COLUMNS)}) {_unnested(_EVENT_COLUMNS)} ON CONFLICT DO NOTHING"

#: The lateral with its limit keeps the planner at the index, whatever it believes of the table's size.
KNOWN_EVENTS = (
    "SELECT given.i FROM unnest($1::timestamptz[], $2::uuid[], $3::bytea[]) WITH ORDINALITY AS given(at, id, hash, i)"
    " CROSS JOIN LATERAL (SELECT 1 FROM agent_events e"
    " WHERE e.occurred_at = given.at AND e.event_id = given.id AND e.content_hash = given.hash LIMIT 1) AS known"
)


def event_arrays(placed: Sequence[Placed], recorded: dict[int, tuple[UUID | None, bytes]]) -> list[list[Any]]:
    """Return the columns of the audit rows, one array each, in the order of their key (so that writers cannot deadlock)."""
    origins: dict[int, tuple[Origin, str, str]] = {}
    rows = []
    for i, (task_uid, unit) in recorded.items():
        p = placed[i]
        o, span = p.source, p.observation  # a record that stands for a span is kept as it came, under that span
        kept = origins.get(id(o.origin))
        if kept is None:
            scope = f"{o.origin.scope} {o.origin.scope_version}".strip()
            kept = origins[id(o.origin)] = (o.origin, json_text(o.origin.resource), scope)
        rows.append(
            (
                event_at(o), p.event_id, p.content_hash, o.tenant, span.trace_id, span.span_id, span.parent_id or None, int(o.part),
                o.index if o.part is not Part.LOG else None, o.name, o.kind, int(p.reading.role), o.start_ns or None,
                o.end_ns or None, int(o.status), o.status_message, json_text(o.attributes) if o.attributes else "{}", kept[1], kept[2],
                json_text([(t.hex(), s.hex()) for t, s in o.links]) if o.links else "[]",
                json_text(o.body) if o.body is not None else None, o.severity, o.repairs, task_uid, unit, o.producer, o.seq,
            )
        )  # fmt: skip
    rows.sort(key=lambda row: row[:3])
    at, ids, hashes, tenant, trace, spans, parent, part, idx, name, kind, role, *rest = map(list, zip(*rows, strict=True))
    return [ids, hashes, tenant, trace, spans, parent, part, idx, name, kind, role, at, *rest]


# --- tasks ------------------------------------------------------------------------------------------------------------

#: Columns whose Task field has another name: public names carry no is_.
_OF_TASK = {"inferred": "is_inferred", "announced": "is_announced"}
_TASK_JSON = ("aliases", "steps", "artifacts", "approvals", "links", "results", "error")
_TASK_COLUMNS = (
    "uid", "tenant", "task_id", "aliases", "parent_uid", "parent_task_id", "root_uid", "message_uid", "trace_id", "span_id", "name",
    "type", "agent_name", "agent_id", "agent_version", "service", "environment", "repo", "topic", "requested_by", "retry_of",
    "session_id", "status", "end_reason", "inferred", "rule", "announced", "progress", "action", "step_name", "step_index",
    "step_count", "started_at", "ended_at", "last_event_at", "segments", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_usd", "context_used_tokens", "context_window_tokens", "context_window_source",
    "model", "llm_calls", "tool_calls", "tool_errors", "error_count", "child_count", "child_failed", "steps", "artifacts",
    "approvals", "links", "results", "error",
)  # fmt: skip
_TASK_PLACES = ", ".join(f"${i}::text::jsonb" if c in _TASK_JSON else f"${i}" for i, c in enumerate((*_TASK_COLUMNS, "doc"), 1))
UPSERT_TASK = (
    f"INSERT INTO agent_tasks ({', '.join(_TASK_COLUMNS)}, doc) VALUES ({_TASK_PLACES}) ON CONFLICT (uid) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in (*_TASK_COLUMNS[1:], "doc"))
    + ", updated_at = now()"
)


def task_row(task: Task) -> tuple[Any, ...]:
    """Return a task's values for `UPSERT_TASK`; integers that no column holds are cut to the nearest that it does."""
    row: list[Any] = []
    for column in _TASK_COLUMNS:
        value = getattr(task, _OF_TASK.get(column, column), None)
        if column in _TASK_JSON:
            value = json_text(value) if value is not None else None
        elif type(value) is int:
            value = max(-_INT64, min(value, _INT64))
        row.append(value)
    return (*row, _pack(task))


def task_of(doc: bytes) -> Task:
    """Return a task as it was written."""
    return _unpack_task(doc)


# --- checkpoints ------------------------------------------------------------------------------------------------------

_CHECKPOINT_COLUMNS = {
    "id": "uuid", "tenant": "text", "task_uid": "uuid", "kind": "text", "status": "text", "text": "text", "detail": "text",
    "ref": "text", "progress": "float8", "at": "timestamptz", "trace_id": "bytea", "span_id": "bytea", "unit": "bytea",
}  # fmt: skip
CHECKPOINT_COLUMNS = ", ".join(_CHECKPOINT_COLUMNS)
UPSERT_CHECKPOINTS = (
    f"INSERT INTO agent_checkpoints ({CHECKPOINT_COLUMNS}) {_unnested(_CHECKPOINT_COLUMNS)} ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in list(_CHECKPOINT_COLUMNS)[1:])
    + " RETURNING id, xmax = 0 AS is_new"
)


def checkpoint_arrays(checkpoints: Iterable[Checkpoint]) -> list[list[Any]]:
    """Return the columns of `UPSERT_CHECKPOINTS`, in the order of ids."""
    return [[getattr(c, column) for c in checkpoints] for column in _CHECKPOINT_COLUMNS]


def checkpoint_of(row: Any) -> Checkpoint:
    """Return a checkpoint as it was written."""
    values = dict(row)
    values["kind"] = Kind(values["kind"])
    values["unit"] = values["unit"] or b""
    return Checkpoint(**values)


# --- what hangs on them -----------------------------------------------------------------------------------------------

_UPSERT_ARTIFACTS = """
INSERT INTO task_artifacts AS known (task_uid, key, tenant, name, uri, kind, at, checkpoint_id)
SELECT given.*, told.at, told.id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS given(task_uid, key, tenant, name, uri, kind)
LEFT JOIN LATERAL (
  SELECT c.id, c.at FROM agent_checkpoints c
  WHERE c.task_uid = given.task_uid AND c.kind = 'artifact' AND c.ref = given.key ORDER BY c.at, c.id LIMIT 1
) AS told ON true
ON CONFLICT (task_uid, key) DO UPDATE SET name = excluded.name, uri = excluded.uri, kind = excluded.kind, at = excluded.at,
  checkpoint_id = excluded.checkpoint_id
WHERE (known.name, known.uri, known.kind, known.at, known.checkpoint_id)
  IS DISTINCT FROM (excluded.name, excluded.uri, excluded.kind, excluded.at, excluded.checkpoint_id)"""
_DROP_ARTIFACTS = """
DELETE FROM task_artifacts WHERE task_uid = ANY($1::uuid[])
  AND (task_uid, key) NOT IN (SELECT * FROM unnest($2::uuid[], $3::text[]))"""
_UPSERT_INTERVENTION = """
INSERT INTO human_interventions (id, tenant, task_uid, approval_id, action, question, detail, options, risk, expires_at, decision,
  actor, comment, via, at, trace_id, span_id, unit)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, 'telemetry', $14, $15, $16, $17)
ON CONFLICT (id) DO UPDATE SET task_uid = excluded.task_uid, question = excluded.question, detail = excluded.detail,
  options = excluded.options, risk = excluded.risk, expires_at = excluded.expires_at, decision = excluded.decision,
  actor = excluded.actor, comment = excluded.comment, at = excluded.at, unit = excluded.unit"""
_MOVES = [
    f"UPDATE {table} SET unit = $3, task_uid = $4 WHERE trace_id = $1 AND unit = $2"
    for table in ("agent_events", "agent_checkpoints", "human_interventions")
]


async def write_moves(connection: Any, moves: Sequence[Move]) -> None:
    """Re-point what was recorded under a unit, in the order of the moves."""
    values = [(m.trace_id, m.unit_from, m.unit_to, m.task_uid) for m in moves]
    for statement in _MOVES:
        await connection.executemany(statement, values)


async def write_gone(connection: Any, gone: Sequence[tuple[UUID, UUID | None]]) -> None:
    """Delete tasks that are no more and remember who took them over."""
    uids = [uid for uid, _ in gone]
    await connection.execute("DELETE FROM agent_tasks WHERE uid = ANY($1::uuid[])", uids)
    await connection.execute("DELETE FROM task_artifacts WHERE task_uid = ANY($1::uuid[])", uids)
    heirs = [(uid, heir) for uid, heir in gone if heir is not None and heir != uid]
    if heirs:
        await connection.executemany("UPDATE task_redirects SET merged_into = $2 WHERE merged_into = $1", heirs)
        await connection.executemany(
            "INSERT INTO task_redirects (uid, merged_into) VALUES ($1, $2)"
            " ON CONFLICT (uid) DO UPDATE SET merged_into = excluded.merged_into, at = now()",
            heirs,
        )
        await connection.executemany("UPDATE deliveries SET task_uid = $2 WHERE task_uid = $1", heirs)


async def write_tasks(connection: Any, tasks: Sequence[Task], *, has_moved: bool) -> None:
    """Write changed tasks, by uid, with their artifacts."""
    tasks = sorted(map(tidy, tasks), key=lambda t: t.uid)
    await connection.executemany(UPSERT_TASK, [task_row(t) for t in tasks])
    made = [(t.uid, a.key[:600], t.tenant, a.name, a.uri, a.kind) for t in tasks for a in t.artifacts]
    made = list({row[:2]: row for row in made}.values())
    columns = [[row[i] for row in made] for i in range(6)]
    if has_moved:
        await connection.execute(_DROP_ARTIFACTS, [t.uid for t in tasks], columns[0], columns[1])
    if made:
        await connection.execute(_UPSERT_ARTIFACTS, *columns)


async def write_checkpoints(connection: Any, folded: Folded) -> set[UUID]:
    """Write told and judged news, with the questions and answers among it; return the ids that are new."""
    if folded.retracted:
        await connection.execute("DELETE FROM agent_checkpoints WHERE id = ANY($1::uuid[])", folded.retracted)
        await connection.execute("DELETE FROM human_interventions WHERE id = ANY($1::uuid[])", folded.retracted)
    newest = {c.id: c for c in folded.checkpoints}
    if not newest:
        return set()
    checkpoints = [tidy(newest[id]) for id in sorted(newest)]
    rows = await connection.fetch(UPSERT_CHECKPOINTS, *checkpoint_arrays(checkpoints))
    asked = [c for c in checkpoints if c.kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED)]
    if asked:
        tasks = {t.uid: t for t in map(tidy, folded.tasks)}
        await connection.executemany(_UPSERT_INTERVENTION, [_intervention(c, tasks.get(c.task_uid)) for c in asked])
    return {row[0] for row in rows if row[1]}


def _intervention(c: Checkpoint, task: Task | None) -> tuple[Any, ...]:
    is_answer = c.kind is Kind.APPROVAL_RESOLVED
    about = next((a for a in (task.approvals if task is not None else ()) if a.id == c.ref), None)
    question, detail, risk, expires_at, decision, by, comment = c.text, c.detail, "", "", "", "", ""
    options: tuple[str, ...] = ()
    if about is not None:
        question, detail, options = about.question or question, about.detail or detail, about.options
        risk, expires_at = about.risk, about.expires_at
        if is_answer:
            decision, by, comment = about.decision, about.by, about.comment
    return (
        c.id, c.tenant, c.task_uid, c.ref, "resolved" if is_answer else "requested", question, detail, json_text(options), risk,
        expires_at, decision, by, comment, c.at, c.trace_id, c.span_id, c.unit,
    )  # fmt: skip
