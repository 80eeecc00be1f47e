"""The protocols of what people and the API read from the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.queries import (
    WHOLE_TIMELINE,
    ApprovalFilter,
    ApprovalKey,
    Facets,
    Page,
    Position,
    Stats,
    StreamedCheckpoint,
    TaskFilter,
    TaskKey,
    TaskQuestion,
    TimelineEntry,
    TimelineFilter,
    TimelineKey,
)
from spanpost.model.tasks import Task
from spanpost.model.totals import Totals
from spanpost.model.waterfalls import Waterfall
from spanpost.store.acts_protocol import Acts as Acts
from spanpost.store.alerts import Alerts as Alerts
from spanpost.store.budget_protocol import Budgets as Budgets
from spanpost.tasks.context_curve import Point


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

    async def version(self, task_uid: UUID) -> str:
        """**Protocol:** return what differs once anything of a task or of those below it was recorded or erased.

        It costs little: ask for it before the waterfall.
        """
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
