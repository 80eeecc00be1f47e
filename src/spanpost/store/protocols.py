"""The protocols of the store, one for each role. `MemoryStore` and `PostgresStore` implement them.

A consumer is handed the part that it needs: the dispatcher the outbox, the API the reader, and so on. All
methods may be called concurrently from one event loop. Methods that reach a database raise
`StoreUnavailable` when it is down: the caller keeps its data and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import Delivery, DeliveryRow, RateLimitRow, RateLimits, unlimited
from spanpost.model.fleet import Fleet
from spanpost.model.interventions import ApprovalRow, Intervention, StandingAct, Verdict
from spanpost.model.launch_orders import Order, OrderQuery, OrderRow, Taken
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Outcome
from spanpost.model.queries import (
    WHOLE_TIMELINE,
    ApprovalFilter,
    ApprovalKey,
    ApprovalQuery,
    Facets,
    Page,
    Position,
    Stats,
    StreamedCheckpoint,
    TaskFilter,
    TaskKey,
    TaskQuery,
    TaskQuestion,
    TimelineEntry,
    TimelineFilter,
    TimelineKey,
)
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.model.totals import Totals
from spanpost.model.waterfalls import Waterfall
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.store.acts_protocol import Acts as Acts
from spanpost.store.alerts import Alerts as Alerts
from spanpost.store.budget_protocol import Budgets as Budgets
from spanpost.store.directory import AccessTokens, Installations, LoginSessions, StandingApprovals, TenantTotals
from spanpost.tasks.context_curve import Point
from spanpost.tasks.folded import FoldRules

#: Callback with the topic (`tasks.approvals.topic_of`) of a question or act that changed. Empty: some may
#: have been missed.
Hears: TypeAlias = Callable[[bytes], None]


class Recorder(Protocol):
    """**Protocol:** records observations, and computes task state from them.

    `record` is one transaction: when it returns, all of the batch is recorded; when it raises, nothing is.
    Duplicates change nothing, so every method is safe to repeat.
    """

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """**Protocol:** record a batch.

        Observations that can never be recorded go to quarantine and are counted in `Recorded.dropped`. With
        `is_whole` a batch that takes too long is neither split nor quarantined: it raises `OverBudget`.
        """
        ...

    async def elapse(self) -> Recorded:
        """**Protocol:** fold the timers that are due by the store's clock: finalized usage, expiry, stalls."""
        ...

    async def listen_anew(self) -> None:
        """**Protocol:** the receiver has started: restart every producer's stall timeout."""
        ...


class Outbox(Protocol):
    """**Protocol:** hands out deliveries, and keeps the rate limits of their calls. Safe to repeat, `claim` aside."""

    #: How long a claimed delivery belongs to the process that claimed it.
    lease: timedelta

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """**Protocol:** lease deliveries that are due: one per ordering key, urgent ones first.

        Each draws on all `rate_limits` of its call, in the same transaction. A delivery that they hold back
        stays waiting. When the answer is lost, the leases run out and the deliveries are claimed again.
        """
        ...

    async def finish(self, delivery: Delivery, outcome: Outcome) -> Sequence[OpenCircuit]:
        """**Protocol:** record the outcome of a claimed delivery; return the circuits that it stopped."""
        ...

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """**Protocol:** return the seconds until a delivery of these sinks or a timer is due.

        0 is now, None: nothing waits.
        """
        ...

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100, tenant: str | None = None
    ) -> list[DeliveryRow]:
        """**Protocol:** list deliveries, oldest first."""
        ...

    async def retry(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """**Protocol:** set dead deliveries to waiting (without ids: all of the sink); return how many."""
        ...

    async def discard(self, ids: Sequence[int]) -> int:
        """**Protocol:** give up waiting deliveries: they become dead letters. Return how many."""
        ...

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """**Protocol:** list rate limits that were used or closed, longest closed first.

        `is_closed`: only those not open.
        """
        ...

    async def reopen(self, keys: Sequence[str]) -> int:
        """**Protocol:** open closed rate limits at once, after the cause was fixed; return how many."""
        ...


class CheckpointStream(Protocol):
    """**Protocol:** changes in order, for streams of events. All methods only read."""

    async def head(self) -> Position:
        """**Protocol:** return the end of the stream: checkpoints recorded from now on come after it."""
        ...

    async def streamed(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
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

    async def erased_at(self) -> datetime | None:
        """**Protocol:** return when something was last erased (`spanpost erase`): forget what was read before."""
        ...


class Reader(CheckpointStream, Protocol):
    """**Protocol:** queries for people and the API: pages, timelines, sums. All methods only read."""

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """**Protocol:** return a page of tasks, newest first; its `next` is a `TaskKey`."""
        ...

    async def facets(self, asked: TaskFilter) -> Facets:
        """**Protocol:** return how many tasks a filter matches, and their most frequent values."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """**Protocol:** return a task by any of its ids, its uid, or a trace id (the topmost one)."""
        ...

    async def find(self, key: UUID) -> Task | None:
        """**Protocol:** return a task by a button's opaque key (its uid), or the task it was merged into."""
        ...

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """**Protocol:** return a task by any of its ids, or by a trace id its topmost living task."""
        ...

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """**Protocol:** return the root task of a sink's message, by a part of the receipt's `ref`.

        For Slack, `ref` holds channel and ts. The message may be the root message or a checkpoint in its
        thread. None: the sink did not send this message.
        """
        ...

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """**Protocol:** return where a sink shows these tasks (`ref` of the receipt), by uid.

        Tasks it does not show are left out.
        """
        ...

    async def totals(self, uids: Iterable[UUID]) -> dict[UUID, Totals]:
        """**Protocol:** return the figures of tasks together with all tasks below them.

        Tasks without tasks below them are left out.
        """
        ...

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """**Protocol:** list checkpoints of one task or of all, in order of time."""
        ...

    async def timeline(
        self,
        task_uid: UUID,
        after: TimelineKey | None,
        limit: int,
        *,
        content: bool,
        asked: TimelineFilter = WHOLE_TIMELINE,
    ) -> Page[TimelineEntry]:
        """**Protocol:** return a page of a task's timeline. Span attributes only with `content`."""
        ...

    async def curve(self, task_uid: UUID) -> list[Point]:
        """**Protocol:** return how full a task's context window was, oldest first; of many calls the newest."""
        ...

    async def waterfall(self, task_uid: UUID, since: datetime | None, until: datetime | None) -> Waterfall:
        """**Protocol:** return what a task and those below it did in a window; None: from its begin, to its end."""
        ...

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """**Protocol:** return sums over the announced tasks that started in `[since, until)`."""
        ...

    async def approvals(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """**Protocol:** return a page of questions, newest first; its `next` is an `ApprovalKey`."""
        ...

    async def ended(self, since: datetime, until: datetime, latest: timedelta) -> list[Task]:
        """**Protocol:** return the root tasks whose end was first recorded in `[since, until)`.

        The times are by the store's clock. An end that was recorded more than `latest` after it happened is
        left out.
        """
        ...


class Interventions(StandingApprovals, Protocol):
    """**Protocol:** records what people do, and keeps the questions that they answer. Safe to repeat."""

    async def intervene(self, act: Intervention) -> Verdict:
        """**Protocol:** record a person's act and its effect, in one transaction. The first decision stands.

        An act with the same idempotency key changes nothing and returns the first verdict. Raises
        `StoreUnavailable`: nothing was recorded, or only the answer was lost.
        """
        ...

    async def await_answer(self, key: UUID) -> None:
        """**Protocol:** note that an agent waits for a question's answer: telemetry no longer answers it."""
        ...

    async def withdraw(self, key: UUID, reason: str) -> Recorded:
        """**Protocol:** close an open question that nothing waits for any more. It grants nothing.

        A question that is closed stays as it is. Safe to repeat.
        """
        ...

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """**Protocol:** return a question by its opaque key."""
        ...

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """**Protocol:** list questions, newest first."""
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


class LaunchOrders(Protocol):
    """**Protocol:** keeps launch orders, each with the delivery that carries it."""

    async def place(self, order: Order, *, signature: str = "") -> Taken:
        """**Protocol:** place a launch order with the delivery that carries it.

        Safe to repeat: one id is placed once. `signature` proves a request that came in: a signature that
        was seen within the hour returns `Taken.REPLAYED`.
        """
        ...

    async def listed(self, query: OrderQuery) -> list[OrderRow]:
        """**Protocol:** list launch orders, newest first."""
        ...


class Store(Recorder, Protocol):
    """**Protocol:** a store with all its parts. Only what composes a process is handed the whole."""

    #: The rules of the task state, for the next batch on.
    rules: FoldRules

    @property
    def outbox(self) -> Outbox: ...

    @property
    def reader(self) -> Reader: ...

    @property
    def interventions(self) -> Interventions: ...

    @property
    def acts(self) -> Acts: ...

    @property
    def launch_orders(self) -> LaunchOrders: ...

    @property
    def alerts(self) -> Alerts: ...

    @property
    def budgets(self) -> Budgets: ...

    @property
    def sessions(self) -> LoginSessions: ...

    @property
    def access_tokens(self) -> AccessTokens: ...

    @property
    def tenant_totals(self) -> TenantTotals: ...

    @property
    def installations(self) -> Installations: ...

    @property
    def hash_key(self) -> bytes:
        """**Protocol:** the key of hashes that stand for what must not be read, once the store is open."""
        ...

    async def open(self) -> None:
        """**Protocol:** connect and check the schema. Raises `ConfigError` with the next step.

        Safe to repeat.
        """
        ...

    async def close(self) -> None:
        """**Protocol:** release the connections. Raises nothing; safe to repeat."""
        ...

    async def why_not_writable(self, *, tries: bool) -> str:
        """**Protocol:** return why nothing can be recorded now; empty if it can. Raises nothing.

        `tries`: write something that leaves nothing behind; only asking misses a full disk.
        """
        ...

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """**Protocol:** list tasks, newest first."""
        ...

    async def counts(self) -> dict[str, Any]:
        """**Protocol:** return the number of rows by table and of deliveries by state."""
        ...

    async def fleet(self) -> Fleet | None:
        """**Protocol:** return the figures of all open work on the database.

        None while another process has the turn to publish.
        """
        ...
