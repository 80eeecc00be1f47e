"""The protocols of the store, one for each role. `MemoryStore` and `PostgresStore` implement them.

A consumer is handed the part that it needs: the dispatcher the outbox, the API the reader, and so on. All
methods may be called concurrently from one event loop. Methods that reach a database raise
`StoreUnavailable` when it is down: the caller keeps its data and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from spanpost.model.deliveries import Delivery, DeliveryRow, RateLimitRow, RateLimits, unlimited
from spanpost.model.fleet import Fleet
from spanpost.model.interventions import ApprovalRow, Intervention, StandingAct, Verdict
from spanpost.model.launch_orders import Order, OrderQuery, OrderRow, Taken
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Outcome
from spanpost.model.queries import (
    ApprovalQuery,
    TaskQuery,
)
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.store.acts_protocol import Acts as Acts
from spanpost.store.alerts import Alerts as Alerts
from spanpost.store.budget_protocol import Budgets as Budgets
from spanpost.store.directory import AccessTokens, Installations, LoginSessions, StandingApprovals, TenantTotals
from spanpost.store.reader_protocol import CheckpointStream as CheckpointStream
from spanpost.store.reader_protocol import Reader as Reader
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

    async def fleet(self, *, is_asked: bool = False) -> Fleet | None:
        """**Protocol:** return the figures of all open work on the database.

        None while another process has the turn to publish them, unless a person asked (`is_asked`).
        """
        ...
