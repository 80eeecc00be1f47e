"""Maintenance of a whole database: its schema, its roles, its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from spanpost.model.errors import ConfigError
from spanpost.runtime.connected import connected
from spanpost.settings import Settings

T = TypeVar("T")


def upgrade_database(settings: Settings) -> str:
    """Upgrade the schema to this version; return its revision."""
    from spanpost.store.embedded_roles import READER
    from spanpost.store.embedded_store import reachable
    from spanpost.store.sql import schema

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(schema.upgrade(dsn, reader="" if settings.dsn is not None else READER, is_asked=True))[1]


def reset_database(settings: Settings, name: str) -> str:
    """Drop spanpost's tables with all rows, make them anew, and return the revision.

    A database other than the embedded one must be named. Raises `ConfigError`.
    """
    from urllib.parse import unquote, urlsplit

    import asyncpg

    from spanpost.store.sql import schema_text

    if settings.dsn is not None and name != (there := unquote(urlsplit(settings.dsn).path.strip("/"))):
        raise ConfigError(
            f"db reset: this is not the embedded database; to drop all rows in {there!r}, repeat its name: "
            f"--database {there}"
        )

    async def work(connection: Any) -> None:
        try:
            await schema_text.drop(connection)
        except asyncpg.LockNotAvailableError:
            raise ConfigError(
                "db reset: another process uses the tables; stop gateways and agents, and try again"
            ) from None

    as_owner(settings, work)
    revision = upgrade_database(settings)
    note_operation(settings, "reset_database", "all")
    return revision


def note_operation(settings: Settings, verb: str, detail: str) -> None:
    """Record an operation that is done."""
    from spanpost.model.acts import Operation
    from spanpost.store import intervention_rows
    from spanpost.store.system_user import system_user

    async def work(connection: Any) -> None:
        await intervention_rows.note_operation(connection, Operation(verb, system_user(), detail))

    as_owner(settings, work)


def grant_roles(settings: Settings, *, writer: str, reader: str, tenants: Sequence[str] = ()) -> list[str]:
    """Grant roles of the database the rights that writing and reading need; return the SQL.

    A reader sees the rows of `tenants`, or of all where none is given.
    """
    from spanpost.store import roles
    from spanpost.store.sql import schema

    if settings.dsn is None:
        raise ConfigError(
            "db grant: the embedded database has its own roles; for another, set DATABASE_URL or give --database-url"
        )
    names = roles.named(writer, reader, tenants)

    async def work(connection: Any) -> list[str]:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
            return await roles.grant(connection, names, tenants)

    noted = [f"{right}: {name}" for right, name in names.items()]
    noted += [f"tenant: {tenant}" for tenant in tenants]
    return as_owner(settings, work, ("grant_roles", ", ".join(noted)))


def end_sessions(settings: Settings) -> None:
    """End the sessions of all people who logged in."""
    from spanpost.store.sessions import end_all

    async def work(connection: Any) -> None:
        async with connection.transaction():
            await end_all(connection)

    as_owner(settings, work, ("end_sessions", "all"))


def as_owner(settings: Settings, work: Callable[[Any], Awaitable[T]], noted: tuple[str, str] | None = None) -> T:
    """Run maintenance of the tables on a connection of its own. Raises `ConfigError` if the database
    refuses.

    `noted` is recorded with the system's user: the operation, and its detail.
    """
    from spanpost.store.connections import Transacting
    from spanpost.store.embedded_store import reachable
    from spanpost.store.intervention_rows import note_operation
    from spanpost.store.operations import operation

    async def run(dsn: str) -> T:
        async with connected(dsn, "Run it with the role that made the tables") as opened:
            connection = Transacting(opened)
            if noted is None:
                return await work(connection)
            async with operation(partial(note_operation, connection), *noted):
                return await work(connection)

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(run(dsn))
