"""The table of a delivery's states: which event leads from which state to which.

    waiting ──claim──▶ sending ──receipt, found──▶ delivered
       ▲                  │  └──────give_up──────▶ dead
       └─retry, absent────┘

The table in docs/explanation/how-deliveries-travel.md is tested against `TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class DeliveryState(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"


class DeliveryEvent(StrEnum):
    """An event that changes a delivery."""

    CLAIM = "claim"
    RECEIPT = "receipt"
    FOUND = "found"
    ABSENT = "absent"
    RETRY = "retry"
    GIVE_UP = "give up"
    EXPIRE = "expire"
    REPORT_LATE = "report late"
    PUT_AGAIN = "put again"
    SKIP = "skip"
    SET_ASIDE = "set aside"
    DISCARD = "discard"
    REVIVE = "revive"


class Transition(NamedTuple):
    """One row of the table: the states in which an event may come, and those to which it may lead."""

    event: DeliveryEvent
    sources: tuple[DeliveryState, ...]
    targets: tuple[DeliveryState, ...]
    when: str


_WAITING, _SENDING, _DELIVERED, _DEAD = DeliveryState

#: An event that keeps the state has it on both sides. A new delivery is born waiting.
TRANSITIONS: Final = (
    Transition(DeliveryEvent.CLAIM, (_WAITING,), (_SENDING,), "A worker leases it, to send it or to look it up."),
    Transition(
        DeliveryEvent.RECEIPT,
        (_SENDING,),
        (_DELIVERED, _WAITING),
        "The sink delivered it. It waits if a newer one came.",
    ),
    Transition(
        DeliveryEvent.FOUND,
        (_SENDING,),
        (_DELIVERED, _WAITING),
        "A look-up found it. What changed since it was planned is sent again: its text may be old.",
    ),
    Transition(
        DeliveryEvent.ABSENT,
        (_SENDING,),
        (_WAITING, _DELIVERED),
        "A look-up found nothing: it is sent, unless it has a receipt.",
    ),
    Transition(DeliveryEvent.RETRY, (_SENDING,), (_WAITING,), "The call failed and may succeed later."),
    Transition(
        DeliveryEvent.GIVE_UP,
        (_SENDING,),
        (_DEAD, _WAITING),
        "The call can never succeed. It waits if a newer one came.",
    ),
    Transition(DeliveryEvent.EXPIRE, (_SENDING,), (_WAITING,), "The lease ran out: it may have arrived."),
    Transition(
        DeliveryEvent.REPORT_LATE,
        (_SENDING,),
        (_SENDING,),
        "A worker sent it after its lease had run out: it is looked up again.",
    ),
    Transition(
        DeliveryEvent.REPORT_LATE, (_WAITING, _DELIVERED, _DEAD), (_WAITING,), "The same, while no other worker has it."
    ),
    Transition(DeliveryEvent.PUT_AGAIN, (_WAITING, _DELIVERED, _DEAD), (_WAITING,), "Something newer takes its place."),
    Transition(
        DeliveryEvent.PUT_AGAIN,
        (_SENDING,),
        (_SENDING,),
        "The same, while it is under way: the newer one goes out next.",
    ),
    Transition(DeliveryEvent.SKIP, (_WAITING,), (_DELIVERED,), "No message was posted, and another message covers it."),
    Transition(DeliveryEvent.SET_ASIDE, (_WAITING,), (_DEAD,), "Its subject is gone, or has no message yet."),
    Transition(DeliveryEvent.DISCARD, (_WAITING,), (_DEAD,), "A person gives it up."),
    Transition(DeliveryEvent.REVIVE, (_DEAD,), (_WAITING,), "A person retries it."),
)
#: The states to which an event may lead, by event and state.
TARGETS: Final = {(t.event, source): t.targets for t in TRANSITIONS for source in t.sources}
