"""Queries about tasks: filters, page keys and results."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from string import hexdigits
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.interventions import ApprovalRow
from spanpost.model.messages import LocaleMessage
from spanpost.model.tasks import Task

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list, and the key after which the next begins; None at the end."""

    items: list[T]
    next: Any = None


class TaskKey(msgspec.Struct, frozen=True):
    """A task's position in the list of tasks, newest first; a task without a start comes last."""

    started_at: datetime | None
    uid: UUID
    #: Its cost or seconds, where the list is sorted by that; -1 where unknown.
    rank: float | None = None
    #: What the list is sorted by (`TaskFilter.order_by`).
    by: str = "newest"

    @classmethod
    def of(cls, task: Task, order_by: str) -> TaskKey:
        """Return the position of a task in a list that is sorted so."""
        return cls(task.started_at, task.uid, rank_of(task, order_by), order_by)


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list, and in which order. An empty field matches all; of several words one must match."""

    #: newest, cost or duration: the greatest first.
    order_by: str = "newest"
    tenant: str | None = None
    statuses: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    repos: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    #: Part of the error's type or message, ignoring case.
    error: str = ""
    #: Limits of its own cost in US dollars, and of its seconds from start to end (or to its last event).
    min_cost: float | None = None
    max_cost: float | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    #: Part of name, action, id or agent's name, ignoring case.
    q: str = ""
    #: Limits of the start time.
    since: datetime | None = None
    until: datetime | None = None
    #: Only tasks without a parent.
    is_root: bool = False
    #: Only tasks with a parent.
    is_below: bool = False
    parent: UUID | None = None
    #: Only tasks that retry a task with one of these public ids, or that its end started.
    follows: tuple[str, ...] = ()
    #: Only the task that this order started (`Task.order_id`).
    order: str = ""
    #: Beginning of the uid or of the task id.
    begins: str = ""
    #: Also tasks that are recorded and not announced (a lone model call).
    shows_all: bool = False

    def takes(self, task: Task) -> bool:
        """Tell whether a task matches, with its current status."""
        return (
            (self.tenant is None or task.tenant == self.tenant)
            and (not self.statuses or task.status in self.statuses)
            and (not self.agents or task.agent_name in self.agents)
            and (not self.topics or task.topic in self.topics)
            and (not self.types or task.type in self.types)
            and (not self.environments or task.environment in self.environments)
            and (not self.models or task.model in self.models)
            and (not self.people or task.requested_by in self.people)
            and (not self.repos or task.repo in self.repos)
            and (not self.sessions or task.session_id in self.sessions)
            and _is_within(cost_of(task), self.min_cost, self.max_cost)
            and _is_within(seconds_of(task), self.min_seconds, self.max_seconds)
            and (not self.error or self._fails_so(task))
            and (not self.is_below or task.parent_uid is not None)
            and (self.since is None or (task.started_at is not None and task.started_at >= self.since))
            and (self.until is None or (task.started_at is not None and task.started_at < self.until))
            and (not self.is_root or task.parent_uid is None)
            and (self.parent is None or task.parent_uid == self.parent)
            and (not self.follows or task.retry_of in self.follows or task.caused_by in self.follows)
            and (not self.order or task.order_id == self.order)
            and (self.shows_all or task.is_announced)
            and (not self.q or self._says(task))
            and (not self.begins or is_begun(task.uid, task.task_id, self.begins))
        )

    def _fails_so(self, task: Task) -> bool:
        words, said = self.error.casefold(), task.error
        return said is not None and (words in said.type.casefold() or words in said.message.casefold())

    def _says(self, task: Task) -> bool:
        words = self.q.casefold()
        asked = None if task.is_named else task.ask  # it is the title then
        said = task.name, asked, task.action, task.task_id, task.agent_name
        return any(words in (text or "").casefold() for text in said)


def cost_of(task: Task) -> float:
    """Return a task's own cost, for sorting; -1: unknown."""
    return -1.0 if task.cost_usd is None else float(task.cost_usd)


def seconds_of(task: Task) -> float:
    """Return a task's seconds until its end or its last event, for sorting; -1: unknown."""
    end = task.ended_at or task.last_event_at
    return -1.0 if end is None or task.started_at is None else (end - task.started_at).total_seconds()


def rank_of(task: Task, order_by: str) -> float | None:
    """Return what a list is sorted by, besides the time of the start."""
    return {"cost": cost_of, "duration": seconds_of}[order_by](task) if order_by != "newest" else None


def _is_within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or 0 <= value <= most)


class FacetValue(msgspec.Struct, frozen=True):
    """A value of a field, and how many of the listed tasks have it. None: they have none."""

    value: str | None
    count: int


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks a filter matches, and the most frequent values by field."""

    total: int
    cost_usd: Decimal | None
    fields: dict[str, list[FacetValue]]
    #: Only tasks that began then or later were counted: there are more than `FACETED`. None: all.
    since: datetime | None = None


#: Fields of facets, and the tasks' attributes. `FACETS_SHOWN`: values of each.
FACET_FIELDS = {
    "status": "status", "agent": "agent_name", "model": "model", "person": "requested_by", "repo": "repo",
    "environment": "environment", "topic": "topic", "type": "type",
}  # fmt: skip
FACETS_SHOWN = 20
#: Tasks of a tenant and a time among which facets are counted: the newest.
FACETED = 50_000


#: Shortest beginning of an id that stands for it, on every surface.
LEAST_PREFIX: Final = 6


def bounds(begins: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last key whose digits begin so; None if those are no digits of a key."""
    digits = begins.replace("-", "")
    if not 0 < len(digits) <= 32 or not set(digits) <= set(hexdigits):
        return None
    return UUID(f"{digits:0<32}"), UUID(f"{digits:f<32}")


def is_begun(key: UUID, id: str, begins: str) -> bool:
    """Return whether a person may mean a key or an id by its beginning; a short beginning means none."""
    if len(begins) < LEAST_PREFIX:
        return False
    within = bounds(begins)
    return id.startswith(begins) or (within is not None and within[0] <= key <= within[1])


class ApprovalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which questions to list. An empty field matches all."""

    tenant: str
    #: An `InterventionState`.
    state: str | None = None
    agent: str | None = None
    risk: str | None = None
    task_uid: UUID | None = None
    #: Beginning of the key or of the agent's id.
    begins: str = ""


class ApprovalKey(msgspec.Struct, frozen=True):
    """A question's position in the list of questions, newest first."""

    requested_at: datetime
    key: UUID


class TaskQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question and the task that asks; None when the task was archived."""

    row: ApprovalRow
    task: Task | None


class TimelineKey(msgspec.Struct, frozen=True, order=True):
    """A position in a task's timeline: time, then source (0 checkpoint, 1 event, 2 intervention)."""

    at: datetime
    source: int
    id: UUID


class TimelineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a timeline to list, and in which order."""

    is_newest_first: bool = False
    #: checkpoints, calls (model, tool, steps, handoffs), errors, people; empty: all.
    of: frozenset[str] = frozenset()
    #: Limits of the time, both included.
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, one: TimelineEntry) -> bool:
        """Tell whether an entry matches."""
        at = one.key.at
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and (not self.of or not self.of.isdisjoint(one.subjects))
        )


WHOLE_TIMELINE = TimelineFilter()


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a task's timeline."""

    key: TimelineKey
    #: A checkpoint's kind; step, llm, tool or handoff; or an intervention's verb.
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
    #: Recorded content: it may hold prompts and tool arguments.
    content: dict[str, Any] | None = None

    @property
    def source(self) -> str:
        """Its source, in a word."""
        return SOURCES[self.key.source]

    @property
    def subjects(self) -> frozenset[str]:
        """Words of a filter that match it."""
        found = {("checkpoints", "calls", "people")[self.key.source]}
        if self.kind == "error" or (self.source == "event" and self.status == "error"):
            found.add("errors")
        if self.kind.startswith("approval"):
            found.add("people")
        return frozenset(found)


SOURCES = ("checkpoint", "event", "intervention")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over tasks with something in common. None: unknown for all; seconds are of those that ended."""

    #: What they have in common: agent's name, day (UTC) or status; None: all tasks, or unknown.
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
    failed: int = 0
    seconds_mean: float | None = None
    seconds_p50: float | None = None
    seconds_p95: float | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over announced tasks: by agent (most tasks first), by day (in order), by status, and in total."""

    total: Sums
    agents: list[Sums]
    days: list[Sums]
    statuses: list[Sums]


class Position(msgspec.Struct, frozen=True, order=True):
    """A checkpoint's position in the stream. Fixed; nothing is inserted before a position already read."""

    #: Number of the transaction that recorded it.
    number: int
    at: datetime
    id: UUID


class StreamedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in the stream, with the current state of its task."""

    position: Position
    checkpoint: Checkpoint
    task: Task


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of tasks for `Store.tasks`."""

    tenant: str | None = None
    task_id: str | None = None
    status: str | None = None
    agent_name: str | None = None
    is_announced: bool | None = None
    limit: int = 50


class ApprovalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of questions for `Interventions.approvals`."""

    tenant: str | None = None
    approval_id: str | None = None
    #: A hash of the question's wording, and the trace id (hex) that asked it.
    mark: str | None = None
    trace: str | None = None
    #: One of `State`.
    state: str | None = None
    task_uid: UUID | None = None
    limit: int = 50
