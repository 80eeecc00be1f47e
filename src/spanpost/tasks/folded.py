"""The values that go into the fold and come out of it."""

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
from spanpost.readers.redaction import Redaction
from spanpost.routing.launch_orders import Launches
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Routes
from spanpost.tasks.approvals import Expiry
from spanpost.tasks.budgets import Budget
from spanpost.tasks.context import Windows
from spanpost.tasks.stall import StallRules
from spanpost.tasks.work import Key

_STARTED = Part.STARTED  # bound once: an enum's members are looked up slowly


class PriceSource(Protocol):
    """**Protocol:** what model calls cost."""

    def priced(self, o: Observation, provider: str | None, model: str | None, usage: Usage) -> Usage:
        """Return the usage with its cost, as far as that is known. Must not raise."""
        ...


class FoldRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the fold is told to go by. Values, no behaviour; but for the prices, which are too many to be held as values, and what
    takes secrets out."""

    routes: Routes = msgspec.field(default_factory=Routes)
    #: Context window by canonical model name, tokens.
    windows: Mapping[str, int] = {}
    #: Which of these names the settings give, and the window of a model that has none.
    given_windows: frozenset[str] = frozenset()
    default_window: int | None = None
    #: Most output tokens by canonical model name.
    outputs: Mapping[str, int] = {}
    #: Warn when this share of the window is used, per mille, ascending; and when so many tokens are.
    warn_at: tuple[int, ...] = (700, 850)
    warn_tokens: tuple[int, ...] = ()
    #: Warn ahead when the largest share or a cap is forecast to be reached in so many calls, or seconds.
    ahead_calls: int = 3
    ahead_seconds: float = 60.0
    #: How long a trace without a known root is given before it is announced after all.
    settle: timedelta = timedelta(seconds=10)
    #: How long a model call's figures may change before they are added to counters.
    usage_settles: timedelta = timedelta(seconds=30)
    #: Keep prompts, completions and tool arguments in the audit rows.
    keeps_content: bool = False
    #: What model calls cost that do not say it.
    prices: PriceSource | None = None
    #: What holds for questions to people that do not say it themselves.
    expiry: Expiry = Expiry()
    #: How long silence is borne.
    stall_rules: StallRules = StallRules()
    #: What may be started, and what the end of a task starts.
    launches: Launches = Launches()
    #: What takes secrets out of all that senders say; None: nothing does.
    redaction: Redaction | None = None
    #: What is spent of budgets is counted, and warned of.
    budgets: tuple[Budget, ...] = ()

    @property
    def attributes(self) -> frozenset[str]:
        """Names of the attributes that routes and budgets ask for and that no field of a task holds."""
        return self.routes.attributes.union(*(budget.kept for budget in self.budgets))

    @property
    def known_windows(self) -> Windows:
        """What is known of windows beforehand."""
        return Windows(self.windows, self.given_windows, self.default_window)


class Placed(msgspec.Struct, frozen=True, gc=False):
    """An observation with its meaning and its keys.

    `observation` is what is folded: for a record that stands for a span, that span. `source` is what a door saw, which is
    what an audit row keeps and what the keys are made of.
    """

    observation: Observation
    reading: Reading
    event_id: bytes
    content_hash: bytes
    domain: bytes
    source: Observation
    #: What it may tell, whatever its span turns out to be: kind, occurrence id, and the key under which that is remembered.
    telling: tuple[Kind, UUID, Key] | None = None
    #: The slot of its response id, and the identity of the task that it names; empty without.
    duplicates: Key = b""
    task_uid: bytes = b""
    #: The domain of its conversation, where it says how full a context is.
    talk: bytes = b""

    @property
    def is_span(self) -> bool:
        """True when it says what a span is, not what happened on one."""
        return self.observation.part <= _STARTED


class Timer(msgspec.Struct, frozen=True, gc=False):
    """Ask again about a task at that time. One per task; a later one replaces an earlier."""

    key: Key
    at: datetime


class Move(msgspec.Struct, frozen=True, gc=False):
    """What was known under one unit is now under another, and shown in the task `task_uid`."""

    trace_id: bytes
    subtree_from: bytes
    subtree_to: bytes
    task_uid: UUID


class Folded(msgspec.Struct):
    """What a batch came to: what the store writes beside the records."""

    #: By position in the batch: the task and the unit under which it is recorded. Others are passed over.
    recorded: dict[int, tuple[UUID | None, bytes]] = {}
    checkpoints: list[Checkpoint] = []
    #: Checkpoints that are taken back: what they told of turned out to be part of something else.
    retracted: list[UUID] = []
    tasks: list[Task] = []
    #: Tasks that are no more, and the task that took them over, if one did.
    gone: list[tuple[UUID, UUID | None]] = []
    moves: list[Move] = []
    deliveries: list[PlannedDelivery] = []
    #: Tasks whose messages may have changed hands: each lane that tells of one is to be looked at anew (`fold.carrying`).
    woken: list[UUID] = []
    timers: list[Timer] = []
    started: list[UUID] = []
    ended: list[UUID] = []
    settled: list[FinalizedUsage] = []
    #: The same for budgets, where there are any: what the settled figures grew by, or shrank.
    growths: list[Growth] = []
    #: And by task and model: what the store keeps of it.
    used: list[Used] = []
    corrections: int = 0
    #: By position in the batch: steps and calls that are known to have ended for the first time.
    ended_spans: list[int] = []
    #: By checkpoint: seconds from a question to its answer.
    waits: dict[UUID, float] = {}
    lost: dict[str, int] = {}
