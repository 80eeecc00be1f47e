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
    """**Protocol:** what the stream of events is made of. Of all tenants where none is said."""

    async def head(self) -> Position:
        """Return the end of the stream of checkpoints."""
        ...

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """Return what was told after a position, in order. What was read stays before what was not."""
        ...

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """Return which tasks under way changed since then, by whatever process, and when; some again."""
        ...

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        ...

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """Return tasks by their uids, those that there are."""
        ...


class BrowsingStore(Streams, protocols.InteractionStore, Protocol):
    """**Protocol:** what the store does for those who look and act. All of it raises `LedgerUnavailable` when it cannot be reached.

    A tenant is always said: what is another's does not exist.
    """

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
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

    async def spending(self, tenant: str) -> list[Spent]:
        """Return what is spent of budgets in their periods of now."""
        ...

    async def limits(self, tenant: str) -> list[Limits]:
        """Return how often providers held calls back, the newest first."""
        ...

    async def questions(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """Return a page of questions, newest first."""
        ...

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        """Return a question by its key, or by the agent's id those that an answer by it may mean: one for each wording."""
        ...

    async def rows_of(self, task_uid: UUID) -> Sequence[ApprovalRow]:
        """Return the questions of a task."""
        ...
