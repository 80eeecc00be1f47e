"""What the API needs of the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from spanpost.interactions import protocols
from spanpost.model.budgets import Limits, Spent
from spanpost.model.interventions import ApprovalRow
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
from spanpost.model.tasks import Task


class Streams(Protocol):
    """**Protocol:** sources of the event stream. Without a tenant they cover all tenants."""

    async def head(self) -> Position:
        """Return the end of the stream of checkpoints."""
        ...

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """Return the checkpoints after a position, in order.

        Later ones never appear before those already read.
        """
        ...

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """Return unfinished tasks that any process changed since then, and when; some repeatedly."""
        ...

    async def now(self) -> datetime:
        """Return the store's time."""
        ...

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """Return the existing tasks among `uids`."""
        ...


class BrowsingStore(Streams, protocols.InteractionStore, Protocol):
    """**Protocol:** what the store does for readers and acts. All methods raise `StoreUnavailable`.

    A tenant is always given: data of other tenants does not exist.
    """

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id (the topmost of the trace)."""
        ...

    async def timeline(
        self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool
    ) -> Page[TimelineEntry]:
        """Return a page of a task's timeline, oldest first; recorded attributes only with `content`."""
        ...

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """Return sums over the announced tasks that began in that period."""
        ...

    async def spending(self, tenant: str) -> list[Spent]:
        """Return the spending from budgets in their current periods."""
        ...

    async def limits(self, tenant: str) -> list[Limits]:
        """Return how often providers limited calls, newest first."""
        ...

    async def questions(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """Return a page of questions, newest first."""
        ...

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        """Return a question by its key; or by an agent's id all that it may mean, one for each wording."""
        ...

    async def rows_of(self, task_uid: UUID) -> Sequence[ApprovalRow]:
        """Return the questions of a task."""
        ...
