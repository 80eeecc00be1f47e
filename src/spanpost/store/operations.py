"""Operations on a database or a gateway, recorded as acts: when one starts, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from msgspec.structs import replace

from spanpost.model.acts import CLI, Operation
from spanpost.model.errors import StoreUnavailable
from spanpost.store.system_user import system_user

#: Most characters that are kept of what an operation was about.
_MOST: Final = 4_000


class NotesOperation(Protocol):
    """**Protocol:** records an operation: `Acts.note_operation`, or that of `intervention_rows` on a connection."""

    async def __call__(self, operation: Operation, /) -> object: ...


class OperationOutcome:
    """What came of an operation, in a few words: set by the work, kept with the row of its end."""

    said = ""


@asynccontextmanager
async def operation(
    note: NotesOperation, verb: str, detail: str, *, tenant: str = "", source: str = CLI
) -> AsyncIterator[OperationOutcome]:
    """Record that an operation starts, then that it is done or has failed, with the system's user.

    It is recorded before the work: one that is killed half-way has its author, too. `note` must not be inside the
    work's transaction: a failure would take the row of its start with it.
    """
    detail, outcome = detail[:_MOST], OperationOutcome()
    done = Operation(verb, system_user(), detail, tenant, source)
    await note(replace(done, result="started"))
    try:
        yield outcome
    except BaseException as error:
        with suppress(StoreUnavailable, OSError, *_driver_errors()):
            await note(replace(done, result="failed", refusal=str(error)[:_MOST]))
        raise
    ended = f"{detail}: {outcome.said}" if outcome.said else detail
    await note(replace(done, detail=ended[:_MOST]))


def _driver_errors() -> tuple[type[Exception], ...]:
    from spanpost.store.connections import DRIVER_ERRORS

    return DRIVER_ERRORS
