"""Where ``spanpost top`` reads and acts: the database, or a gateway. Each is used from one thread alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from uuid import uuid4

from spanpost.cli import looking
from spanpost.cli.options import opened, read_noted
from spanpost.cli.remote import Remote, path_of, task_of
from spanpost.model.acts import ContentKind
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Result, Verb
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES, STATUSES

if TYPE_CHECKING:
    from spanpost.settings import Settings
    from spanpost.store.protocols import Store

T = TypeVar("T")
_OPEN: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)
#: Tasks that are read, and how long a failed one stays on the screen after its start.
_MOST, _FAILED, _STAYS = 200, 50, timedelta(hours=1)
#: Entries of the timeline of a shown task.
_ENTRIES: Final = 50


class TopSource(Protocol):
    """**Protocol:** what the screen asks for. Raises `SpanpostError`."""

    def tasks(self) -> list[Task]:
        """**Protocol:** return the open tasks, and those that failed lately."""
        ...

    def whole(self, uid: str) -> looking.WholeTask:
        """**Protocol:** return a whole task."""
        ...

    def decide(self, key: str, decision: str) -> str:
        """**Protocol:** decide a question; return what came of it."""
        ...

    def cancel(self, uid: str) -> str:
        """**Protocol:** ask a task to stop; return what came of it."""
        ...

    def close(self) -> None:
        """**Protocol:** release connections."""
        ...


class GatewaySource:
    """A gateway's API: it applies its authorization rules to the token."""

    def __init__(self, url: str, data_dir: Path | None) -> None:
        self._remote = Remote(url, data_dir)

    def tasks(self) -> list[Task]:
        """Return the open tasks, and those that failed lately."""
        since = (datetime.now(UTC) - _STAYS).isoformat()
        found = self._remote.items("/api/tasks", {"status": _OPEN}, _MOST)
        found += self._remote.items("/api/tasks", {"status": [ERROR], "since": since}, _FAILED)
        return [task_of(one) for one in found]

    def whole(self, uid: str) -> looking.WholeTask:
        """Return a whole task."""
        return looking.read_at(self._remote, self._remote.get(f"/api/tasks/{path_of(uid)}", {}), _ENTRIES)

    def decide(self, key: str, decision: str) -> str:
        """Decide a question."""
        body = {"decision": decision}
        return str(self._remote.post(f"/api/approvals/{path_of(key)}/decision", body, str(uuid4()))["message"])

    def cancel(self, uid: str) -> str:
        """Ask a task to stop."""
        return str(self._remote.post(f"/api/tasks/{path_of(uid)}/cancel", {"comment": ""}, str(uuid4()))["message"])

    def close(self) -> None:
        """Release the connections."""
        self._remote.close()


class StoreSource:
    """The database: everybody who can reach it may act, in the name that they give."""

    def __init__(self, settings: Settings, tenant: str, by: str) -> None:
        self._settings, self._tenant, self._by = settings, tenant, by
        self._runner: asyncio.Runner | None = None
        self._opened: Any = None
        self._store: Store

    def _ask(self, question: Callable[[Store], Awaitable[T]]) -> T:
        async def work() -> T:
            if self._opened is None:
                opening = opened(self._settings)
                self._store = await opening.__aenter__()
                self._opened = opening
            return await question(self._store)

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work())

    def tasks(self) -> list[Task]:
        """Return the open tasks, and those that failed lately."""
        from spanpost.model.queries import TaskFilter

        open_ = TaskFilter(tenant=self._tenant, statuses=_OPEN)
        failed = TaskFilter(tenant=self._tenant, statuses=(ERROR,), since=datetime.now(UTC) - _STAYS)

        async def read(store: Store) -> list[Task]:
            return [
                *(await store.reader.tasks(open_, None, _MOST)).items,
                *(await store.reader.tasks(failed, None, _FAILED)).items,
            ]

        return self._ask(read)

    def whole(self, uid: str) -> looking.WholeTask:
        """Return a whole task."""
        from spanpost.cli.references import task_in

        async def read(store: Store) -> looking.WholeTask:
            task = await task_in(store, self._tenant, uid)
            if task.approvals:
                await read_noted(store, self._settings, ContentKind.QUESTION, tenant=self._tenant, tasks=[task.uid])
            return await looking.read_in(store, self._tenant, task, _ENTRIES)

        return self._ask(read)

    def decide(self, key: str, decision: str) -> str:
        """Decide a question."""
        from spanpost.interactions import texts
        from spanpost.runtime import decisions

        who = self._who()
        verdict = self._ask(
            lambda store: decisions.decide(store.interventions, key, decision, tenant=self._tenant, **who)
        )
        is_whole = verdict.result is Result.DONE
        return texts.done(Verb.APPROVE, verdict, "") if is_whole else texts.verdict(Verb.APPROVE, verdict)

    def cancel(self, uid: str) -> str:
        """Ask a task to stop."""
        from spanpost.cli.references import task_in
        from spanpost.runtime import decisions

        launches, who = self._settings.launchers, self._who()

        async def work(store: Store) -> str:
            task = await task_in(store, self._tenant, uid)
            return (await decisions.act(store.interventions, launches, Verb.CANCEL, task, **who)).sentence

        return self._ask(work)

    def _who(self) -> dict[str, str]:
        from spanpost.store.system_user import system_user

        if not self._by:
            raise ConfigError("--as is missing: give your name to `spanpost top`; it is shown to everybody, and kept")
        return {"by": self._by, "source": "cli", "user": system_user()}

    def close(self) -> None:
        """Close the store."""
        if self._runner is not None:
            if self._opened is not None:
                self._runner.run(self._opened.__aexit__(None, None, None))
            self._runner.close()
