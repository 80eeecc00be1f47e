"""A task and the tasks below it on one axis of time: calls as bars, checkpoints as ticks, questions as spans."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task

#: Most tasks of a waterfall.
TRACKS: Final = 40


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One call or step; in a folded waterfall several of one kind. None: unknown."""

    task_uid: UUID
    #: step, llm, tool or handoff.
    kind: str
    #: Untrusted text: the tool's or the model's name, else the span's.
    name: str
    started_at: datetime
    #: None: it has not ended.
    ended_at: datetime | None = None
    count: int = 1
    errors: int = 0
    span_id: bytes = b""
    trace_id: bytes = b""
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost_usd: Decimal | None = None


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint."""

    task_uid: UUID
    at: datetime
    kind: str
    status: str
    #: Untrusted text.
    text: str


class AskedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """The time in which a question was open."""

    task_uid: UUID
    key: UUID
    #: Untrusted text.
    question: str
    asked_at: datetime
    #: None: it is open.
    closed_at: datetime | None
    state: str


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What was used when a model call ended: of its context, and in money since the task began."""

    task_uid: UUID
    at: datetime
    used_tokens: int | None
    cost_usd: Decimal | None


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """What the tasks did in a window of time; `tracks` are the task and those below it, oldest first."""

    tracks: list[Task] = []
    bars: list[Bar] = []
    ticks: list[Tick] = []
    questions: list[AskedSpan] = []
    uses: list[Use] = []
    #: Calls in the window were too many: bars stand for several.
    is_folded: bool = False
    #: Only the newest calls of a task are among them.
    is_cut: bool = False
