"""The protocols of the store, with the rows that it lists.

`MemoryStore` and `PostgresStore` implement them.
"""

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

#: Rate limits that gauges show at most: those that changed last.
SHOWN = 1000

#: Returns the rate limits that a call draws on: (sink, address, call).
RateLimits: TypeAlias = Callable[[str, str, SinkCall], tuple[RateLimit, ...]]


def unlimited(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
    """Return no rate limits."""
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
    """A rate limit and its circuit breaker, as an operator lists them."""

    key: str
    #: open (calls pass), closed (no calls), or probing (one call at a time until one succeeds).
    state: str
    #: throttled, refused or failing; empty while calls pass.
    why: str = ""
    #: Closed: when calls pass again. Probing: when the wait for the probe's result ends.
    until: datetime | None = None
    reason: str = ""
    error: str = ""
    rate: float | None = None
    burst: float = 1.0
    reserve: float = 0.0


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of tasks for `Store.tasks`."""

    tenant: str | None = None
    task_id: str | None = None
    status: str | None = None
    agent_name: str | None = None
    is_announced: bool | None = None
    limit: int = 50


class ApprovalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of questions for `Store.approvals`."""

    tenant: str | None = None
    approval_id: str | None = None
    #: A hash of the question's wording, and the trace id (hex) that asked it.
    mark: str | None = None
    trace: str | None = None
    #: One of `State`.
    state: str | None = None
    task_uid: UUID | None = None
    limit: int = 50


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of launch orders for `Store.orders`."""

    tenant: str | None = None
    #: ``launch:<launcher>`` or ``hook:<provider>``.
    carrier: str | None = None
    #: The task that the orders are about.
    task_uid: UUID | None = None
    id: UUID | None = None
    limit: int = 50


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """A launch order and the state of its delivery."""

    order: Order
    #: waiting, sending, delivered or dead; empty when the delivery was pruned.
    state: str = ""
    reason: str = ""
    error: str = ""
    #: What the launcher returned (`Receipt.ref`).
    ref: dict[str, Any] = {}


class Alerted(msgspec.Struct, frozen=True, kw_only=True):
    """The result of recording an alert."""

    alert: Alert
    #: True when the alert brought nothing new.
    is_repeat: bool = False
    recorded: Recorded = msgspec.field(default_factory=Recorded)


#: Callback with the topic (`tasks.approvals.topic_of`) of a question or act that changed. Empty: some may
#: have been missed.
Hears: TypeAlias = Callable[[bytes], None]


class Curves(Protocol):
    """**Protocol:** how full context windows were over time.

    Every method raises `StoreUnavailable`; all are safe to repeat.
    """

    async def of(self, task_uid: UUID) -> list[Point]:
        """**Protocol:** return how full a task's context window was, oldest first.

        Only its newest calls when there are many.
        """
        ...


class Browses(Protocol):
    """**Protocol:** queries for people and the API: pages, timelines, sums, the stream of checkpoints.

    Every method raises `StoreUnavailable` when the database cannot be reached. All only read and are safe to
    repeat.
    """

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """**Protocol:** return a page of tasks, newest first; its `next` is a `TaskKey`."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """**Protocol:** return a task by any of its ids, its uid, or a trace id (the topmost one)."""
        ...

    async def timeline(
        self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool
    ) -> Page[TimelineEntry]:
        """**Protocol:** return a page of a task's timeline, oldest first.

        Span attributes only with `content`.
        """
        ...

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """**Protocol:** return sums over the announced tasks that started in `[since, until)`."""
        ...

    async def approvals(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """**Protocol:** return a page of questions, newest first; its `next` is an `ApprovalKey`."""
        ...

    async def head(self) -> Position:
        """**Protocol:** return the end of the stream: checkpoints recorded from now on come after it."""
        ...

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """**Protocol:** return checkpoints after a position, in the order of the stream.

        No checkpoint is ever inserted before one that was returned: reading on from the last position misses
        none.
        """
        ...

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """**Protocol:** return the open tasks that changed after `since`, and when, oldest first.

        The times are by the store's clock. A change may commit later than its time says: overlap the
        periods, and expect some tasks twice.
        """
        ...

    async def now(self) -> datetime:
        """**Protocol:** return the time by the store's clock."""
        ...

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """**Protocol:** return the existing tasks among `uids`."""
        ...

    async def ended(self, since: datetime, until: datetime, latest: timedelta) -> list[Task]:
        """**Protocol:** return the root tasks whose end was first recorded in `[since, until)`.

        The times are by the store's clock. An end that was recorded more than `latest` after it happened is
        left out.
        """
        ...

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """**Protocol:** return where a sink shows these tasks (`ref` of the receipt), by uid.

        Tasks it does not show are left out.
        """
        ...


class Store(Protocol):
    """**Protocol:** records observations, computes task state from them, and hands out deliveries.

    `record` is one transaction: when it returns, all of the batch is recorded; when it raises, nothing is.
    Duplicates change nothing, so every method that records is safe to repeat. All methods may be called
    concurrently from one event loop. Methods that reach a database raise `StoreUnavailable` when it is down:
    the caller keeps its data and tries again.
    """

    #: How long a claimed delivery belongs to the process that claimed it.
    lease: timedelta

    @property
    def curves(self) -> Curves:
        """**Protocol:** how full context windows were. Raises nothing."""
        ...

    @property
    def browse(self) -> Browses:
        """**Protocol:** queries for people and the API. Raises nothing."""
        ...

    @property
    def sessions(self) -> KeepsSessions:
        """**Protocol:** sessions of people who logged in. Raises nothing."""
        ...

    @property
    def installations(self) -> Installations:
        """**Protocol:** the Slack apps installed in workspaces. Raises nothing."""
        ...

    async def open(self) -> None:
        """**Protocol:** connect and check the schema. Raises `ConfigError` with the next step.

        Safe to repeat.
        """
        ...

    async def close(self) -> None:
        """**Protocol:** release the connections. Raises nothing; safe to repeat."""
        ...

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """**Protocol:** record a batch.

        Observations that can never be recorded go to quarantine and are counted in `Recorded.dropped`. Raises
        `StoreUnavailable`; safe to repeat. With `is_whole` a batch that takes too long is neither split nor
        quarantined: it raises `OverBudget`.
        """
        ...

    async def elapse(self) -> Recorded:
        """**Protocol:** fold the timers that are due by the store's clock: finalized usage, expiry, stalls.

        Raises `StoreUnavailable`; safe to repeat.
        """
        ...

    async def listen_anew(self) -> None:
        """**Protocol:** the receiver has started: restart every producer's stall timeout. Safe to repeat."""
        ...

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """**Protocol:** lease deliveries that are due: one per ordering key, urgent ones first.

        Each draws on all `rate_limits` of its call, in the same transaction. A delivery that they hold back
        stays waiting. When the answer is lost, the leases run out and the deliveries are claimed again.
        """
        ...

    async def settle(self, delivery: Delivery, outcome: Outcome) -> Sequence[OpenCircuit]:
        """**Protocol:** record the outcome of a claimed delivery; return the circuits that it stopped.

        Safe to repeat.
        """
        ...

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """**Protocol:** return the seconds until a delivery of these sinks or a timer is due.

        0 is now, None: nothing waits.
        """
        ...

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """**Protocol:** list tasks, newest first."""
        ...

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """**Protocol:** list checkpoints of one task or of all, in order of time."""
        ...

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100
    ) -> list[DeliveryRow]:
        """**Protocol:** list deliveries, oldest first."""
        ...

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """**Protocol:** set dead deliveries to waiting (without ids: all of the sink); return how many.

        Safe to repeat.
        """
        ...

    async def discard_deliveries(self, ids: Sequence[int]) -> int:
        """**Protocol:** give up waiting deliveries: they become dead letters. Return how many.

        Safe to repeat.
        """
        ...

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """**Protocol:** list rate limits that were used or closed, longest closed first.

        `is_closed`: only those not open.
        """
        ...

    async def reopen_rate_limits(self, keys: Sequence[str]) -> int:
        """**Protocol:** open closed rate limits at once, after the cause was fixed; return how many.

        Safe to repeat.
        """
        ...

    # --- people ------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """**Protocol:** record a person's act and its effect, in one transaction. The first decision stands.

        Safe to repeat: an act with the same idempotency key changes nothing and returns the first verdict.
        Raises `StoreUnavailable`: nothing was recorded, or only the answer was lost.
        """
        ...

    async def await_answer(self, key: UUID) -> None:
        """**Protocol:** note that an agent waits for a question's answer: telemetry no longer answers it.

        Safe to repeat.
        """
        ...

    async def note_operation(self, what: str, user: str, detail: str) -> None:
        """**Protocol:** record an operation on the database from the command line.

        Repeated, it is recorded again.
        """
        ...

    async def order(self, order: Order, *, signature: str = "") -> Taken:
        """**Protocol:** place a launch order with the delivery that carries it.

        Safe to repeat: one id is placed once. `signature` proves a request that came in: a signature that
        was seen within the hour returns `Taken.REPLAYED`.
        """
        ...

    async def orders(self, query: OrderQuery) -> list[OrderRow]:
        """**Protocol:** list launch orders, newest first."""
        ...

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """**Protocol:** return a question by its opaque key."""
        ...

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """**Protocol:** list questions, newest first."""
        ...

    async def find_task(self, key: UUID) -> Task | None:
        """**Protocol:** return a task by a button's opaque key (its uid), or the task it was merged into."""
        ...

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """**Protocol:** return a task by any of its ids.

        By a trace id (32 hex digits) the trace's topmost task.
        """
        ...

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """**Protocol:** return the root task of a sink's message, by a part of the receipt's `ref`.

        For Slack, `ref` holds channel and ts. The message may be the root message or a checkpoint in its
        thread. None: the sink did not send this message.
        """
        ...

    async def deeds(
        self, task_uid: UUID, verbs: Sequence[str], after: int = 0, limit: int = 100, *, since: datetime | None = None
    ) -> list[StandingAct]:
        """**Protocol:** return granted acts on a task in order, numbered above `after`, recorded after `since`."""
        ...

    async def last_end(self, task_uid: UUID) -> datetime | None:
        """**Protocol:** return when the task's newest end of a run was recorded, by the store's clock.

        None before the first.
        """
        ...

    # --- alerts ------------------------------------------------------------------------------------------------------

    async def alerts(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """**Protocol:** return the recorded alerts among `ids`."""
        ...

    async def take_alert(self, alert: Alert) -> Alerted:
        """**Protocol:** record an alert and its checkpoint, in one transaction. Safe to repeat."""
        ...

    # --- requests ----------------------------------------------------------------------------------------------------

    async def is_first(self, key: str) -> bool:
        """**Protocol:** remember a request for an hour, for all processes.

        False when it was received before.
        """
        ...

    async def listen(self, hears: Hears) -> None:
        """**Protocol:** call `hears` in the running loop for every decision and act of any process.

        Returns when it listens, or after some seconds when the database is down; then it keeps trying.
        """
        ...

    def listen_no_more(self, hears: Hears) -> None:
        """**Protocol:** stop calling `hears`. Raises nothing; safe to repeat."""
        ...

    # --- budgets of money and tokens ---------------------------------------------------------------------------------

    async def usage(self, task_uid: UUID) -> list[Used]:
        """**Protocol:** return the finalized usage of a task, by model."""
        ...

    async def allowance(self, task: Task) -> list[Spent]:
        """**Protocol:** return each budget that a task spends from, with what finalized calls have spent."""
        ...

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """**Protocol:** list what is spent in the current periods, last changed first."""
        ...

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """**Protocol:** list how often providers refused calls, newest first.

        Counted by account, provider, model and day.
        """
        ...

    async def counts(self) -> dict[str, Any]:
        """**Protocol:** return the number of rows by table and of deliveries by state."""
        ...

    async def fleet(self) -> Fleet | None:
        """**Protocol:** return the figures of all open work on the database.

        None while another process has the turn to publish.
        """
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
    """Return the id of the alert that a delivery is about, if it may be about one."""
    if checkpoint is not None:
        with suppress(ValueError):
            return UUID(checkpoint.ref) if checkpoint.kind is Kind.ALERT else None
    # A task that merely claims to be an alert has a trace id that no alert has.
    return UUID(bytes=task.trace_id) if task is not None and task.is_alert and len(task.trace_id) == 16 else None
