"""What somebody asks of tasks who looks: filters, pages by key, and what they are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from spanpost.domain.tasks import Task

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some of a list, and after what the next begins; None at its end."""

    items: list[T]
    next: Any = None


class TaskKey(msgspec.Struct, frozen=True):
    """Where a task stands in the list of tasks, newest first; without a start it is older than all."""

    started_at: datetime | None
    uid: UUID


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks. What is not given is met by any; of several words one must be met."""

    tenant: str | None = None
    statuses: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    #: Stands somewhere in name, action, id or agent's name, in capitals or not.
    q: str = ""
    #: Of the start.
    since: datetime | None = None
    until: datetime | None = None
    #: Those without a task above them.
    is_root: bool = False
    parent: UUID | None = None
    #: Those too that are recorded and not announced (a lone model call).
    shows_all: bool = False

    def takes(self, task: Task) -> bool:
        """Tell whether a task, with its status as it is now, is one of them."""
        return (
            (self.tenant is None or task.tenant == self.tenant)
            and (not self.statuses or task.status in self.statuses)
            and (not self.agents or task.agent_name in self.agents)
            and (not self.topics or task.topic in self.topics)
            and (not self.types or task.type in self.types)
            and (not self.environments or task.environment in self.environments)
            and (self.since is None or (task.started_at is not None and task.started_at >= self.since))
            and (self.until is None or (task.started_at is not None and task.started_at < self.until))
            and (not self.is_root or task.parent_uid is None)
            and (self.parent is None or task.parent_uid == self.parent)
            and (self.shows_all or task.is_announced)
            and (not self.q or self._says(task))
        )

    def _says(self, task: Task) -> bool:
        words = self.q.casefold()
        return any(words in (text or "").casefold() for text in (task.name, task.action, task.task_id, task.agent_name))
