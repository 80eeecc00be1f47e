"""Short ids for a shell's completion: of tasks and of open questions. What cannot be read is not offered."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spanpost.settings import Settings
    from spanpost.store.protocols import Store

#: Ids that are offered, and the seconds that a shell waits for them.
_MOST: Final = 50
_TIMEOUT: Final = 3.0
#: An id, and what it is of.
Offers = list[tuple[str, str]]


def tasks(incomplete: str) -> Offers:
    """Return the newest tasks whose short id begins so, each with its name."""
    return _begun(incomplete, lambda: _read("/api/tasks", {"all": True}, _tasks_in, "uid", "name"))


def questions(incomplete: str) -> Offers:
    """Return the open questions whose short id begins so, each with its text."""
    return _begun(incomplete, lambda: _read("/api/approvals", {"state": "open"}, _questions_in, "key", "question"))


def _begun(incomplete: str, read: Callable[[], Offers]) -> Offers:
    from spanpost.text.sanitise import line

    with suppress(Exception):  # a shell shows no error here
        return [(id, line(said, 60)) for id, said in read() if id.startswith(incomplete)]
    return []


def _read(path: str, asked: dict[str, object], of: Callable[[Store, str], object], key: str, name: str) -> Offers:
    from spanpost.settings import URL_VARIABLE

    if url := os.environ.get(URL_VARIABLE):
        from spanpost.cli.columns import short
        from spanpost.cli.remote import Remote

        with Remote(url, timeout=_TIMEOUT) as remote:
            return [(short(one[key]), one[name] or "") for one in remote.items(path, asked, _MOST)]
    return _in_database(of)


def _in_database(of: Callable[[Store, str], object]) -> Offers:
    import asyncio
    from typing import Any, cast

    from spanpost.cli.options import opened, settings_of

    settings = settings_of()
    if not _is_there(settings) or (of is _questions_in and _are_reads_logged(settings)):
        return []

    async def read() -> Any:
        async with asyncio.timeout(_TIMEOUT), opened(settings) as store:
            return await cast(Any, of)(store, settings.intake.tenant)

    return cast(Offers, asyncio.run(read()))


def _is_there(settings: Settings) -> bool:
    """Return whether a database can be asked: a shell's completion starts no server."""
    if settings.dsn:
        return True
    return (settings.database.data_dir / "pg" / "postmaster.pid").is_file()


def _are_reads_logged(settings: Settings) -> bool:
    """Return whether who reads a question is logged: then none is shown beside a command line, which logs nothing."""
    return settings.interactions is not None and settings.interactions.log_reads


async def _tasks_in(store: Store, tenant: str) -> Offers:
    from spanpost.cli.columns import short
    from spanpost.model.queries import TaskFilter
    from spanpost.tasks.titles import title

    page = await store.reader.tasks(TaskFilter(tenant=tenant, shows_all=True), None, _MOST)
    return [(short(task.uid), title(task)) for task in page.items]


async def _questions_in(store: Store, tenant: str) -> Offers:
    from spanpost.cli.columns import short
    from spanpost.model.queries import ApprovalFilter

    page = await store.reader.approvals(ApprovalFilter(tenant=tenant, state="open"), None, _MOST)
    return [(short(one.row.key), one.row.question) for one in page.items]
