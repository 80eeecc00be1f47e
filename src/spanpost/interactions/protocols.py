"""What the desk needs of others: the hall that records what people do, and those who know people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from spanpost.model.interventions import Actor, Intervention, Verdict
from spanpost.model.queries import ApprovalFilter, ApprovalKey, Page, TaskFilter, TaskKey
from spanpost.model.queries import TaskQuestion as Asking
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task

#: Entry points of resolvers: those who ask an identity provider.
RESOLVERS = "spanpost.resolvers"


class PersonMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of ours at a provider: where a button was pressed, or the thread in which somebody answered."""

    team: str = ""
    channel: str
    ts: str
    #: The provider says that we wrote it. It may have been shown a moment ago, and its receipt not be here yet.
    is_ours: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an opaque key, or a message of ours, is about, as the store knows it now."""

    #: Of the approval or of the task: what an intervention carries.
    key: UUID
    task: Task
    #: Where the key is an approval's.
    approval: Approval | None = None
    #: The message that was named is one in which this task is told: as the receipts say, or where there is none of it yet, since
    #: it is ours and the key stands in it.
    is_told_there: bool = False
    #: Of work that is to be started: by which launcher.
    launcher: str = ""
    #: The tasks for which this one works, the nearest first.
    above: tuple[Task, ...] = ()

    @property
    def topic(self) -> str | None:
        """The task's topic; of one that says none, that of the nearest for which it works."""
        return next((task.topic for task in (self.task, *self.above) if task.topic), None)

    @property
    def environment(self) -> str | None:
        """As `topic`."""
        return next((task.environment for task in (self.task, *self.above) if task.environment), None)

    @property
    def agents(self) -> frozenset[str]:
        """Who works on the task, and those for whom they do."""
        return frozenset(task.agent_name for task in (self.task, *self.above) if task.agent_name)

    @property
    def requesters(self) -> tuple[str, ...]:
        """Those for whom the task runs, the nearest first: as it says, and as those say for which it works."""
        return tuple(dict.fromkeys(task.requested_by for task in (self.task, *self.above) if task.requested_by))

    @property
    def options(self) -> tuple[str, ...]:
        """The answers to choose from; empty: approve or deny."""
        return self.approval.options if self.approval is not None else ()


class InteractionStore(Protocol):
    """**Protocol:** what the store does for the desk. All of it raises `LedgerUnavailable` when it cannot be reached."""

    async def intervene(self, intervention: Intervention) -> Verdict:
        """Record an act, and what it changes, in one transaction. A repeat (`once`) changes nothing and is told the same."""
        ...

    async def asked(self, key: UUID, message: PersonMessage) -> Asked | None:
        """Return what a key is about, and whether it is told in that message; None for a key that is nobody's."""
        ...

    async def told_in(self, message: PersonMessage) -> Asked | None:
        """Return the task whose root message this is; None where it is none of ours."""
        ...

    async def is_first(self, key: str) -> bool:
        """Remember a request for an hour, for all processes; False when it was heard before."""
        ...

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
        ...

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id (the topmost of the trace)."""
        ...

    async def questions(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[Asking]:
        """Return a page of questions, newest first."""
        ...

    async def places(self, uids: Iterable[UUID]) -> dict[UUID, PersonMessage]:
        """Return the messages in which these tasks are told, of those of which it is known."""
        ...


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a resolver says of a person."""

    is_allowed: bool
    #: Shown to the person, and kept in the row, where it is not.
    reason: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a resolver is asked: may this person do that?"""

    #: A verb of interventions, or ``view``.
    action: str
    actor: Actor
    task: Task
    approval: Approval | None = None


#: Asks an identity provider. What raises, or takes longer than a second and a half, is a refusal.
Resolver: TypeAlias = Callable[[Question], Awaitable[Answer]]


#: Told to whoever would install the app while there is nothing to seal its token with.
NO_KEY = "This spanpost cannot keep tokens yet: whoever runs it must set slack_oauth.key. Nothing was installed."


class NotTaken(Exception):
    """An installation that is refused. The text may be shown to whoever tried."""


class InteractionMetrics(Protocol):
    """**Protocol:** counts; `spanpost.metrics.Metrics` is it."""

    def intervened(self, verb: str, result: str, source: str) -> None: ...

    def knocked(self, endpoint: str, answer: str) -> None: ...
