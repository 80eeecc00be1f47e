"""Values and protocols of interactions: messages, subjects, resolvers, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.interventions import Actor
from spanpost.model.readings import Approval
from spanpost.model.standing_approvals import StandingApproval
from spanpost.model.tasks import Task

#: Entry points of resolvers, which ask an identity provider.
RESOLVERS = "spanpost.resolvers"


class PersonMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of spanpost at a provider: the one with the button, or the root of the thread of a reply."""

    team: str = ""
    channel: str
    ts: str
    #: The provider says that spanpost wrote it. It may be so new that its receipt is not stored yet.
    is_ours: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The subject of an opaque key or of a message, as the store knows it now."""

    #: Key of the approval or of the task, as an intervention carries it.
    key: UUID
    task: Task
    #: Set if the key is an approval's, or an alert's.
    approval: Approval | None = None
    alert: Alert | None = None
    #: The message shows this task: the receipts say so; or, before there is a receipt, the message is ours
    #: and holds the key.
    is_shown_there: bool = False
    #: The launcher, for work that is to be started.
    launcher: str = ""
    #: Set if the key is a standing approval's.
    standing: StandingApproval | None = None
    #: The tasks above this one, nearest first.
    above: tuple[Task, ...] = ()

    @property
    def topic(self) -> str | None:
        """The task's topic, else that of the nearest task above it that has one."""
        return next((task.topic for task in (self.task, *self.above) if task.topic), None)

    @property
    def environment(self) -> str | None:
        """The environment, found in the same way as `topic`."""
        return next((task.environment for task in (self.task, *self.above) if task.environment), None)

    @property
    def agents(self) -> frozenset[str]:
        """The agents of the task and of the tasks above it."""
        return frozenset(task.agent_name for task in (self.task, *self.above) if task.agent_name)

    @property
    def requesters(self) -> tuple[str, ...]:
        """The people for whom the task and the tasks above it run, nearest first."""
        return tuple(dict.fromkeys(task.requested_by for task in (self.task, *self.above) if task.requested_by))

    @property
    def options(self) -> tuple[str, ...]:
        """The options to choose from; empty: approve or deny."""
        return self.approval.options if self.approval is not None else ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A resolver's answer about a person."""

    is_allowed: bool
    #: The reason of a refusal: shown to the person, and kept in the row.
    reason: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The question to a resolver: may this person do this?"""

    #: A verb of interventions, or ``view``.
    action: str
    actor: Actor
    task: Task
    approval: Approval | None = None


#: Asks an identity provider. An exception, or more than 1.5 seconds, counts as a refusal.
Resolver: TypeAlias = Callable[[Question], Awaitable[Answer]]


#: Shown on an attempt to install the app while there is no key to encrypt its token with.
NO_KEY = "This spanpost cannot keep tokens yet: its operator must set slack_oauth.key. Nothing was installed."


class NotTaken(Exception):
    """A refused installation. The text may be shown to the person who tried."""


class InteractionMetrics(Protocol):
    """**Protocol:** counters of interactions, implemented by `spanpost.metrics.Metrics`."""

    def intervened(self, verb: str, result: str, source: str) -> None: ...

    def knocked(self, endpoint: str, answer: str) -> None: ...

    def silenced(self, verb: str, outcome: str) -> None: ...
