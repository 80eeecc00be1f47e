"""What an error of the database means for the caller: try again, mend the data, or wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg

from spanpost.model.errors import StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a transaction is tried again before the caller is told to come back later.
STALL_RULES = 2.0
#: The server ends a transaction of ours with which nobody does anything: a process that is frozen in the midst of one (a container
#: that is paused, a function between two calls) must not keep its locks. Shorter than the half a minute for which others wait
#: for them; longer than a large batch is folded on a slow machine.
IDLE = timedelta(seconds=20)
#: How long one statement may take, in seconds.
WAIT = 30.0
#: SQLSTATE classes and codes after which the same transaction may succeed: connection, serialization, deadlock, resources,
#: shutdown, a standby that is not yet primary, a transaction that the server ended because nobody did anything with it.
_PASSING = ("08", "40001", "40P01", "53", "55P03", "57P", "25006", "25P03", "25P04")
#: Data exceptions, constraint violations, program limits: some value will never be taken.
_DATA = ("22", "23", "54")


class Unfoldable(Exception):
    """The reader or the fold raised: they should never, so the observation is kept aside and the fault is logged."""


@contextmanager
def unfoldable() -> Iterator[None]:
    """Blame what is raised within on the observations that are read or folded."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Unfoldable(f"{type(error).__name__}: {error}") from error


def is_passing(error: BaseException) -> bool:
    """Tell whether the same transaction may succeed a moment later."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_PASSING)
    return isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError))


def is_of_data(error: BaseException) -> bool:
    """Tell whether it is the data's fault: a value that PostgreSQL refuses, or one that cannot even be encoded or folded."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_DATA)
    # What cannot be encoded: lone surrogates, numbers out of range, depth. Other exceptions are faults of ours.
    return isinstance(error, (ValueError, OverflowError, RecursionError, Unfoldable))


async def bound(connection: Any, scope: str = "SESSION") -> None:
    """Bound the idleness of a connection's transactions, or of one, and have their commits be on disk: `scope` is SESSION or LOCAL.

    Where `synchronous_commit` is off, a crash of the server takes commits back that senders were told of; waiting for standbys
    is as the server has it.
    """
    is_local = "true" if scope == "LOCAL" else "false"
    # Not as parameters of the start: a pooler refuses those that it does not know.
    await connection.execute(
        f"SET {scope} idle_in_transaction_session_timeout = {IDLE // timedelta(milliseconds=1)};"
        f"SELECT set_config('synchronous_commit', 'on', {is_local}) WHERE current_setting('synchronous_commit') = 'off'"
    )


#: A session that waits for data of a COPY is not idle, as the server sees it, and nothing but this ends it.
_END_FROZEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'spanpost' AND pid <> pg_backend_pid()
  AND state = 'active' AND wait_event = 'ClientRead' AND query LIKE 'COPY %' AND state_change < clock_timestamp() - $1::interval"""


async def end_frozen(pool: Any) -> None:
    """End those of our sessions whose process stopped in the midst of a COPY; for who waited for a lock in vain."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
        async with pool.acquire(timeout=1.0) as connection:
            if ended := await connection.fetch(_END_FROZEN, IDLE):
                log.warning("%d sessions that stood still in a COPY were ended: their processes are frozen", len(ended))


async def keep(connection: Any) -> None:
    """Leave a connection as it is when it goes back to its pool: but for the bound, all that we set ends with its transaction."""


async def transact(pool: Any, work: Callable[[Any], Awaitable[T]], *, stall_rules: float = STALL_RULES) -> T:
    """Run `work(connection)` until it succeeds or `patience` seconds are over; then raise `LedgerUnavailable`.

    `work` opens its own transaction and may run several times. A commit whose answer was lost is repeated; what it did is
    then met by its keys.
    """
    deadline = time.monotonic() + stall_rules
    delay = 0.01
    while True:
        try:
            async with pool.acquire(timeout=max(0.1, deadline - time.monotonic())) as connection:
                return await work(connection)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise StoreUnavailable(
                "the database forgets prepared statements, as behind a PgBouncer in transaction mode:"
                " set SPANPOST_DATABASE__STATEMENT_CACHE=0"
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
            if is_of_data(error):
                raise
            if not is_passing(error) or time.monotonic() + delay > deadline:
                raise StoreUnavailable(f"the database does not take it: {type(error).__name__}: {error}") from error
        await asyncio.sleep(delay * random.uniform(0.5, 1.5))
        delay = min(delay * 2, 0.5)
