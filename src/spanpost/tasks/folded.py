"""Input and output values of the fold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec

from spanpost.model.budgets import Growth, Used
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Reading
from spanpost.model.recorded import FinalizedUsage
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.readers.call_hashes import CallHash
from spanpost.readers.redaction import Redaction
from spanpost.routing.launch_orders import Launches
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Routes
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.tasks.budgets import Budget
from spanpost.tasks.context import ContextRules, Windows
from spanpost.tasks.loops import LoopRules
from spanpost.tasks.stall import OUTAGE, StallRules
from spanpost.tasks.task_rules import TaskRules
from spanpost.tasks.work import Key

_STARTED = Part.STARTED  # bound once: looking up an enum's member is slow


class PriceSource(Protocol):
    """**Protocol:** prices of model calls."""

    def priced(self, o: Observation, provider: str | None, model: str | None, usage: Usage) -> Usage:
        """Return the usage with its cost, as far as known. Must not raise."""
        ...


class FoldRules(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of the fold. Plain values, except prices (too many to hold as values) and redaction."""

    routes: Routes = msgspec.field(default_factory=Routes)
    #: Context window by canonical model name, tokens.
    windows: Mapping[str, int] = {}
    #: Models whose window the settings give.
    given_windows: frozenset[str] = frozenset()
    #: Maximum output tokens by canonical model name.
    outputs: Mapping[str, int] = {}
    #: When to warn of a window that fills.
    context: ContextRules = ContextRules()
    #: How long a trace without a known root waits before it is announced.
    announce_delay: timedelta = timedelta(seconds=10)
    #: How long a model call's usage may change before it is added to counters.
    usage_delay: timedelta = timedelta(seconds=30)
    #: Keep prompts, completions and tool arguments in the audit rows.
    keeps_content: bool = False
    #: Prices of model calls that report no cost.
    prices: PriceSource | None = None
    #: Expiry of questions that do not set it themselves, who must approve, and who is asked.
    approvals: ApprovalRules = ApprovalRules()
    #: Slack user ids by the names in `agent.requested_by`, in lower case.
    people: Mapping[str, str] = {}
    #: When a task counts as stalled.
    stall_rules: StallRules = StallRules()
    #: When an agent run counts as repeating itself.
    loops: LoopRules = LoopRules()
    #: A longer time without a receiver is an outage of ours.
    outage: timedelta = OUTAGE
    #: Allowed launches, and those that the end of a task starts.
    launches: Launches = Launches()
    #: The launcher that resumes a run whose question is decided; empty: none.
    resume: str = ""
    #: What becomes a task, and which tasks are announced.
    tasks: TaskRules = TaskRules()
    #: Redaction of secrets in everything received; None: off.
    redaction: Redaction | None = None
    #: Budgets that are counted and warned of.
    budgets: tuple[Budget, ...] = ()
    #: Attributes that links and queries name.
    shown: frozenset[str] = frozenset()

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes that routes, budgets, launch rules, links and queries name, and that no field of a task holds."""
        conditions = (*self.approvals.rules, *self.budgets, *self.launches.retries, *self.launches.rules)
        return self.routes.attributes.union(self.shown, *(condition.kept for condition in conditions))

    @property
    def known_windows(self) -> Windows:
        """Context windows known from settings and tables."""
        return Windows(self.windows, self.given_windows, self.context.default_window)


class Placed(msgspec.Struct, frozen=True, gc=False):
    """An observation with its meaning and its keys.

    `observation` is what is folded: for a log record that stands for a span, that span. `source` is what the
    receiver delivered: the audit row and the keys are made of it.
    """

    observation: Observation
    reading: Reading
    event_id: bytes
    content_hash: bytes
    domain: bytes
    source: Observation
    #: The checkpoint that it may report, whatever its span turns out to be: kind, occurrence id, key of its
    #: `Seen`.
    occurrence: tuple[Kind, UUID, Key] | None = None
    #: Key of its call's duplicates; uid of the task that it names; both empty without.
    duplicates: Key = b""
    task_uid: bytes = b""
    #: Domain of its conversation, where it reports context use.
    talk: bytes = b""
    #: Of a tool call that ended: the hashes of its content.
    call: CallHash | None = None

    @property
    def is_span(self) -> bool:
        """True for a span (started or ended), False for something that happened on one."""
        return self.observation.part <= _STARTED


class Timer(msgspec.Struct, frozen=True, gc=False):
    """A later check of a task. One per task; a later one replaces an earlier."""

    key: Key
    at: datetime


class Move(msgspec.Struct, frozen=True, gc=False):
    """The records below owning span `subtree_from` are now below `subtree_to`, in task `task_uid`."""

    tenant: str
    trace_id: bytes
    subtree_from: bytes
    subtree_to: bytes
    task_uid: UUID


class SpanMove(msgspec.Struct, frozen=True, gc=False):
    """The records of one span are now below this owning span, in this task. It comes after every `Move`."""

    tenant: str
    trace_id: bytes
    span_id: bytes
    subtree: bytes
    task_uid: UUID


class Difference(msgspec.Struct):
    """What the close of a batch adds to what was reported before."""

    checkpoints: list[Checkpoint] = []
    #: Retracted checkpoints: their occurrence turned out to be part of another.
    retracted: list[UUID] = []
    tasks: list[Task] = []
    #: Tasks that are gone, and their successors, if any.
    gone: list[tuple[UUID, UUID | None]] = []
    deliveries: list[PlannedDelivery] = []
    #: Tasks whose messages may have moved: every ordering key that shows one must be checked (`takeover`).
    woken: list[UUID] = []
    timers: list[Timer] = []
    started: list[UUID] = []
    ended: list[UUID] = []
    finalized: list[FinalizedUsage] = []
    #: Growth (or decrease) of what tasks draw from budgets; empty without budgets.
    growths: list[Growth] = []
    #: The same by task and model, for the store's usage rows.
    used: list[Used] = []
    corrections: int = 0
    #: By checkpoint: seconds from a question to its answer.
    waits: dict[UUID, float] = {}

    def add(self, more: Difference) -> None:
        """Add another difference."""
        self.checkpoints += more.checkpoints
        self.retracted += more.retracted
        self.tasks += more.tasks
        self.gone += more.gone
        self.deliveries += more.deliveries
        self.woken += more.woken
        self.timers += more.timers
        self.started += more.started
        self.ended += more.ended
        self.finalized += more.finalized
        self.growths += more.growths
        self.used += more.used
        self.corrections += more.corrections
        self.waits |= more.waits


class Folded(Difference):
    """The result of a batch: what the store writes beside the records."""

    #: By position in the batch: the task and the owning span under which it is recorded. Others are ignored.
    recorded: dict[int, tuple[UUID | None, bytes]] = {}
    moves: list[Move] = []
    moved_spans: list[SpanMove] = []
    #: By position in the batch: steps and calls that ended for the first time.
    ended_spans: list[int] = []
    dropped: dict[str, int] = {}

    @property
    def has_moved(self) -> bool:
        """True when rows that were written before now belong to other tasks."""
        return bool(self.moves or self.moved_spans or self.gone)
