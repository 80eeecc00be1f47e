"""What the API needs of the ledger."""

from __future__ import annotations

from typing import Protocol

from spanpost.domain.browsing import Page, TaskFilter, TaskKey
from spanpost.domain.tasks import Task


class Hall(Protocol):
    """**Protocol:** what the ledger does for those who look. All of it raises `LedgerUnavailable` when it cannot be reached.

    A tenant is always said: what is another's does not exist.
    """

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first; its `next` is a `TaskKey`."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id (the topmost of the trace)."""
        ...
