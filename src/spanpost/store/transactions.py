"""Run transactions, and classify the database's errors: try again, repair the data, or wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import asyncpg

from spanpost.model.errors import StoreUnavailable
from spanpost.store.connections import DRIVER_ERRORS

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds for which a transaction is retried before it raises `StoreUnavailable`.
RETRY_FOR = 2.0
#: The server ends our transactions that are idle for this long: a frozen process (a paused container, a
#: suspended function) must not keep its locks. Shorter than `WAIT`, for which others wait for these locks;
#: longer than folding a large batch takes on a slow machine.
IDLE = timedelta(seconds=20)
#: Seconds that one statement may take.
WAIT = 30.0
#: SQLSTATE classes and codes after which the same transaction may succeed: connection, serialization,
#: deadlock, resources, shutdown, a standby that is not yet primary, a transaction that the server ended
#: because it was idle.
_PASSING = ("08", "40001", "40P01", "53", "55P03", "57P", "25006", "25P03", "25P04")
#: Data exceptions, constraint violations, program limits: the database will never accept some value.
_DATA = ("22", "23", "54")


#: `read_only_sql_transaction`: the server became a standby, or an operator or a full disk stopped its writes.
_READ_ONLY = "25006"


class Transact(Protocol):
    """**Protocol:** runs a function in a transaction of its own. Raises `StoreUnavailable`."""

    async def __call__(self, work: Callable[[Any], Awaitable[T]]) -> T: ...


class Unfoldable(Exception):
    """The reader or the fold raised.

    This is a bug: the observation goes to quarantine and the fault is logged.
    """


@contextmanager
def unfoldable() -> Iterator[None]:
    """Turn exceptions into `Unfoldable`: they are blamed on the observations being read or folded."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Unfoldable(f"{type(error).__name__}: {error}") from error


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def is_passing(error: BaseException) -> bool:
    """Return whether the same transaction may succeed a moment later."""
    if isinstance(error, asyncpg.PostgresError):
        return _sqlstate(error).startswith(_PASSING)
    return isinstance(error, (OSError, *DRIVER_ERRORS))


def is_of_data(error: BaseException) -> bool:
    """Return whether the data caused the error:

    PostgreSQL refuses a value, or it cannot be encoded or folded.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _sqlstate(error).startswith(_DATA)
    # Values that cannot be encoded: lone surrogates, numbers out of range, deep nesting. Other exceptions
    # are bugs.
    return isinstance(error, (ValueError, OverflowError, RecursionError, Unfoldable))


async def bound(connection: Any, scope: str = "SESSION") -> None:
    """Limit idle transactions of a connection and turn `synchronous_commit` on.

    `scope` is SESSION, or LOCAL for one transaction. With `synchronous_commit` off, a crash of the server
    would lose commits that were acknowledged to senders. Other values of it (waiting for standbys) stay.
    """
    is_local = "true" if scope == "LOCAL" else "false"
    # Not as startup parameters: a pooler refuses those that it does not know.
    await connection.execute(
        f"SET {scope} idle_in_transaction_session_timeout = {IDLE // timedelta(milliseconds=1)};"
        f"SELECT set_config('synchronous_commit', 'on', {is_local}) WHERE current_setting('synchronous_commit') = 'off'"
    )


#: Write to the log, so that the commit waits for the standbys. All commits before it have then arrived there, too.
_CONFIRM = """
SELECT pg_logical_emit_message(true, 'spanpost', '') WHERE current_setting('synchronous_standby_names') <> ''"""


async def confirm(connection: Any) -> None:
    """Let the commit of a transaction that only read wait for synchronous standbys.

    When the wait of a commit is cancelled (a timeout, a restart), its rows are visible, but only on this
    server. They may be reported as recorded only when the standbys have them.
    """
    await connection.execute(_CONFIRM)


#: A session that waits for the data of a COPY is active to the server, so the idle limit does not end it.
_END_FROZEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'spanpost'
  AND pid <> pg_backend_pid() AND state = 'active' AND wait_event = 'ClientRead' AND query LIKE 'COPY %'
  AND state_change < clock_timestamp() - $1::interval"""


async def end_frozen(pool: Any) -> None:
    """End our sessions whose process froze during a COPY. Call it after waiting for a lock in vain."""
    with suppress(OSError, *DRIVER_ERRORS):
        async with pool.acquire(timeout=1.0) as connection:
            if ended := await connection.fetch(_END_FROZEN, IDLE):
                log.warning("%d sessions that stood still in a COPY were ended: their processes are frozen", len(ended))


async def keep(connection: Any) -> None:
    """Reset nothing when a connection returns to its pool: all settings but `bound` end with the transaction."""


async def transact(
    present: Callable[[], Any], work: Callable[[Any], Awaitable[T]], *, retry_for: float = RETRY_FOR
) -> T:
    """Run `work(connection)` until it succeeds or `retry_for` seconds have passed.

    Then raise `StoreUnavailable`. `present` returns the pool, which is another one after a new login. `work` opens
    its own transaction and may run several times. When a commit's answer is lost, `work` runs again and recognises by
    its keys what is recorded already.
    """
    deadline = time.monotonic() + retry_for
    delay = 0.01
    cause: BaseException | None = None
    while True:
        pool = present()
        if pool is None:
            raise StoreUnavailable("the store is not open")
        is_connected = False
        try:
            async with pool.acquire(timeout=max(0.1, deadline - time.monotonic())) as connection:
                is_connected = True
                return await work(connection)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise StoreUnavailable(
                "the database forgets prepared statements, as behind a pooler that pools transactions and was not"
                " recognised: set SPANPOST_DATABASE__STATEMENT_CACHE=0"
            ) from error
        except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError) as error:
            raise StoreUnavailable(
                f"the database's tables are not those of this version ({error}): run `spanpost db upgrade`; a database"
                " of a development version is not upgraded, `spanpost db reset` makes it new"
            ) from error
        except (OSError, *DRIVER_ERRORS) as error:
            # A certificate that is not valid is a ValueError, too, but no value of the data.
            if is_connected and is_of_data(error):
                raise
            # It takes no writes any more: let new connections look for a server that does.
            if _sqlstate(error) == _READ_ONLY:
                await pool.expire_connections()
            # That the time ran out during another attempt says less than why the first one failed.
            cause = error if cause is None or not isinstance(error, TimeoutError) else cause
            if not is_passing(error) or time.monotonic() + delay > deadline:
                raise StoreUnavailable(f"the database does not take it: {type(cause).__name__}: {cause}") from error
        await asyncio.sleep(delay * random.uniform(0.5, 1.5))
        delay = min(delay * 2, 0.5)
