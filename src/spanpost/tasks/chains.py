"""Chains: a question is asked in one place after the other, while it is open."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from spanpost import semconv as c
from spanpost.model.interventions import ApprovalRow, AskedPlace, InterventionState
from spanpost.model.observations import Observation
from spanpost.tasks.interventions import of_approval

#: Kind of the timer of a question's next place: it follows the 16 bytes of the question's key.
NEXT = b"c"


def passed_on(row: ApprovalRow, at: datetime) -> tuple[ApprovalRow, Observation | None]:
    """Return an open question after its next place is asked, and the record of that; None where all were."""
    if len(row.asked) >= len(row.places):
        return row, None
    place = row.places[len(row.asked)]
    row = msgspec.structs.replace(row, asked=(*row.asked, AskedPlace(place=place, at=at)))
    words = {c.APPROVAL_TO: place, c.APPROVAL_QUESTION: row.question, c.APPROVAL_DETAIL: row.detail}
    return row, of_approval(c.EVENT_APPROVAL_PASSED_ON, row, at, words)


def next_at(row: ApprovalRow) -> datetime | None:
    """Return when the next place of an open question is asked."""
    if row.state is not InterventionState.OPEN or not 0 < len(row.asked) < len(row.places):
        return None
    return row.asked[-1].at + timedelta(seconds=row.places_after)
