"""What a ledger answers when it has recorded a batch."""

from __future__ import annotations

from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.tasks import Task
from spanpost.domain.usage import Usage


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A model call's figures, ready to be added to counters once."""

    agent_name: str | None
    model: str | None
    usage: Usage


class Recorded(msgspec.Struct, kw_only=True):
    """What was new in a batch: metrics are fed by this and by nothing else."""

    #: Audit rows that were new, and the same by part (``ended``, ``started``, ``event``, ``link``, ``log``).
    events: int = 0
    parts: dict[str, int] = {}
    repeats: int = 0
    #: Spans that are not an agent's: passed over.
    passed_over: int = 0
    #: Tasks whose row changed, newest state; and the uids that came into being or ended in this batch.
    tasks: list[Task] = []
    started: list[UUID] = []
    ended: list[UUID] = []
    checkpoints: list[Checkpoint] = []
    #: Model calls whose figures settled in this batch, each told once.
    settled: list[Settled] = []
    deliveries: int = 0
    #: Observations that could not be folded, by reason.
    lost: dict[str, int] = {}
