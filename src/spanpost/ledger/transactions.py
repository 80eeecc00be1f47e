"""What an error of the database means for the caller: try again, mend the data, or wait."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import asyncpg

from spanpost.domain.errors import LedgerUnavailable
from spanpost.fold.work import Missing

T = TypeVar("T")

#: How long a transaction is tried again before the caller is told to come back later.
PATIENCE = 2.0
#: SQLSTATE classes and codes after which the same transaction may succeed: connection, serialization, deadlock, resources,
#: shutdown, a standby that is not yet primary.
_PASSING = ("08", "40001", "40P01", "53", "55P03", "57P", "25006")
#: Data exceptions, constraint violations, program limits: some value will never be taken.
_DATA = ("22", "23", "54")


class Unfoldable(Exception):
    """The reader or the fold raised: they should never, so the observation is kept aside and the fault is logged."""


@contextmanager
def unfoldable() -> Iterator[None]:
    """Blame what is raised within on the observations that are read or folded."""
    try:
        yield
    except (Missing, MemoryError):
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


async def transact(pool: Any, work: Callable[[Any], Awaitable[T]], *, patience: float = PATIENCE) -> T:
    """Run `work(connection)` until it succeeds or `patience` seconds are over; then raise `LedgerUnavailable`.

    `work` opens its own transaction and may run several times. A commit whose answer was lost is repeated; what it did is
    then met by its keys.
    """
    deadline = time.monotonic() + patience
    delay = 0.01
    while True:
        try:
            async with pool.acquire(timeout=max(0.1, deadline - time.monotonic())) as connection:
                return await work(connection)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise LedgerUnavailable(
                "the database forgets prepared statements, as behind a PgBouncer in transaction mode: set ledger pgbouncer = true"
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
            if is_of_data(error):
                raise
            if not is_passing(error) or time.monotonic() + delay > deadline:
                raise LedgerUnavailable(f"the database does not take it: {type(error).__name__}: {error}") from error
        await asyncio.sleep(delay * random.uniform(0.5, 1.5))
        delay = min(delay * 2, 0.5)
