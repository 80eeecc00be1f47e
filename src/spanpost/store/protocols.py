"""The contract of the hall: what every store does, in memory or in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.budgets import Limits, Spent, Used
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, RateLimit, SinkCall
from spanpost.model.fleet import Fleet
from spanpost.model.interventions import ApprovalRow, Intervention, StandingAct, Verdict
from spanpost.model.launch_orders import Order, Taken
from spanpost.model.observations import Observation
from spanpost.model.outcomes import GiveUp, Outcome, RetryAt
from spanpost.model.queries import (
    ApprovalFilter,
    ApprovalKey,
    Page,
    Position,
    Stats,
    StreamedCheckpoint,
    TaskFilter,
    TaskKey,
    TaskQuestion,
    TimelineEntry,
    TimelineKey,
)
from spanpost.model.recorded import Recorded
from spanpost.model.sessions import KeepsSessions
from spanpost.model.tasks import Task
from spanpost.routing import rate_limiting
from spanpost.routing.rate_limiting import Bucket, OpenCircuit
from spanpost.store.installation_protocol import Installations
from spanpost.tasks.context_curve import Point

__all__ = [
    "Alerted",
    "ApprovalQuery",
    "DeliveryRow",
    "GiveUp",
    "OrderQuery",
    "OrderRow",
    "Outcome",
    "RateLimitRow",
    "RateLimits",
    "RetryAt",
    "Store",
    "TaskQuery",
    "unlimited",
]

#: Budgets that gauges show at most, those that changed last.
SHOWN = 1000

#: Names what a call of a sink to an address draws on: (sink, address, call).
RateLimits: TypeAlias = Callable[[str, str, SinkCall], tuple[RateLimit, ...]]


def unlimited(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
    """Name no budgets."""
    return ()


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as an operator lists it."""

    id: int
    sink: str
    address: str
    ordering_key: str
    mode: str
    #: waiting, sending, delivered, dead
    state: str
    task_id: str
    kind: str
    attempt: int
    born_at: datetime
    not_before: datetime | None = None
    reason: str = ""
    error: str = ""


class RateLimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as an operator lists it."""

    key: str
    #: open, closed, or probing: one call at a time until one succeeds
    state: str
    #: throttled, refused or failing; empty while it is open.
    why: str = ""
    #: Closed: until then. Probing: until then the probe is waited for.
    until: datetime | None = None
    reason: str = ""
    error: str = ""
    rate: float | None = None
    burst: float = 1.0
    reserve: float = 0.0


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list, newest first."""

    tenant: str | None = None
    task_id: str | None = None
    status: str | None = None
    agent_name: str | None = None
    is_announced: bool | None = None
    limit: int = 50


class ApprovalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which questions to list, newest first."""

    tenant: str | None = None
    approval_id: str | None = None
    #: The mark of the wording, and the trace (in hex) that asked.
    mark: str | None = None
    trace: str | None = None
    #: One of `State`.
    state: str | None = None
    task_uid: UUID | None = None
    limit: int = 50


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders to list, newest first."""

    tenant: str | None = None
    #: ``launch:<launcher>`` or ``hook:<provider>``.
    carrier: str | None = None
    #: The task that they are about.
    task_uid: UUID | None = None
    id: UUID | None = None
    limit: int = 50


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and what became of its delivery."""

    order: Order
    #: waiting, sending, delivered or dead; empty where the delivery was let go of.
    state: str = ""
    reason: str = ""
    error: str = ""
    #: What the launcher brought back (`Receipt.ref`).
    ref: dict[str, Any] = {}


class Alerted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an alert that was taken."""

    alert: Alert
    #: Nothing new.
    is_repeat: bool = False
    recorded: Recorded = msgspec.field(default_factory=Recorded)


#: Is told what was decided or asked, by its topic (`fold.approvals.topic_of`); empty: something may have been missed.
Hears: TypeAlias = Callable[[bytes], None]


class Curves(Protocol):
    """**Protocol:** tells how full contexts were. It raises `LedgerUnavailable`."""

    async def of(self, task_uid: UUID) -> list[Point]:
        """Return how full a task's context was, oldest first; of many calls the newest."""
        ...


class Browses(Protocol):
    """**Protocol:** answers those who look: pages by key, timelines, sums, the stream of checkpoints. It raises `LedgerUnavailable`."""

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first; its `next` is a `TaskKey`."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id (the topmost of the trace)."""
        ...

    async def timeline(self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool) -> Page[TimelineEntry]:
        """Return a page of what happened in a task, oldest first; what was recorded only with `content`."""
        ...

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """Return sums over the announced tasks that began within that time."""
        ...

    async def approvals(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """Return a page of questions, newest first; its `next` is an `ApprovalKey`."""
        ...

    async def head(self) -> Position:
        """Return the end of the stream: what is told from now on comes after it."""
        ...

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """Return what was told after a position, in the order of the stream. What was read stays before what was not."""
        ...

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """Return which tasks under way changed since then, and when by the store's clock; some again: who asks overlaps."""
        ...

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        ...

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """Return tasks by their uids, those that there are."""
        ...

    async def ended(self, since: datetime, until: datetime, latest: timedelta) -> list[Task]:
        """Return the root tasks of which an end was recorded first in that time, by the store's clock, at most `latest` after it was."""
        ...

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks (the `ref` of its receipt), of those that it shows."""
        ...


class Store(Protocol):
    """**Protocol:** keeps observations, folds them, and hands out deliveries. Two stand here: memory and Postgres.

    `record` is one transaction: it has happened wholly when it returns and not at all when it raises. Repeats are nothing
    new. All methods may be called from one event loop, concurrently. Those that talk to a database raise
    `LedgerUnavailable` when it cannot be reached: the caller keeps what it had and tries again.
    """

    #: How long a claimed delivery is the claimer's.
    lease: timedelta

    @property
    def curves(self) -> Curves:
        """How full contexts were."""
        ...

    @property
    def browse(self) -> Browses:
        """What it answers those who look."""
        ...

    @property
    def sessions(self) -> KeepsSessions:
        """Sessions of people who logged in."""
        ...

    @property
    def installations(self) -> Installations:
        """The apps that people installed in workspaces."""
        ...

    async def open(self) -> None:
        """Make ready (connect, check the schema). Raises `ConfigError` with the next step when that is impossible."""
        ...

    async def close(self) -> None: ...

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Record a batch; what can never be recorded is kept aside and told in `Recorded.lost`. Raises `LedgerUnavailable`.

        With `is_whole` nothing is taken apart or kept aside because it takes too long: that raises `OverBudget`.
        """
        ...

    async def elapse(self) -> Recorded:
        """Ask what has fallen due by the store's clock (settling, expiry) and fold that."""
        ...

    async def listen_anew(self) -> None:
        """Say that a door was opened: who was not heard until now is given a full patience from now on."""
        ...

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """Lease deliveries that are due: one per lane, urgent first, news before nothing else of its lane.

        Each draws on all `budgets` of its call, in the same transaction; what they do not allow stays where it is.
        """
        ...

    async def settle(self, delivery: Delivery, outcome: Outcome) -> Sequence[OpenCircuit]:
        """Say what became of a claimed delivery; return the budgets that closed by it."""
        ...

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """Seconds until something of these sinks may be delivered or has fallen due; 0 when now, None when nothing waits."""
        ...

    async def tasks(self, query: TaskQuery) -> list[Task]: ...

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Checkpoints in order of time, of one task or of all."""
        ...

    async def deliveries(self, *, state: str | None = None, sink: str | None = None, limit: int = 100) -> list[DeliveryRow]: ...

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again (all of a sink's when no ids are given); return how many."""
        ...

    async def discard_deliveries(self, ids: Sequence[int]) -> int: ...

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """List the budgets that were drawn on or closed, those closed for longest first; `is_closed`: only what is not open."""
        ...

    async def reopen_rate_limits(self, keys: Sequence[str]) -> int:
        """Open closed budgets at once: somebody mended what was wrong. Return how many were closed."""
        ...

    # --- people ---------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """Record what a person did, and what it changes, in one transaction; the first decision stands.

        A repeat (the same `once`) changes nothing and is answered as the first was. Raises `LedgerUnavailable`: nothing was recorded,
        or its answer was lost; asked again it is the same act.
        """
        ...

    async def await_answer(self, key: UUID) -> None:
        """Note that an agent waits for the answer to a question: from now on no telemetry answers it."""
        ...

    async def note_operation(self, what: str, user: str, detail: str) -> None:
        """Keep that somebody at the command line did something to the database, beside what people do to tasks."""
        ...

    async def order(self, order: Order, *, signature: str = "") -> Taken:
        """Place an order, with the delivery that carries it; the same is placed once, whoever places it.

        `signature` proves a request that came in: the same is replayed when it was heard within the hour.
        """
        ...

    async def orders(self, query: OrderQuery) -> list[OrderRow]:
        """List orders, newest first."""
        ...

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """Return a question by its opaque key."""
        ...

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """List questions, newest first."""
        ...

    async def find_task(self, key: UUID) -> Task | None:
        """Return a task by the opaque key that a button carries (its uid), or the task that it became part of."""
        ...

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids; by a trace's id (32 hex digits) the topmost of the trace."""
        ...

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """Return the root task that a sink shows in a message, by a part of the receipt's `ref` (Slack: channel and ts).

        Its root message and the news in its thread alike; None for a message that is none of the sink's.
        """
        ...

    async def deeds(
        self, task_uid: UUID, verbs: Sequence[str], after: int = 0, limit: int = 100, *, since: datetime | None = None
    ) -> list[StandingAct]:
        """Return what people asked of a task that stands, in order, after a number, and recorded later than a moment."""
        ...

    async def last_end(self, task_uid: UUID) -> datetime | None:
        """Return when the newest end of a run of the task was recorded, by the store's clock; None before any."""
        ...

    # --- alerts ---------------------------------------------------------------------------------------------------------

    async def alerts(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return those of these alerts that are kept."""
        ...

    async def take_alert(self, alert: Alert) -> Alerted:
        """Keep an alert, and tell it where it belongs, in one transaction; what is said again says nothing new."""
        ...

    # --- requests -------------------------------------------------------------------------------------------------------

    async def is_first(self, key: str) -> bool:
        """Remember a request for an hour, for all processes; False when it was heard before."""
        ...

    async def listen(self, hears: Hears) -> None:
        """Tell of every decision and act from now on, of whatever process, in the running loop. Returns when it listens."""
        ...

    def listen_no_more(self, hears: Hears) -> None:
        """Tell it no more."""
        ...

    # --- budgets of money and tokens --------------------------------------------------------------------------------------

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return what a task's calls came to that have settled, by the model that each names."""
        ...

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from, as it stands: what calls that have settled came to."""
        ...

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List what is spent in the periods that are now, what changed last first."""
        ...

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers held calls back, by account, provider, model and day; the newest first."""
        ...

    async def counts(self) -> dict[str, Any]:
        """Rows by table and deliveries by state, for status displays."""
        ...

    async def fleet(self) -> Fleet | None:
        """Tell of all that is under way on the database; None while it is another process's turn."""
        ...


def row_of(bucket: Bucket, rate_limit: RateLimit, now: datetime) -> RateLimitRow:
    """Return a bucket as an operator lists it."""
    is_blocked = bucket.blocked_until is not None and bucket.blocked_until > now
    state = "closed" if is_blocked else "probing" if bucket.opened else "open"
    return RateLimitRow(
        key=bucket.key,
        state=state,
        why=rate_limiting.why_closed(bucket) if state != "open" else "",
        until=bucket.blocked_until if is_blocked else bucket.probe_until if bucket.opened else None,
        reason=bucket.reason if state != "open" else "",
        error=bucket.error if state != "open" else "",
        rate=rate_limit.rate,
        burst=rate_limit.burst,
        reserve=rate_limit.reserve,
    )


def alert_of(task: Task | None, checkpoint: Checkpoint | None) -> UUID | None:
    """Return the id of the alert that a delivery tells of, if it may tell of one."""
    if checkpoint is not None:
        with suppress(ValueError):
            return UUID(checkpoint.ref) if checkpoint.kind is Kind.ALERT else None
    # A task that merely calls itself so has the id of no alert.
    return UUID(bytes=task.trace_id) if task is not None and task.is_alert and len(task.trace_id) == 16 else None
