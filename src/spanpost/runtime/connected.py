"""A connection to the database for the work of one command, with its errors in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spanpost.model.errors import ConfigError


@asynccontextmanager
async def connected(dsn: str, cure: str, *, name: str = "spanpost") -> AsyncIterator[Any]:
    """Open a connection, and check the schema. `cure`: what to do where the role's rights are not enough.

    Raises `ConfigError`: the database cannot be reached, has another schema, or refuses what the work asks. Errors of
    the work that are none of the database's pass.
    """
    import asyncpg

    from spanpost.store.connections import DRIVER_ERRORS, UNREACHABLE, Connector, unreachable
    from spanpost.store.sql import schema

    try:
        connection = await Connector(dsn).connect(statement_cache_size=0, server_settings={"application_name": name})
    except UNREACHABLE as error:
        raise ConfigError(unreachable(dsn, error)) from None
    try:
        async with connection.transaction():
            misfit = await schema.check(connection)
        if misfit is not None:
            raise ConfigError(misfit)
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(f"the database refuses: {error}. {cure}") from error
    except (ConnectionError, *DRIVER_ERRORS) as error:
        if connection.is_closed():
            raise ConfigError(unreachable(dsn, error)) from None
        raise ConfigError(f"the database refuses: {error}") from error
    except OverflowError as error:  # of the driver: a time before the calendar, which only SQL can write
        raise ConfigError(f"the database holds a value that cannot be read: {error}") from error
    finally:
        await connection.close()
