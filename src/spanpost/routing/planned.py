"""A delivery: what a route decides, before the store numbers it and the dispatcher carries it."""

from __future__ import annotations

from enum import IntEnum
from uuid import UUID

import msgspec

from spanpost.model.deliveries import Mode, Urgency


class Again(IntEnum):
    """What becomes of news that is put once more under its key. Parameter of a statement: never renumber."""

    #: The same telling: nothing.
    NEVER = 0
    #: Shown anew where it stands, when another, newer checkpoint tells it; each is counted.
    COUNTED = 1
    #: Shown anew where it stands: what it tells of has changed.
    CHANGED = 2
    #: Something on the way, of which the newest is enough: what still waits gives way, what was told stays and this is told beside.
    NEWEST = 3


#: How the key of a lane's `Again.NEWEST` ends.
ON_THE_WAY = "|way"


def mark_of(key: str, checkpoint_id: UUID | None) -> str:
    """Return what a telling is known by at the far side: its key; of what has one key for many tellings, the checkpoint too."""
    return f"{key}|{checkpoint_id}" if key.endswith(ON_THE_WAY) else key


class PlannedDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who is told what, where. A store stores it as a delivery, unique by (sink, key)."""

    sink: str
    #: The sink's own address; empty: its default.
    address: str = ""
    #: What is delivered in order: sink, address and root task.
    ordering_key: str
    mode: Mode
    #: State: the lane. News: the checkpoint, with the address where one is given; of what is counted, what the checkpoints share.
    key: str
    urgency: Urgency = Urgency.NORMAL
    #: State: the root task. News: the task that the checkpoint is of.
    task_uid: UUID
    checkpoint_id: UUID | None = None
    again: Again = Again.NEVER
    #: Of something on the way: seconds that the last of its kind in this lane must be past (`fold.milestones`).
    interval: float = 0.0
    #: A state that is put only where its message stands, or is about to.
    is_quiet: bool = False
