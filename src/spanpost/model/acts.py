"""Acts as they are read: one row per act of a person or a program, and per person and hour that read content."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.interventions import Actor

#: Stands for no task.
NO_TASK: Final = UUID(int=0)
#: Credential of a person at a shell: the operating system's user.
SYSTEM_USER: Final = "system user"
#: Programs that may name themselves as the client of a request to the API.
CLIENTS: Final = ("board", "mcp", "cli")
CLIENT_HEADER: Final = "spanpost-client"
#: Provider and credential of people in Slack.
SLACK: Final = "slack"
#: Provider of people at a shell.
CLI: Final = "cli"
#: Source of the rows of a gateway: started, stopped, settings read again.
GATEWAY: Final = "gateway"


class ActRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `human_interventions`: who did what, by which credential, what was shown, and the outcome."""

    #: Ascending within the database.
    number: int
    id: UUID
    #: When it happened, by the clock of its source; and when it was recorded, by the store's.
    at: datetime
    recorded_at: datetime
    #: Empty for an operation on the database or a gateway.
    tenant: str = ""
    #: The task as known now; None: of no task.
    task_uid: UUID | None = None
    task_id: str = ""
    task_name: str = ""
    verb: str
    #: The answer of a decision; the rating.
    decision: str = ""
    comment: str = ""
    actor: str = ""
    actor_id: str = ""
    actor_email: str = ""
    #: What proved the identity, as the column says.
    credential: str = ""
    #: Program that called the API, as it says itself.
    client: str = ""
    source: str = ""
    #: User and host of the process that wrote the row, and its role in the database.
    os_user: str = ""
    database_role: str = ""
    scope: str = ""
    rule: UUID | None = None
    launcher: str = ""
    parameters: dict[str, str] = {}
    order_id: UUID | None = None
    result: str = ""
    refusal: str = ""
    #: The question as it stood then.
    approval_id: str = ""
    mark: str = ""
    question: str = ""
    detail: str = ""
    options: tuple[str, ...] = ()
    risk: str = ""


class Operation(msgspec.Struct, frozen=True):
    """An operation on a database or a gateway, to be recorded as an act of no task."""

    verb: str
    #: The system's user.
    user: str
    detail: str = ""
    #: Set if it concerns one tenant alone, whose auditors then see it.
    tenant: str = ""
    source: str = CLI
    result: str = "done"
    refusal: str = ""
    #: The person, where it is not the system's user.
    actor: Actor | None = None

    @property
    def by(self) -> Actor:
        """Who did it."""
        return self.actor or Actor(provider=self.source, id=self.user, credential=SYSTEM_USER)


class ActFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which acts to list. An empty field matches all."""

    tenant: str | None = None
    #: This task and its family: the topmost task above it, and all tasks below that one.
    task_uid: UUID | None = None
    #: A person's identity, email address or name, exactly; case counts in the identity alone.
    person: str = ""
    source: str = ""
    verb: str = ""
    since: datetime | None = None
    until: datetime | None = None
    is_oldest_first: bool = False


class ContentKind(StrEnum):
    """What was read."""

    #: Recorded content of spans: prompts, arguments and results of tools.
    RECORDED = "recorded"
    #: A whole question to people.
    QUESTION = "question"
    #: A task's message with its details.
    MESSAGE = "message"
    #: Acts, which hold questions and comments.
    ACTS = "acts"
    #: The answer of an SQL statement.
    QUERY = "query"
    #: The proof of a row, with its content.
    PROOF = "proof"


class ContentRead(msgspec.Struct, frozen=True, kw_only=True):
    """A person read content. Of one hour, reads that differ in nothing but `at` and `detail` are one row."""

    tenant: str
    task_uid: UUID = NO_TASK
    content: ContentKind
    actor: str
    actor_id: str
    credential: str = ""
    client: str = ""
    detail: str = ""
    at: datetime

    @property
    def hour(self) -> datetime:
        """The hour of its row."""
        return self.at.replace(minute=0, second=0, microsecond=0)

    @property
    def key(self) -> tuple[Any, ...]:
        """The key of its row."""
        return self.tenant, self.task_uid, self.hour, self.content, self.actor_id, self.credential, self.client


def summed(reads: Sequence[ContentRead]) -> list[tuple[ContentRead, int, datetime]]:
    """Return the newest read of each row, with the number of reads and the time of the first."""
    rows: dict[tuple[Any, ...], list[ContentRead]] = {}
    for one in reads:
        rows.setdefault(one.key, []).append(one)
    return [(max(of, key=lambda one: one.at), len(of), min(one.at for one in of)) for of in rows.values()]


class ReadRow(msgspec.Struct, frozen=True, kw_only=True):
    """How often a person read one kind of content of a task in an hour."""

    tenant: str
    task_uid: UUID | None = None
    task_id: str = ""
    task_name: str = ""
    hour: datetime
    content: str
    actor: str
    actor_id: str
    credential: str = ""
    client: str = ""
    detail: str = ""
    reads: int
    first_at: datetime
    last_at: datetime
    os_user: str = ""
    database_role: str = ""
