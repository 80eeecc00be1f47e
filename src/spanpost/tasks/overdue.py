"""What a deadline does to an open question."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from spanpost import semconv as c
from spanpost.model.interventions import ApprovalRow, InterventionState, Verb
from spanpost.model.observations import Observation
from spanpost.tasks.interventions import SPANPOST, decided, escalated

#: Least time for which an escalated question is open.
_LEAST = timedelta(minutes=1)


def overdue(row: ApprovalRow, now: datetime) -> tuple[ApprovalRow, Observation | None]:
    """Return an open question after its deadline, and the record of that; None where it simply stays open."""
    if row.at_expiry == "wait":
        return row, None
    if row.at_expiry == "escalate" and row.escalated_at is None and row.expires_at is not None:
        # As long again, and at least `_LEAST`: the agent's deadline may have been past when the question
        # arrived.
        more = max(row.expires_at - row.requested_at, _LEAST)
        row = msgspec.structs.replace(row, escalated_at=now, expires_at=now + more)
        return row, escalated(row, now)
    decision = str(Verb.DENY) if row.at_expiry == "deny" else c.EXPIRED
    row = msgspec.structs.replace(
        row, state=InterventionState.EXPIRED, decision=decision, source=SPANPOST, decided_at=now
    )
    return row, decided(row, now)
