"""Telemetry of a trace that is over and whose placement records are gone (`archiving.placement`).

It is recorded as audit rows of the trace's task. It changes no figures and posts nothing: the records that could say
what was counted already are not there any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from spanpost.model.recorded import Recorded
from spanpost.store import audit
from spanpost.store.attribute_sets import AttributeSets
from spanpost.tasks.folded import Placed

#: Placement records stay for an hour at least. The topmost task of a trace comes last.
_OVER: Final = """
SELECT t.tenant, t.trace_id, t.uid FROM agent_tasks t
WHERE t.trace_id = ANY($1::bytea[]) AND t.updated_at < now() - interval '1 hour' AND t.ended_at IS NOT NULL
ORDER BY t.parent_uid IS NULL, t.uid"""


async def take_late(
    connection: Any, new: Sequence[Placed], unknown: Collection[bytes], sets: AttributeSets, now: datetime
) -> tuple[list[Placed], Recorded]:
    """Record the observations of traces that are over; return the others, and what was recorded.

    `unknown` are the domains without any record.
    """
    asked = [p for p in new if p.domain in unknown]
    rows = await connection.fetch(_OVER, sorted({p.observation.trace_id for p in asked})) if asked else ()
    if not rows:
        return list(new), Recorded()
    tasks: dict[tuple[str, bytes], UUID] = {(row["tenant"], row["trace_id"]): row["uid"] for row in rows}
    places = {
        i: (tasks[p.observation.tenant, p.observation.trace_id], b"")
        for i, p in enumerate(new)
        if p.domain in unknown and (p.observation.tenant, p.observation.trace_id) in tasks
    }
    await audit.write_events(connection, [row for _, row in audit.events(new, places, now, sets)])
    parts = Counter(new[i].source.part.name.lower() for i in places)
    return [p for i, p in enumerate(new) if i not in places], Recorded(events=len(places), parts=dict(parts))
