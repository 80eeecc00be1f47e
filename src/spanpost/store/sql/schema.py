"""The version of the schema: upgrade it, and refuse one that does not fit.

Revisions are ``major.minor``. A minor revision only adds (columns with defaults, tables, indexes), so an
older spanpost keeps working beside a newer one. An older spanpost refuses a newer major revision.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TextIO

from spanpost.model.acts import Operation
from spanpost.model.errors import ConfigError
from spanpost.store import roles
from spanpost.store.intervention_rows import note_operation
from spanpost.store.system_user import system_user

#: The newest revision in `migrations/versions`.
HEAD = "1.0"
#: Key of the advisory lock that a migration or a change of grants holds until its commit. Arbitrary and
#: fixed.
LOCK = 5_791_443_902
_NEXT_STEP = "run `spanpost db upgrade`"
_USE_ANOTHER = "name another database, or another schema, in DATABASE_URL"
_REVISION = re.compile(r"[0-9]+\.[0-9]+")
#: SQLSTATEs of a table, a function or a type whose name is taken.
_TAKEN = ("42P07", "42723", "42710")


async def upgrade(dsn: str, *, reader: str = "", is_asked: bool = False) -> tuple[str | None, str]:
    """Upgrade the schema to `HEAD`; return the revision before and after. Safe to repeat, and concurrently.

    Roles in `granted_roles` get their rights on new tables, and `reader` gets those of a reader. A newer
    schema stays as it is. Raises `ConfigError` when the database cannot be reached or refuses.
    """
    import asyncpg
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from spanpost.store.connections import UNREACHABLE, Connector, because_of_a_pooler, unreachable

    connector = Connector(dsn)

    async def connect() -> Any:
        try:
            return await connector.connect(
                statement_cache_size=0, server_settings={"application_name": "spanpost-migrate"}
            )
        except UNREACHABLE as error:
            raise ConfigError(unreachable(dsn, error)) from None

    # The DSN goes to asyncpg as it is, because SQLAlchemy's URL would not understand all of it.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        connect_args={"prepared_statement_cache_size": 0},
    )
    try:
        async with engine.begin() as connection:
            before, after = await connection.run_sync(_upgrade)
            if after == HEAD:
                driver = (await connection.get_raw_connection()).driver_connection
                if is_asked or before not in (None, after):
                    described = f"{before or 'nothing'} -> {after}"
                    await note_operation(driver, Operation("upgrade_schema", system_user(), described))
                await roles.renew(driver)
                if reader:
                    await roles.grant(driver, {"reader": reader})
            return before, after
    except (asyncpg.PostgresError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        todo = (
            "The role in DATABASE_URL needs the right to create tables in its schema; "
            f"{_NEXT_STEP} with one that has it"
        )
        if getattr(cause, "sqlstate", None) in _TAKEN:
            todo = f"spanpost did not make what has that name; {_USE_ANOTHER}"
        raise ConfigError(because_of_a_pooler(cause) or f"the schema could not be upgraded: {cause}. {todo}") from error
    except UNREACHABLE as error:  # the connection was lost
        raise ConfigError(unreachable(dsn, error)) from None
    finally:
        await engine.dispose()


def _upgrade(connection: Any) -> tuple[str | None, str]:
    from alembic import command

    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    before: str | None = None
    if connection.exec_driver_sql("SELECT to_regclass('spanpost_version') IS NOT NULL").scalar():
        before = connection.exec_driver_sql("SELECT max(version_num) FROM spanpost_version").scalar()
    if before is not None and not _REVISION.fullmatch(before):
        raise ConfigError(_unknown(before))
    if before is not None and number(before) >= number(HEAD):
        return before, before
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, HEAD


def migrations(output: TextIO | None = None) -> Any:
    """Return Alembic's configuration of the migrations. What they write down goes to `output`."""
    from alembic.config import Config

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def number(revision: str) -> tuple[int, int]:
    """Return a revision as two comparable numbers."""
    major, _, minor = revision.partition(".")
    return int(major), int(minor)


def _unknown(found: str) -> str:
    return f"the database's spanpost_version says {found!r}, which is no revision of spanpost's schema: {_USE_ANOTHER}"


async def check(connection: Any) -> str | None:
    """Return why the database's schema does not fit this version of spanpost, or None when it does."""
    if not await connection.fetchval("SELECT to_regclass('spanpost_version') IS NOT NULL"):
        return f"the database has no spanpost schema yet: {_NEXT_STEP}"
    found = await connection.fetchval("SELECT max(version_num) FROM spanpost_version")
    if found is not None and not _REVISION.fullmatch(found):
        return _unknown(found)
    if found is None or number(found) < number(HEAD):
        return f"the database's schema is {found}, this spanpost needs {HEAD}: {_NEXT_STEP}"
    if number(found)[0] > number(HEAD)[0]:
        return (
            f"the database's schema is {found}, made by a newer spanpost than this one (which knows {HEAD}): "
            "upgrade spanpost"
        )
    return None
