"""``spanpost db query``: one statement that reads, with a role that can only read.

A read-only transaction alone does not keep SQL from running programs and reading files of the server: a
role with that right may use `COPY ... TO PROGRAM` and `pg_read_file` there. So the role of the connection
must lack the right, which no statement can change: the embedded database has such a role,
`database.read_url` names one for any other database.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.settings import DatabaseSettings

#: Time limit of one statement, seconds.
LONGEST: Final = 60
#: Statements that return rows and change nothing by themselves.
_READING: Final = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "SHOW")
#: Text before a statement's first word: blanks, comments, parentheses.
_BEFORE: Final = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|\()*")
_COMMENT: Final = re.compile(r"/\*|\*/")
_WORD: Final = re.compile(r"[A-Za-z]+")
#: Whether the role of the session, or one that it can become, may run programs or open files on the server.
_POWER: Final = """
SELECT session_user::text, EXISTS (
  SELECT FROM pg_roles r WHERE r.rolsuper AND pg_has_role(session_user, r.oid, 'MEMBER')
    OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
      AND pg_has_role(session_user, r.oid, 'MEMBER'))"""


class BadQuery(ConfigError):
    """The statement does not read, or PostgreSQL refused it."""


def query(database: DatabaseSettings, url: str | None, sql: str) -> tuple[list[str], list[list[Any]]]:
    """Return the column names and the rows, from the database at `url` or from the embedded one.

    Raises `BadQuery` with PostgreSQL's message, `ConfigError` if the role may do more than read.
    """
    from spanpost.store.embedded_roles import READER
    from spanpost.store.embedded_store import reachable

    refuse_other(sql)
    with reachable(url, database.data_dir, database.pg_bin, role=READER) as dsn:
        return asyncio.run(_query(dsn, sql))


def refuse_other(sql: str) -> None:
    """Raise `BadQuery` for a statement that does not begin like one that reads."""
    word = _WORD.match(sql, _beginning(sql))
    if word is None or word[0].upper() not in _READING:
        raise BadQuery(f"this is no statement that reads; begin it with {', '.join(_READING[:-1])} or {_READING[-1]}")


def _beginning(sql: str) -> int:
    """Return the position of a statement's first word. Comments in /* */ nest."""
    at, depth = 0, 0
    while True:
        if not depth:
            found = _BEFORE.match(sql, at)
            at = found.end() if found is not None else at
            if not sql.startswith("/*", at):
                return at
        found = _COMMENT.search(sql, at)
        if found is None:
            return len(sql)
        depth += 1 if found[0] == "/*" else -1
        at = found.end()


async def _query(dsn: str, sql: str) -> tuple[list[str], list[list[Any]]]:
    from spanpost.store.connections import DRIVER_ERRORS, UNREACHABLE, Connector, unreachable

    try:
        connection = await Connector(dsn, writes=False).connect(
            statement_cache_size=0, server_settings={"application_name": "spanpost-query"}
        )
    except UNREACHABLE as error:
        raise ConfigError(unreachable(dsn, error)) from None
    try:
        # Never committed: the connection is closed instead.
        await connection.execute(
            f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{LONGEST}s'; SET LOCAL lock_timeout = '5s'"
        )
        role, is_powerful = await connection.fetchrow(_POWER)
        if is_powerful:
            raise ConfigError(
                f"db query: the role {role!r} may run programs and read files on the database's server, so "
                "that a query could, too; "
                "make a role that only reads (`CREATE ROLE name LOGIN`, `spanpost db grant --reader name`) and "
                "give its address in "
                "SPANPOST_DATABASE__READ_URL"
            )
        statement = await connection.prepare(sql)
        rows = await statement.fetch(timeout=LONGEST + 5)
        return [column.name for column in statement.get_attributes()], [list(row) for row in rows]
    except (OSError, *DRIVER_ERRORS) as error:
        raise BadQuery(f"the database did not answer the query: {error or type(error).__name__}") from None
    except (ValueError, OverflowError, ArithmeticError) as error:
        raise BadQuery(f"a value cannot be shown ({type(error).__name__}); cast it to text") from None
    finally:
        connection.terminate()
