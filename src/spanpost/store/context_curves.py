"""Context window use of a task, from the audit rows of its model calls."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.readings import Role
from spanpost.semconv import CONTEXT_USED
from spanpost.tasks.context_curve import Point, curve

#: Most calls that are read, the newest: a chart cannot show more points.
MOST: Final = 600
#: Longest attribute that is read, in characters: figures are short, prompts and answers are left out.
_SHORT: Final = 300
#: Columns of a call without its long texts, for `call_of`.
CALL_COLUMNS: Final = f"""e.part, e.name, e.kind, e.start_ns, e.end_ns, e.occurred_at, e.scope, e.trace_id, e.span_id,
  (SELECT jsonb_object_agg(a.key, a.value) FROM jsonb_each(e.attributes) a
    WHERE length(a.value::text) <= {_SHORT})::text AS attributes,
  (SELECT jsonb_object_agg(r.key, r.value) FROM jsonb_each(e.resource) r
    WHERE length(r.value::text) <= {_SHORT})::text AS resource"""
_CALLS: Final = f"""
SELECT {CALL_COLUMNS} FROM agent_events e
WHERE e.task_uid = $1 AND e.part <> {int(Part.STARTED)}
  AND ((e.part = {int(Part.ENDED)} AND e.role = {int(Role.LLM)}) OR e.attributes ? '{CONTEXT_USED}')
ORDER BY e.occurred_at DESC, e.event_id LIMIT {MOST}"""


async def read(connection: Any, task_uid: UUID) -> list[Point]:
    """Return how full a task's context window was, oldest first; only its newest calls."""
    return curve([call_of(row, Part(row["part"])) for row in await connection.fetch(_CALLS, task_uid)])


def call_of(row: Any, part: Part, status: int = 0) -> Observation:
    """Return the observation of a row with `CALL_COLUMNS`."""
    resource, attributes = (msgspec.json.decode(row[name]) if row[name] else {} for name in ("resource", "attributes"))
    at_ns = int(row["occurred_at"].timestamp() * 1_000_000) * 1000
    return Observation(
        part=part,
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        name=row["name"],
        kind=row["kind"],
        at_ns=at_ns,
        start_ns=row["start_ns"] or 0,
        end_ns=row["end_ns"] or 0,
        status=Status(status) if 0 <= status <= 2 else Status.UNSET,
        attributes=attributes,
        origin=Origin(resource=resource, scope=row["scope"]),
    )
