"""Retention and archives of a whole database: by hand, and on the gateway's schedule (`retention`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spanpost.model.acts import CLI, Operation
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor
from spanpost.runtime.connected import connected
from spanpost.runtime.maintenance import as_owner
from spanpost.settings import Settings

if TYPE_CHECKING:
    from spanpost.model.retention import RetentionRules
    from spanpost.store.archiving.listing import Archive
    from spanpost.store.archiving.running import RetentionRun, Show
    from spanpost.store.archiving.sources import ArchiveField
    from spanpost.store.archiving.writing import Watch

T = TypeVar("T")
#: In the way of a run, if another process has the lock.
BUSY: Final = "another process is archiving this database at the moment: wait until it has finished"
_CURE: Final = (
    "Grant the role a writer's rights with `spanpost db grant --writer ROLE`, or use the role that made the tables"
)


def _opened(dsn: str) -> AbstractAsyncContextManager[Any]:
    return connected(dsn, _CURE, name="spanpost-archive")


async def retain(
    dsn: str,
    rules: RetentionRules,
    *,
    is_done: bool,
    actor: Actor,
    watch: Watch = lambda step: None,
    show: Show = lambda done, total, what: None,
) -> RetentionRun | None:
    """Run retention once; None: another process is doing it."""
    from spanpost.store.archiving import running

    async with _opened(dsn) as holding, running.turn(holding) as has_turn:
        if not has_turn:
            return None
        async with _opened(dsn) as connection:
            return await running.run(connection, rules, is_done=is_done, actor=actor, watch=watch, show=show)


def run_archive(settings: Settings, *, is_done: bool, show: Show) -> RetentionRun:
    """Archive what is older than its retention, or only count it."""
    from spanpost.store.system_user import system_user

    async def work(dsn: str) -> RetentionRun:
        rules = settings.retention.model_copy(update={"share": 1.0})
        done = await retain(dsn, rules, is_done=is_done, actor=Actor(provider=CLI, id=system_user()), show=show)
        if done is None:
            raise ConfigError(BUSY)
        return done

    return _at(settings, work)


def last_error(settings: Settings) -> str:
    """Return why the last run of retention failed; empty if it did not."""

    async def work(dsn: str) -> str:
        async with _opened(dsn) as connection:
            return str(await connection.fetchval("SELECT error FROM retention_progress"))

    return _at(settings, work)


def list_archives(settings: Settings, tenant: str | None, source: str | None) -> list[Archive]:
    """Return the archives of a database."""
    from spanpost.store.archiving import listing

    async def work(dsn: str) -> list[Archive]:
        async with _opened(dsn) as connection:
            return await listing.archives(connection, tenant=tenant, source=source)

    return _at(settings, work)


def restore_archives(
    settings: Settings, chosen: Sequence[Archive], keep: timedelta, schema: str | None, show: Show
) -> int:
    """Restore archives into the tables, or into a schema; return the number of rows."""
    from spanpost.store.archiving import restoring, running
    from spanpost.store.intervention_rows import note_operation
    from spanpost.store.system_user import system_user

    directory = directory_of(settings)

    async def work(dsn: str) -> int:
        async with _opened(dsn) as holding, running.turn(holding) as has_turn:
            if not has_turn:
                raise ConfigError(BUSY)
            async with _opened(dsn) as connection:
                rows = 0
                for number, archive in enumerate(chosen):
                    show(number, len(chosen), archive.path)
                    async with connection.transaction():
                        rows += await restoring.restore(connection, directory, archive, keep=keep, schema=schema)
                        described = f"{archive.path} to {schema or 'the tables'}"
                        await note_operation(connection, Operation("restore", system_user(), described))
                return rows

    return _at(settings, work)


def query_archives(settings: Settings, sql: str, tenant: str | None) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Return the columns and rows of a query of the archives."""
    from spanpost.store.archiving import listing, querying
    from spanpost.store.archiving.sources import SOURCES, fields_of

    directory = directory_of(settings)

    async def work(dsn: str) -> tuple[list[Archive], dict[str, list[ArchiveField]]]:
        async with _opened(dsn) as connection:
            known = {source.target: await fields_of(connection, source) for source in SOURCES.values()}
            return await listing.archives(connection, tenant=tenant), known

    found, known = _at(settings, work)
    return querying.query(directory, found, sql, known)


def allow_shorter(settings: Settings, shortest: timedelta, sources: Sequence[str]) -> None:
    """Store the shortest time for which a writer has to keep rows. It needs the tables' owner."""
    from spanpost.store.archiving.running import source_of

    names = sorted({source_of(name).target for name in sources})

    async def work(connection: Any) -> None:
        await connection.execute(
            "UPDATE retention_floors SET shortest = $1 WHERE source = ANY($2::text[]) OR cardinality($2) = 0",
            shortest, names,
        )  # fmt: skip

    as_owner(settings, work, ("allow_archive", f"{shortest}: {', '.join(names) or 'all tables'}"))


def directory_of(settings: Settings) -> Path:
    """Return the directory of the archives. Raises `ConfigError` where none is set."""
    if settings.retention.directory is None:
        raise ConfigError("retention.directory is not set: name the directory of the archives")
    return settings.retention.directory


def _at(settings: Settings, work: Callable[[str], Awaitable[T]]) -> T:
    from spanpost.store.embedded_store import reachable

    async def run(dsn: str) -> T:
        return await work(dsn)

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(run(dsn))
