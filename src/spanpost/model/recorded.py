"""The store's answer to a recorded batch."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.evaluations import Evaluation
from spanpost.model.observations import Observation
from spanpost.model.readings import Role
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage

#: Reasons of `Recorded.dropped`: an observation without a span or task, and one that no store can take
#: (PostgreSQL keeps it in ``quarantine``).
NO_TASK = "no_task"
UNFOLDABLE = "unfoldable"
#: Observations of a trace that takes more time than allowed, also kept in ``quarantine``.
OVER_BUDGET = "over_budget"
#: An observation that no message of the topic can hold, also kept in ``quarantine``.
TOO_LARGE = "too_large"
#: An observation of a trace that was erased (`spanpost erase`), sent again.
ERASED = "erased"
#: Reasons of observations in ``quarantine`` that the answer to their sender counts.
QUARANTINED = (OVER_BUDGET, TOO_LARGE)


class FinalizedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a task's model calls that are unlikely to change, ready to be added to counters once.

    Counters cannot go back, so a task's calls are counted when its run has ended, or half a minute after
    they were seen; a later correction downwards changes the tables and is counted as a correction.
    """

    agent_name: str | None
    #: The model that the calls name: one value of this type for each model of a task.
    model: str | None
    calls: int
    usage: Usage
    #: Calls whose cost is unknown.
    unpriced: int = 0
    tenant: str = ""
    environment: str | None = None


class Timed(msgspec.Struct, frozen=True, gc=False):
    """A step, model call or tool call that ended: reported once for each span, however often it is sent."""

    task_uid: UUID
    role: Role
    seconds: float
    has_failed: bool
    #: Only of a model call.
    model: str | None
    trace_id: bytes


class Limited(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A model call that its provider limited."""

    tenant: str
    #: The account at the provider that the agent gives (``agent.account``); empty: none.
    account: str
    provider: str
    model: str
    #: rate_limit, or quota
    kind: str
    agent_name: str | None = None
    environment: str | None = None


class BudgetAct(msgspec.Struct, frozen=True, gc=False):
    """What a budget that is used up did to a task, once in a period; or to one of its tool calls."""

    budget: str
    tenant: str
    #: ask, pause or cancel; refuse: a tool call of a hook was refused; raise: a person raised it.
    act: str


class Waited(msgspec.Struct, frozen=True, gc=False):
    """A question that was answered: how long the task waited, by its sender's clock."""

    task_uid: UUID
    seconds: float
    trace_id: bytes
    #: The checkpoint that reports the answer.
    checkpoint_id: UUID


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An evaluation that is new."""

    task_uid: UUID
    tenant: str
    evaluation: Evaluation


class Recorded(msgspec.Struct, kw_only=True):
    """What was new in a batch: the only source of metrics about tasks."""

    #: New audit rows, and the same by part (``ended``, ``started``, ``event``, ``link``, ``log``).
    events: int = 0
    parts: dict[str, int] = {}
    duplicates: int = 0
    #: Spans that are not an agent's, and were ignored.
    ignored: int = 0
    #: Tasks whose row changed, in their newest state; uids of tasks that started and that ended.
    tasks: list[Task] = []
    started: list[UUID] = []
    ended: list[UUID] = []
    checkpoints: list[Checkpoint] = []
    #: Figures of model calls finalized in this batch, each once; how often counted figures proved too high.
    finalized: list[FinalizedUsage] = []
    corrections: int = 0
    #: Spans that ended and questions that were answered, each once.
    timed: list[Timed] = []
    waited: list[Waited] = []
    #: Model calls that providers limited, each once.
    limited: list[Limited] = []
    #: What budgets did to tasks, and raises by people.
    budget_acts: list[BudgetAct] = []
    #: Evaluations that were recorded, each once.
    evaluated: list[Evaluated] = []
    deliveries: int = 0
    #: States replaced by newer ones before they were sent, by sink.
    coalesced: dict[str, int] = {}
    #: Observations that could not be folded, by reason.
    dropped: dict[str, int] = {}
    #: Redacted secrets by kind, including those of duplicates.
    redacted: dict[str, int] = {}
    #: Observations that the store must record next by itself. Not summed.
    owed: list[Observation] = []

    def plus(self, other: Recorded) -> Recorded:
        """Return this part of a batch and another as one."""
        newest = {t.uid: t for t in (*self.tasks, *other.tasks)}
        return Recorded(
            events=self.events + other.events,
            parts=dict(Counter(self.parts) + Counter(other.parts)),
            duplicates=self.duplicates + other.duplicates,
            ignored=self.ignored + other.ignored,
            tasks=list(newest.values()),
            started=self.started + other.started,
            ended=self.ended + other.ended,
            checkpoints=self.checkpoints + other.checkpoints,
            finalized=self.finalized + other.finalized,
            corrections=self.corrections + other.corrections,
            timed=self.timed + other.timed,
            waited=self.waited + other.waited,
            limited=self.limited + other.limited,
            budget_acts=self.budget_acts + other.budget_acts,
            evaluated=self.evaluated + other.evaluated,
            deliveries=self.deliveries + other.deliveries,
            coalesced=dict(Counter(self.coalesced) + Counter(other.coalesced)),
            dropped=dict(Counter(self.dropped) + Counter(other.dropped)),
            redacted=dict(Counter(self.redacted) + Counter(other.redacted)),
        )
