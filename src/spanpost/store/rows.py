"""The results of a fold as rows: SQL and its values. jsonb is sent as text with a cast, which works behind poolers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.messages import LocaleMessage
from spanpost.model.tasks import Task
from spanpost.store.compression import compressed, decompressed
from spanpost.store.copying import NULL, copy_into, jsonb, sized
from spanpost.tasks.folded import Folded, Move, SpanMove
from spanpost.tasks.titles import title
from spanpost.text.repair import mend_value

S = TypeVar("S", bound=msgspec.Struct)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 2**63 - 1
_json = msgspec.json.Encoder(enc_hook=str).encode
_pack = msgspec.msgpack.Encoder().encode
_decode_message = msgspec.json.Decoder(LocaleMessage).decode
_unpack_task = msgspec.msgpack.Decoder(Task).decode


def json_text(value: Any) -> str:
    """Encode JSON as text; NaN and infinity become null."""
    return _json(value).decode()


def tidy(record: S) -> S:
    """Return a record whose text PostgreSQL accepts (no NUL, no lone surrogate); the same object when it is clean.

    *Derived* rows must never be refused: the error would be blamed on observations that did not cause it.
    """
    try:
        if b"\\u0000" not in _json(record):
            return record
    except (UnicodeError, ValueError):
        pass
    return msgspec.convert(mend_value(msgspec.to_builtins(record))[0], type(record))


def _tidied(records: list[S], encode: Callable[[list[S]], str]) -> tuple[list[S], str]:
    """Return records as `tidy` does, and their encoding. One scan of the whole text finds that all are clean."""
    try:
        given = encode(records)
        if r"\u0000" not in given:
            return records, given
    except (UnicodeError, ValueError):
        pass
    records = [tidy(record) for record in records]
    return records, encode(records)


def _given(columns: dict[str, str], names: Mapping[str, str] = {}, defaults: Mapping[str, Any] = {}) -> str:
    """Return a SELECT of rows from one JSON array of objects (parameter 1); bytes are in base64.

    One text is encoded in a tenth of the time that an array for each column takes. `defaults` are the values
    of fields that an object leaves out. `names` are the fields of columns that are named differently.
    """
    values: list[str] = []
    given: dict[str, None] = {}  # a value may go to two columns
    for column, kind in columns.items():
        name = names.get(column, column)
        value = f"decode(given.{name}, 'base64')" if kind == "bytea" else f"given.{name}"
        default = defaults.get(name)
        if default is not None:
            value = f"coalesce({value}, '{json_text(default) if kind == 'jsonb' else str(default).lower()}'::{kind})"
        values.append(value)
        given[f"{name} {'text' if kind == 'bytea' else kind}"] = None
    return f"SELECT {', '.join(values)} FROM json_to_recordset($1::text::json) AS given({', '.join(given)})"


# --- tasks ----------------------------------------------------------------------------------------------------------

#: Columns whose Task field has another name: column names carry no is_.
_OF_TASK = {"inferred": "is_inferred", "announced": "is_announced"}
_TASK_COLUMNS = {
    "uid": "uuid", "tenant": "text", "task_id": "text", "aliases": "jsonb", "parent_uid": "uuid",
    "parent_task_id": "text", "root_uid": "uuid", "message_uid": "uuid", "trace_id": "bytea", "span_id": "bytea",
    "title": "text", "name": "text", "type": "text", "agent_name": "text", "agent_id": "text", "agent_version": "text",
    "service": "text", "environment": "text", "repo": "text", "topic": "text", "requested_by": "text",
    "retry_of": "text", "caused_by": "text", "order_id": "text", "session_id": "text", "status": "text",
    "end_reason": "text", "inferred": "boolean", "rule": "text", "announced": "boolean", "progress": "float8",
    "action": "text", "step_name": "text", "step_index": "int8", "step_count": "int8", "started_at": "timestamptz",
    "ended_at": "timestamptz", "last_event_at": "timestamptz", "runs": "int8", "input_tokens": "int8",
    "output_tokens": "int8", "cache_read_tokens": "int8", "cache_write_tokens": "int8", "reasoning_tokens": "int8",
    "cost_usd": "numeric", "unpriced_calls": "int8", "context_used_tokens": "int8", "context_window_tokens": "int8",
    "context_window_source": "text", "context_forecast": "jsonb", "loop": "jsonb", "model": "text",
    "llm_calls": "int8", "tool_calls": "int8", "tool_errors": "int8", "error_count": "int8", "child_count": "int8",
    "child_failed": "int8", "steps": "jsonb", "artifacts": "jsonb", "approvals": "jsonb", "links": "jsonb",
    "results": "jsonb", "error": "jsonb", "doc": "bytea",
}  # fmt: skip
#: Defaults of the fields that a row and its document leave out when they have this value: most fields of a
#: task do.
_DEFAULTS = {
    field.name: field.default for field in msgspec.structs.fields(Task) if field.default in (None, "", 0, False, ())
}
_DEFAULTS |= {f.name: {} for f in msgspec.structs.fields(Task) if f.default_factory is dict}
_REQUIRED = tuple(name for name in Task.__struct_fields__ if name not in _DEFAULTS)
_MAYBE = tuple(name for name, default in _DEFAULTS.items() if default is None)
_EMPTY = tuple(name for name, default in _DEFAULTS.items() if default is not None)
_required, _maybe, _empty = attrgetter(*_REQUIRED), attrgetter(*_MAYBE), attrgetter(*_EMPTY)
UPSERT_TASKS = (
    f"INSERT INTO agent_tasks ({', '.join(_TASK_COLUMNS)}) {_given(_TASK_COLUMNS, names=_OF_TASK, defaults=_DEFAULTS)}"
    " ON CONFLICT (uid) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in list(_TASK_COLUMNS)[1:])
    + ", updated_at = now()"
)
UPSERT_STALLED_TASKS = UPSERT_TASKS
UPSERT_TASKS += ", last_seen_at = now()"
_COUNTS = (
    "step_index", "step_count", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "unpriced_calls", "context_used_tokens", "context_window_tokens", "llm_calls", "tool_calls",
    "tool_errors",
)  # fmt: skip


_counts_of = attrgetter(*_COUNTS)


def task_rows(tasks: Sequence[Task]) -> str:
    """Return the parameter of `UPSERT_TASKS`.

    Integers that are too large for a column become the largest that fits.
    """
    found = []
    for task in tasks:
        fields = _fields(task)
        document = compressed(_pack(fields))
        fields["title"] = title(task)
        if max(filter(None, _counts_of(task)), default=0) > _INT64:
            fields.update([(f, _INT64) for f in _COUNTS if (fields.get(f) or 0) > _INT64])
        # The document becomes one more field of the row's object.
        found.append(_json(fields)[:-1] + b',"doc":' + _json(document) + b"}")
    return (b"[" + b",".join(found) + b"]").decode()


def _fields(task: Task) -> dict[str, Any]:
    """Return the fields of a task that do not have their default value."""
    fields = dict(zip(_REQUIRED, _required(task), strict=True))
    fields.update([(name, value) for name, value in zip(_MAYBE, _maybe(task), strict=True) if value is not None])
    fields.update([(name, value) for name, value in zip(_EMPTY, _empty(task), strict=True) if value])
    return fields


def task_of(doc: bytes) -> Task:
    """Decode a task from its document."""
    return _unpack_task(decompressed(doc))


# --- checkpoints ----------------------------------------------------------------------------------------------------

_CHECKPOINT_COLUMNS = {
    "id": "uuid", "tenant": "text", "task_uid": "uuid", "kind": "text", "status": "text", "text": "text",
    "detail": "text", "ref": "text", "progress": "float8", "at": "timestamptz", "trace_id": "bytea",
    "span_id": "bytea", "subtree": "bytea", "message": "jsonb",
}  # fmt: skip
CHECKPOINT_COLUMNS = ", ".join(_CHECKPOINT_COLUMNS)
#: `first_at` is written once: it orders the stream (`store.reader`).
_NEW_CHECKPOINT = {**_CHECKPOINT_COLUMNS, "first_at": "timestamptz"}
UPSERT_CHECKPOINTS = (
    f"INSERT INTO agent_checkpoints ({', '.join(_NEW_CHECKPOINT)})"
    f" {_given(_NEW_CHECKPOINT, names={'first_at': 'at'})} ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in list(_CHECKPOINT_COLUMNS)[1:])
    + " RETURNING id, xmax = 0 AS is_new"
)
#: With fewer checkpoints than this, asking which of them exist costs more than COPY saves.
_WORTH_COPYING = 8
#: The lateral join with its LIMIT makes the planner use the index, whatever size it assumes for the table.
_KNOWN_CHECKPOINTS = (
    "SELECT given.id FROM unnest($1::text::uuid[]) AS given(id)"
    " CROSS JOIN LATERAL (SELECT 1 FROM agent_checkpoints c WHERE c.id = given.id LIMIT 1) AS known"
)
#: Columns in the order of COPY: those of fixed size that are never null come first.
_COPIED = (
    "id",
    "task_uid",
    "at",
    "first_at",
    "progress",
    "tenant",
    "kind",
    "status",
    "text",
    "detail",
    "ref",
    "trace_id",
    "span_id",
    "subtree",
    "message",
)
_head = struct.Struct(">hi16si16siqiq").pack
_progress = struct.Struct(">id").pack
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _copied(c: Checkpoint) -> bytes:
    """Encode a row of `agent_checkpoints` for COPY."""
    at = (c.at - _YEAR_2000) // _MICROSECOND
    return b"".join(
        (
            _head(len(_COPIED), 16, c.id.bytes, 16, c.task_uid.bytes, 8, at, 8, at),
            _progress(8, c.progress) if c.progress is not None else NULL,
            sized(c.tenant.encode()),
            sized(c.kind.encode()),
            sized(c.status.encode()),
            sized(c.text.encode()),
            sized(c.detail.encode()),
            sized(c.ref.encode()),
            sized(c.trace_id),
            sized(c.span_id),
            sized(c.subtree),
            jsonb(_json(c.message)) if c.message is not None else NULL,
        )
    )


def message_of(message: str | None) -> LocaleMessage | None:
    """Decode a message; None for NULL."""
    return _decode_message(message) if message is not None else None


def checkpoint_of(row: Any) -> Checkpoint:
    """Return the checkpoint of a row (`CHECKPOINT_COLUMNS`)."""
    values = dict(row)
    values["kind"] = Kind(values["kind"])
    values["subtree"] = values["subtree"] or b""
    values["message"] = message_of(values["message"])
    return Checkpoint(**values)


# --- artifacts, moves and merged tasks ------------------------------------------------------------------------------

_UPSERT_ARTIFACTS = """
INSERT INTO task_artifacts AS known (task_uid, key, tenant, name, uri, kind, at, checkpoint_id)
SELECT given.*, newest.at, newest.id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  AS given(task_uid, key, tenant, name, uri, kind)
LEFT JOIN LATERAL (
  SELECT c.id, c.at FROM agent_checkpoints c
  WHERE c.task_uid = given.task_uid AND c.kind = 'artifact' AND c.ref = given.key ORDER BY c.at, c.id LIMIT 1
) AS newest ON true
ON CONFLICT (task_uid, key) DO UPDATE SET name = excluded.name, uri = excluded.uri, kind = excluded.kind,
  at = excluded.at,
  checkpoint_id = excluded.checkpoint_id
WHERE (known.name, known.uri, known.kind, known.at, known.checkpoint_id)
  IS DISTINCT FROM (excluded.name, excluded.uri, excluded.kind, excluded.at, excluded.checkpoint_id)"""
_DROP_ARTIFACTS = """
DELETE FROM task_artifacts WHERE task_uid = ANY($1::uuid[])
  AND (task_uid, key) NOT IN (SELECT * FROM unnest($2::uuid[], $3::text[]))"""
_MOVES = [
    f"UPDATE {table} AS moved SET subtree = g.subtree_to, task_uid = g.task_uid"
    " FROM json_to_recordset($1::text::json)"
    " AS given(tenant text, trace text, subtree_from text, subtree_to text, task_uid uuid),"
    " LATERAL (SELECT given.tenant, decode(given.trace, 'hex') AS trace_id,"
    " decode(given.subtree_from, 'hex') AS subtree_from, decode(given.subtree_to, 'hex') AS subtree_to,"
    " given.task_uid OFFSET 0) AS g"
    " WHERE moved.trace_id = g.trace_id AND moved.subtree = g.subtree_from AND moved.tenant = g.tenant"
    for table in ("audit_rows", "agent_checkpoints")
]


_SPAN_MOVES = [
    f"UPDATE {table} AS moved SET subtree = g.subtree, task_uid = g.task_uid"
    " FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::uuid[])"
    " AS g(tenant, trace_id, span_id, subtree, task_uid)"
    " WHERE moved.trace_id = g.trace_id AND moved.span_id = g.span_id AND moved.tenant = g.tenant"
    for table in ("audit_rows", "agent_checkpoints")
]


async def write_moves(connection: Any, moves: Sequence[Move]) -> None:
    """Re-point the rows that were recorded under a subtree, as if by one move after the other."""
    given = json_text(
        [
            {
                "tenant": tenant,
                "trace": trace_id.hex(),
                "subtree_from": subtree_from.hex(),
                "subtree_to": subtree_to.hex(),
                "task_uid": task_uid,
            }
            for (tenant, trace_id, subtree_from), (subtree_to, task_uid) in sorted(final_moves(moves).items())
        ]
    )
    for statement in _MOVES:
        await connection.execute(statement, given)


async def write_span_moves(connection: Any, moves: Sequence[SpanMove]) -> None:
    """Re-point the rows of spans that hang below another owning span than before."""
    columns = [list(column) for column in zip(*map(msgspec.structs.astuple, moves), strict=True)]
    for statement in _SPAN_MOVES:
        await connection.execute(statement, *columns)


def final_moves(moves: Sequence[Move]) -> dict[tuple[str, bytes, bytes], tuple[bytes, UUID]]:
    """Return where the moves lead in the end: (tenant, trace, first subtree) to (last subtree, task).

    Rows that one move brought to a subtree go on with a later move from there, so the last move is read
    first.
    """
    ends: dict[tuple[str, bytes, bytes], tuple[bytes, UUID]] = {}
    for m in reversed(moves):
        moved = ends.get((m.tenant, m.trace_id, m.subtree_to))
        ends[m.tenant, m.trace_id, m.subtree_from] = moved or (m.subtree_to, m.task_uid)
    return ends


_SUCCESSORS = "unnest($1::uuid[], $2::uuid[]) AS given(uid, successor)"
_INHERIT = [
    f"UPDATE task_redirects SET merged_into = given.successor FROM {_SUCCESSORS} WHERE merged_into = given.uid",
    f"INSERT INTO task_redirects (uid, merged_into) SELECT uid, successor FROM {_SUCCESSORS} ORDER BY uid"
    " ON CONFLICT (uid) DO UPDATE SET merged_into = excluded.merged_into, at = now()",
    *(
        f"UPDATE {table} SET task_uid = given.successor FROM {_SUCCESSORS} WHERE task_uid = given.uid"
        for table in (
            "deliveries",
            "approvals",
            "human_interventions",
            "launch_orders",
            "evaluations",
            "standing_approvals",
        )
    ),
]


async def write_gone(connection: Any, gone: Sequence[tuple[UUID, UUID | None]]) -> None:
    """Delete tasks that no longer exist, and point their rows to their successors (`task_redirects`)."""
    uids = [uid for uid, _ in gone]
    await connection.execute("DELETE FROM agent_tasks WHERE uid = ANY($1::uuid[])", uids)
    await connection.execute("DELETE FROM task_artifacts WHERE task_uid = ANY($1::uuid[])", uids)
    successors = {uid: successor for uid, successor in gone if successor is not None and successor != uid}
    if successors:
        given = list(successors), list(successors.values())
        for statement in _INHERIT:
            await connection.execute(statement, *given)


def ready_tasks(tasks: Sequence[Task]) -> tuple[list[Task], str]:
    """Return tasks in the order in which they are written, and the parameter of `UPSERT_TASKS`."""
    return _tidied(sorted(tasks, key=attrgetter("uid.bytes")), task_rows)


async def write_tasks(
    connection: Any, tasks: Sequence[Task], given: str, *, has_moved: bool, has_telemetry: bool = True
) -> None:
    """Write changed tasks (`ready_tasks`) with their artifacts.

    `has_telemetry`: telemetry changed them, not time alone.
    """
    await connection.execute(UPSERT_TASKS if has_telemetry else UPSERT_STALLED_TASKS, given)
    made = [(t.uid, a.key[:600], t.tenant, a.name, a.uri, a.kind) for t in tasks for a in t.artifacts]
    made = list({row[:2]: row for row in made}.values())
    columns = [[row[i] for row in made] for i in range(6)]
    if has_moved:
        await connection.execute(_DROP_ARTIFACTS, [t.uid for t in tasks], columns[0], columns[1])
    if made:
        await connection.execute(_UPSERT_ARTIFACTS, *columns)


async def write_checkpoints(connection: Any, folded: Folded, *, is_first: bool = False) -> set[UUID]:
    """Write reported and derived checkpoints; return the ids that are new.

    At the first try (`is_first`) new rows are copied in, which costs the server half. This raises
    `asyncpg.UniqueViolationError` when another transaction writes the same checkpoint meanwhile.
    """
    if folded.retracted:
        await connection.execute("DELETE FROM agent_checkpoints WHERE id = ANY($1::uuid[])", folded.retracted)
    newest = {c.id: c for c in folded.checkpoints}
    if not newest:
        return set()
    checkpoints, given = _tidied(sorted(newest.values(), key=attrgetter("id.bytes")), json_text)
    new: set[UUID] = set()
    upserted = checkpoints
    if is_first and len(checkpoints) >= _WORTH_COPYING:
        ids = "{" + ",".join([c.id.hex for c in checkpoints]) + "}"
        known = {row[0] for row in await connection.fetch(_KNOWN_CHECKPOINTS, ids)}
        added = [c for c in checkpoints if c.id not in known] if known else checkpoints
        if added:
            await copy_into(connection, "agent_checkpoints", _COPIED, map(_copied, added))
            new.update([c.id for c in added])
        upserted = [c for c in checkpoints if c.id in known]
        given = json_text(upserted)
    if upserted:
        new.update([row[0] for row in await connection.fetch(UPSERT_CHECKPOINTS, given) if row[1]])
    return new
