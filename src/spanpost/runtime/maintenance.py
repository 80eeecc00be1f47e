"""Maintenance of a whole database: its schema, its roles, its old rows, its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from spanpost.model.errors import ConfigError
from spanpost.settings import Settings

if TYPE_CHECKING:
    from spanpost.store.retention import Pruned

T = TypeVar("T")


def upgrade_database(settings: Settings) -> str:
    """Upgrade the schema to this version; return its revision."""
    from spanpost.store.embedded_roles import READER
    from spanpost.store.embedded_store import reachable
    from spanpost.store.sql import schema

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(schema.upgrade(dsn, reader="" if settings.dsn is not None else READER))[1]


def grant_roles(settings: Settings, *, writer: str, reader: str) -> list[str]:
    """Grant roles of the database the rights that writing and reading need; return the SQL."""
    from spanpost.store import roles
    from spanpost.store.sql import schema

    if settings.dsn is None:
        raise ConfigError(
            "db grant: the embedded database has its own roles; for another, set DATABASE_URL or give --database-url"
        )
    names = roles.named(writer, reader)

    async def work(connection: Any) -> list[str]:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
            return await roles.grant(connection, names)

    return _as_owner(settings, work, ("grant", ", ".join(f"{right}: {name}" for right, name in names.items())))


def end_sessions(settings: Settings) -> None:
    """End the sessions of all people who logged in."""
    from spanpost.store.sessions import end_all

    async def work(connection: Any) -> None:
        async with connection.transaction():
            await end_all(connection)

    _as_owner(settings, work, ("end sessions", "all"))


def prune_database(settings: Settings, older_than: timedelta, *, is_done: bool) -> Pruned:
    """Delete old rows, or only count them."""
    from spanpost.store.retention import prune

    noted = ("prune", f"older than {older_than}") if is_done else None
    return _as_owner(settings, lambda connection: prune(connection, older_than, is_done=is_done), noted)


def _as_owner(settings: Settings, work: Callable[[Any], Awaitable[T]], noted: tuple[str, str] | None = None) -> T:
    """Run maintenance of the tables on a connection of its own. Raises `ConfigError` if the database
    refuses.

    `noted` is recorded with the system's user: the operation, and its detail.
    """
    import asyncpg

    from spanpost.runtime.system_user import system_user
    from spanpost.store.connections import UNREACHABLE, Connector, Transacting, unreachable
    from spanpost.store.embedded_store import reachable
    from spanpost.store.intervention_rows import note_operation
    from spanpost.store.sql import schema

    async def run(dsn: str) -> T:
        try:
            connection = Transacting(await Connector(dsn).connect(statement_cache_size=0))
            try:
                misfit = await schema.check(connection)
                if misfit is None:
                    if noted is not None:
                        await note_operation(connection, noted[0], system_user(), noted[1])
                    return await work(connection)
            finally:
                await connection.close()
        except asyncpg.PostgresError as error:
            raise ConfigError(f"the database refuses: {error}. Run it with the role that made the tables") from error
        except UNREACHABLE as error:
            raise ConfigError(unreachable(dsn, error)) from None
        raise ConfigError(misfit)

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(run(dsn))
