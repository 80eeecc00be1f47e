"""The contract of the hall: what every ledger does, in memory or in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Delivery
from spanpost.domain.observations import Observation
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.records import Recorded
from spanpost.domain.tasks import Task

__all__ = ["DeliveryRow", "GiveUp", "Ledger", "Outcome", "RetryAt", "TaskQuery"]


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as an operator lists it."""

    id: int
    sink: str
    address: str
    lane: str
    mode: str
    #: waiting, sending, delivered, dead
    state: str
    task_id: str
    kind: str
    attempt: int
    born_at: datetime
    not_before: datetime | None = None
    error: str = ""


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list, newest first."""

    tenant: str | None = None
    task_id: str | None = None
    status: str | None = None
    agent_name: str | None = None
    is_announced: bool | None = None
    limit: int = 50


class Ledger(Protocol):
    """**Protocol:** keeps observations, folds them, and hands out deliveries. Two stand here: memory and Postgres.

    `record` is one transaction: it has happened wholly when it returns and not at all when it raises. Repeats are nothing
    new. All methods may be called from one event loop, concurrently. Those that talk to a database raise
    `LedgerUnavailable` when it cannot be reached: the caller keeps what it had and tries again.
    """

    async def open(self) -> None:
        """Make ready (connect, check the schema). Raises `ConfigError` with the next step when that is impossible."""
        ...

    async def close(self) -> None: ...

    async def record(self, batch: Sequence[Observation]) -> Recorded: ...

    async def elapse(self) -> Recorded:
        """Ask what has fallen due by the ledger's clock (settling, expiry) and fold that."""
        ...

    async def claim(self, sinks: Sequence[str], limit: int) -> list[Delivery]:
        """Lease deliveries that are due: one per lane, urgent first, news before nothing else of its lane."""
        ...

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Say what became of a claimed delivery."""
        ...

    async def due_in(self) -> float | None:
        """Seconds until something waits to be delivered or has fallen due; 0 when now, None when nothing waits."""
        ...

    async def tasks(self, query: TaskQuery) -> list[Task]: ...

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Checkpoints in order of time, of one task or of all."""
        ...

    async def deliveries(self, *, state: str | None = None, sink: str | None = None, limit: int = 100) -> list[DeliveryRow]: ...

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again (all of a sink's when no ids are given); return how many."""
        ...

    async def bury_deliveries(self, ids: Sequence[int]) -> int: ...

    async def counts(self) -> dict[str, Any]:
        """Rows by table and deliveries by state, for status displays and gauges."""
        ...
