"""The list of ``spanpost tasks``, from the database or from a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spanpost.cli import tables
from spanpost.cli.options import ask, time_at
from spanpost.cli.references import task_at, task_in
from spanpost.model.errors import ConfigError
from spanpost.model.queries import TaskFilter
from spanpost.model.tasks import Task
from spanpost.tasks.json_form import rfc3339, task_json

if TYPE_CHECKING:
    from spanpost.settings import Settings


class ListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request of the command line."""

    words: Mapping[str, tuple[str, ...]]
    q: str
    since: datetime | None
    roots: bool
    tenant: str | None
    task_id: str | None
    limit: int

    @property
    def is_narrow(self) -> bool:
        """True if the request leaves out some tasks."""
        return any(self.words.values()) or bool(self.q or self.since or self.roots or self.tenant or self.task_id)

    def in_store(self, settings: Settings) -> list[tuple[Task, dict[str, Any]]]:
        """Return tasks of the database, each with its JSON."""
        if self.task_id is not None:
            task = ask(settings, lambda store: task_in(store, self.tenant, self.task_id or ""))
            found = [task] if self._filter.takes(task) else []
        else:
            found = ask(settings, lambda store: store.reader.tasks(self._filter, None, self.limit)).items
        return [(task, task_json(task) | {"uid": str(task.uid)}) for task in found]

    @property
    def _filter(self) -> TaskFilter:
        words = self.words
        return TaskFilter(
            tenant=self.tenant,
            statuses=words["status"],
            agents=words["agent"],
            topics=words["topic"],
            types=words["type"],
            environments=words["environment"],
            people=words["person"],
            repos=words["repo"],
            sessions=words["session"],
            q=self.q,
            since=self.since,
            is_root=self.roots,
            shows_all=True,
        )

    def at_gateway(self, url: str, data_dir: Path | None = None) -> list[tuple[Task, dict[str, Any]]]:
        """Return tasks of a gateway, each with its JSON."""

        from spanpost.cli.remote import Remote, task_of

        if self.tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        with Remote(url, data_dir) as remote:
            if self.task_id is not None:
                found = [task_at(remote, self.task_id)]
            else:
                asked = {**self.words, "q": self.q, "since": rfc3339(self.since), "roots": self.roots, "all": True}
                found = remote.items("/api/tasks", asked, self.limit)
        return [(task_of(one), one) for one in found]


def time_of(said: str | None) -> datetime | None:
    """Return the moment of an RFC 3339 time or of an age (36h, 7d, 2w). Raises `ConfigError`."""
    if said is None:
        return None
    try:
        return time_at(said)
    except ValueError:
        try:
            return datetime.now(UTC) - tables.age(said, "--since")
        except (ConfigError, OverflowError):
            raise ConfigError(
                f"--since {said[:50]}: give a time, such as 2026-03-01T12:00:00Z, or an age, such as 7d"
            ) from None
