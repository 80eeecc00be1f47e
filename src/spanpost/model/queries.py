"""What somebody asks of tasks who looks: filters, pages by key, and what they are answered."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.interventions import ApprovalRow
from spanpost.model.messages import LocaleMessage
from spanpost.model.tasks import Task

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some of a list, and after what the next begins; None at its end."""

    items: list[T]
    next: Any = None


class TaskKey(msgspec.Struct, frozen=True):
    """Where a task stands in the list of tasks, newest first; without a start it is older than all."""

    started_at: datetime | None
    uid: UUID


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks. What is not given is met by any; of several words one must be met."""

    tenant: str | None = None
    statuses: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    #: Stands somewhere in name, action, id or agent's name, in capitals or not.
    q: str = ""
    #: Of the start.
    since: datetime | None = None
    until: datetime | None = None
    #: Those without a task above them.
    is_root: bool = False
    parent: UUID | None = None
    #: Those that retry a task with one of these public ids, or that its end started.
    follows: tuple[str, ...] = ()
    #: The order that started it (`Task.order_id`).
    order: str = ""
    #: Those too that are recorded and not announced (a lone model call).
    shows_all: bool = False

    def takes(self, task: Task) -> bool:
        """Tell whether a task, with its status as it is now, is one of them."""
        return (
            (self.tenant is None or task.tenant == self.tenant)
            and (not self.statuses or task.status in self.statuses)
            and (not self.agents or task.agent_name in self.agents)
            and (not self.topics or task.topic in self.topics)
            and (not self.types or task.type in self.types)
            and (not self.environments or task.environment in self.environments)
            and (self.since is None or (task.started_at is not None and task.started_at >= self.since))
            and (self.until is None or (task.started_at is not None and task.started_at < self.until))
            and (not self.is_root or task.parent_uid is None)
            and (self.parent is None or task.parent_uid == self.parent)
            and (not self.follows or task.retry_of in self.follows or task.caused_by in self.follows)
            and (not self.order or task.order_id == self.order)
            and (self.shows_all or task.is_announced)
            and (not self.q or self._says(task))
        )

    def _says(self, task: Task) -> bool:
        words = self.q.casefold()
        return any(words in (text or "").casefold() for text in (task.name, task.action, task.task_id, task.agent_name))


class ApprovalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which questions. What is not given is met by any."""

    tenant: str
    #: One of `State`.
    state: str | None = None
    agent: str | None = None
    risk: str | None = None
    task_uid: UUID | None = None


class ApprovalKey(msgspec.Struct, frozen=True):
    """Where a question stands in the list of questions, newest first."""

    requested_at: datetime
    key: UUID


class TaskQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and the task that asks; None where it was let go of."""

    row: ApprovalRow
    task: Task | None


class TimelineKey(msgspec.Struct, frozen=True, order=True):
    """Where something stands in a task's timeline: by time, then by where it comes from (0 checkpoint, 1 event, 2 intervention)."""

    at: datetime
    source: int
    id: UUID


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a task."""

    key: TimelineKey
    #: A checkpoint's kind; step, llm, tool or handoff; or what a person did.
    kind: str
    #: Untrusted text.
    text: str
    #: Of a checkpoint: the message that its text renders in English.
    message: LocaleMessage | None = None
    status: str | None = None
    detail: str | None = None
    #: Of an event.
    seconds: float | None = None
    span_id: bytes = b""
    #: Of an intervention.
    by: str | None = None
    result: str | None = None
    #: What was recorded: prompts and tool arguments may stand in it.
    content: dict[str, Any] | None = None

    @property
    def source(self) -> str:
        """Where it comes from, in a word."""
        return SOURCES[self.key.source]


SOURCES = ("checkpoint", "event", "intervention")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks came to that are alike in something. None is what none of them knows; seconds are of those that ended."""

    #: What they have in common: the agent's name, the day (UTC), the status; None: nothing, or nobody said.
    word: str | None = None
    tasks: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    unpriced_calls: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    ended: int = 0
    seconds_mean: float | None = None
    seconds_p50: float | None = None
    seconds_p95: float | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over announced tasks by agent (those with most tasks first), by day (in order) and by status; and over all."""

    total: Sums
    agents: list[Sums]
    days: list[Sums]
    statuses: list[Sums]


class Position(msgspec.Struct, frozen=True, order=True):
    """Where a checkpoint stands in the stream of all. It never changes, and nothing is ever put in before what was read."""

    #: Of the transaction that told it.
    number: int
    at: datetime
    id: UUID


class StreamedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in the stream, with its task as it is now."""

    position: Position
    checkpoint: Checkpoint
    task: Task
