"""Operations on a database or a gateway, recorded as acts: when one starts, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Actor
from spanpost.store.system_user import system_user

#: Most characters that are kept of what an operation was about.
_MOST: Final = 4_000


class NotesOperation(Protocol):
    """**Protocol:** records an operation: `Acts.note_operation`, or that of `intervention_rows` on a connection."""

    async def __call__(
        self,
        what: str,
        user: str,
        detail: str,
        *,
        tenant: str = "",
        source: str = "cli",
        result: str = "done",
        refusal: str = "",
        actor: Actor | None = None,
    ) -> object: ...


class OperationOutcome:
    """What came of an operation, in a few words: set by the work, kept with the row of its end."""

    said = ""


@asynccontextmanager
async def operation(
    note: NotesOperation, what: str, detail: str, *, tenant: str = "", source: str = "cli"
) -> AsyncIterator[OperationOutcome]:
    """Record that an operation starts, then that it is done or has failed, with the system's user.

    It is recorded before the work: one that is killed half-way has its author, too. `note` must not be inside the
    work's transaction: a failure would take the row of its start with it.
    """
    user, detail, outcome = system_user(), detail[:_MOST], OperationOutcome()
    note = partial(note, tenant=tenant, source=source)
    await note(what, user, detail, result="started")
    try:
        yield outcome
    except BaseException as error:
        with suppress(StoreUnavailable, OSError, *_database_errors()):
            await note(what, user, detail, result="failed", refusal=str(error)[:_MOST])
        raise
    ended = f"{detail}: {outcome.said}" if outcome.said else detail
    await note(what, user, ended[:_MOST])


def _database_errors() -> tuple[Any, ...]:
    import asyncpg

    return asyncpg.PostgresError, asyncpg.InterfaceError
