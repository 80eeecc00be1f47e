"""Rows of alerts in PostgreSQL, and the task that an alert names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert, Silence
from spanpost.model.tasks import Task
from spanpost.readers.alerts import Wanted
from spanpost.store.heartbeats import shown
from spanpost.store.rows import json_text

_DOCUMENTS = ("links", "labels", "annotations", "silence")
_COLUMNS = (
    "id", "tenant", "source", "fingerprint", "starts_at", "ends_at", "name", "severity", "summary", "description",
    *_DOCUMENTS, "trace_id", "span_id", "external_url", "acknowledged_by", "acknowledged_at",
)  # fmt: skip
_READ = (
    "SELECT "
    + ", ".join(f"{c}::text" if c in _DOCUMENTS else c for c in _COLUMNS)
    + " FROM alerts WHERE id = ANY($1::uuid[])"
)
_VALUES = ", ".join(f"${i}" if c not in _DOCUMENTS else f"${i}::text::jsonb" for i, c in enumerate(_COLUMNS, 1))
_WRITE = (
    f"INSERT INTO alerts ({', '.join(_COLUMNS)}) VALUES ({_VALUES})"
    " ON CONFLICT (id) DO UPDATE SET reported_at = now(), " + ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS[5:])
)
_LOCK = "SELECT 1 FROM alerts WHERE id = $1 FOR UPDATE"
_LIST = (
    "SELECT id FROM alerts WHERE tenant = $1 AND ($2::boolean IS NULL OR (ends_at IS NULL) = $2)"
    " ORDER BY starts_at DESC, id LIMIT $3"
)
_TASK = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND t.announced AND (t.task_id = $2 OR t.aliases @> to_jsonb($2::text))
ORDER BY t.task_id = $2 DESC, t.parent_uid IS NULL DESC, t.started_at DESC NULLS LAST, t.uid LIMIT 1"""
_OF_TRACE = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.tenant = $1 AND t.announced AND t.trace_id = $2
ORDER BY t.parent_uid IS NULL DESC, t.started_at DESC NULLS LAST, t.uid LIMIT 1"""
_MEANT = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND t.announced AND t.ended_at IS NULL AND t.agent_name = $2 AND spanpost_phase(t) = $3
  AND ($4 = '' OR t.environment = $4) LIMIT 2"""
_WAS_MEANT = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND t.announced AND t.agent_name = $2 AND ($3 = '' OR t.environment = $3)
  AND t.started_at BETWEEN $4 AND $5 AND (t.ended_at IS NULL OR t.ended_at >= $6) LIMIT 2"""


async def read(connection: Any, ids: Sequence[UUID]) -> dict[UUID, Alert]:
    """Return the recorded alerts among `ids`."""
    if not ids:
        return {}
    found = {}
    for row in await connection.fetch(_READ, list(ids)):
        values = dict(row) | {name: msgspec.json.decode(row[name] or "null") for name in _DOCUMENTS}
        values["silence"] = msgspec.convert(values["silence"], Silence | None)
        found[row["id"]] = Alert(**values)
    return found


async def write(connection: Any, alert: Alert) -> None:
    """Insert or update an alert."""
    values = [
        json_text(value) if c in _DOCUMENTS and value is not None else value
        for c in _COLUMNS
        for value in [getattr(alert, c)]
    ]
    await connection.execute(_WRITE, *values)


async def locked(connection: Any, id: UUID) -> Alert | None:
    """Return an alert, locked until the end of the transaction."""
    await connection.execute(_LOCK, id)
    return (await read(connection, [id])).get(id)


async def listed(connection: Any, tenant: str, is_firing: bool | None, limit: int) -> list[Alert]:
    """Return a tenant's alerts, newest first."""
    ids = [row["id"] for row in await connection.fetch(_LIST, tenant, is_firing, limit)]
    found = await read(connection, ids)
    return [found[id] for id in ids if id in found]


async def named(connection: Any, tenant: str, wanted: Wanted) -> Task | None:
    """Return the announced task that an alert names."""
    for ref in wanted.refs:
        row = await connection.fetchrow(_TASK, tenant, ref)
        if row is None and len(ref) == 32:
            with suppress(ValueError):
                row = await connection.fetchrow(_OF_TRACE, tenant, bytes.fromhex(ref))
        if row is not None:
            return shown(*row)
    if not wanted.agent:
        return None
    rows = await connection.fetch(_MEANT, tenant, wanted.agent, wanted.status, wanted.environment)
    if not rows:
        rows = await connection.fetch(_WAS_MEANT, tenant, wanted.agent, wanted.environment, *wanted.under_way)
    return shown(*rows[0]) if len(rows) == 1 else None
