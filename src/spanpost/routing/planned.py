"""A planned delivery: the decision of a route, before the store numbers it and the dispatcher carries it."""

from __future__ import annotations

from enum import IntEnum
from uuid import UUID

import msgspec

from spanpost.model.deliveries import Mode, Urgency


class Again(IntEnum):
    """The effect of putting a checkpoint again under its key. Parameter of a statement: never renumber."""

    #: The same checkpoint: nothing changes.
    NEVER = 0
    #: Shown again in its message, when another, newer checkpoint has the same key; each is counted.
    COUNTED = 1
    #: Shown again in its message: its subject has changed.
    CHANGED = 2
    #: Progress, of which the newest is enough: one that still waits is replaced, one that was sent stays
    #: beside the new one.
    NEWEST = 3


#: End of an ordering key's `Again.NEWEST` key.
ON_THE_WAY = "|way"


def mark_of(key: str, checkpoint_id: UUID | None) -> str:
    """Return the mark of a checkpoint at the far side: its key, with the checkpoint's id where many share one key."""
    return f"{key}|{checkpoint_id}" if key.endswith(ON_THE_WAY) else key


class PlannedDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One delivery of a checkpoint or a state to one address. The store keeps it unique by (sink, key)."""

    sink: str
    #: The sink's own address; empty: its default.
    address: str = ""
    #: Deliveries with the same key go out in order: sink, address and root task.
    ordering_key: str
    mode: Mode
    #: State: the ordering key. Checkpoint: its id, with the address where one is given; where repeats count,
    #: what they share.
    key: str
    urgency: Urgency = Urgency.NORMAL
    #: State: the root task. Checkpoint: its own task.
    task_uid: UUID
    checkpoint_id: UUID | None = None
    again: Again = Again.NEVER
    #: Progress: seconds since the last of its kind under this ordering key (`tasks.milestones`).
    interval: float = 0.0
    #: A state that is put only where its message exists, or is about to.
    is_quiet: bool = False
