"""A letter: what a route decides, before the ledger numbers it and the pump carries it."""

from __future__ import annotations

from uuid import UUID

import msgspec

from spanpost.domain.deliveries import Mode, Urgency


class Letter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who is told what, where. A ledger stores it as a delivery, unique by (sink, key)."""

    sink: str
    #: The sink's own address; empty: its default.
    address: str = ""
    #: What is delivered in order: sink, address and root task.
    lane: str
    mode: Mode
    #: State: the lane. News: the checkpoint, with the address where one is given.
    key: str
    urgency: Urgency = Urgency.NORMAL
    #: State: the root task. News: the task that the checkpoint is of.
    task_uid: UUID
    checkpoint_id: UUID | None = None
