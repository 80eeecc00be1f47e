"""What a route asks of a task.

Each field that is given must match: a text, or one of several; ``*`` in it stands for anything. Of what a span carries a task
keeps what its fields hold (`FIELDS`) and, of all other attributes, those alone that some route names: nothing that nobody asked
for is kept for routing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.tasks import Task

#: One pattern or several of which one must match; None: anything.
Wanted: TypeAlias = str | tuple[str, ...] | None

#: Attributes that a task has a field for, by name.
FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agent.name": "agent_name",
        "gen_ai.agent.name": "agent_name",
        "agent.id": "agent_id",
        "gen_ai.agent.id": "agent_id",
        "agent.version": "agent_version",
        "agent.repo": "repo",
        "agent.topic": "topic",
        "agent.requested_by": "requested_by",
        "agent.task.name": "name",
        "agent.task.id": "task_id",
        "agent.task.type": "type",
        "service.name": "service",
        "deployment.environment.name": "environment",
        "deployment.environment": "environment",
        "gen_ai.request.model": "model",
        "gen_ai.response.model": "model",
        "gen_ai.conversation.id": "session_id",
    }
)


class Severity(IntEnum):
    """How grave news is, or the state of a task: a part that failed is a warning, a task that failed an error."""

    INFO = 0
    WARNING = 1
    ERROR = 2


_GRAVE: Final = {
    Kind.ERROR: Severity.WARNING,
    Kind.APPROVAL_REQUESTED: Severity.WARNING,
    Kind.CONTEXT_WARNING: Severity.WARNING,
    Kind.CONTEXT_FORECAST: Severity.WARNING,
    Kind.STALLED: Severity.WARNING,
    Kind.BUDGET_WARNING: Severity.WARNING,
    Kind.ALERT: Severity.WARNING,
}
_STATES: Final = {
    "error": Severity.ERROR,
    "waiting": Severity.WARNING,
    "stalled": Severity.WARNING,
    "context_warning": Severity.WARNING,
}


def severity_of(checkpoint: Checkpoint) -> Severity:
    """Return how grave news is: an end is as its status."""
    if checkpoint.kind in (Kind.END, Kind.APPROVAL_RESOLVED):
        return _STATES.get(checkpoint.status, Severity.INFO) if checkpoint.kind is Kind.END else Severity.WARNING
    return _GRAVE.get(checkpoint.kind, Severity.INFO)


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """What a route asks of a task: each field that is given must match. An empty match takes everything."""

    tenant: Wanted = None
    agent: Wanted = None
    topic: Wanted = None
    environment: Wanted = None
    service: Wanted = None
    repo: Wanted = None
    status: Wanted = None
    #: At least so grave.
    least: Severity = Severity.INFO
    #: It has cost so much, in dollars.
    cost_usd: Decimal | None = None
    #: Other attributes by name.
    attributes: tuple[tuple[str, Wanted], ...] = ()

    @property
    def is_passing(self) -> bool:
        """True when it asks for what changes while a task runs."""
        return self.status is not None or self.least > Severity.INFO or self.cost_usd is not None

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return frozenset(name for name, _ in self.attributes if name not in FIELDS)

    def takes(self, task: Task) -> bool:
        """Say whether the task is the route's."""
        return (
            is_wanted(self.tenant, task.tenant)
            and is_wanted(self.agent, task.agent_name)
            and is_wanted(self.topic, task.topic)
            and is_wanted(self.environment, task.environment)
            and is_wanted(self.service, task.service)
            and is_wanted(self.repo, task.repo)
            and is_wanted(self.status, task.status)
            and (self.least <= Severity.INFO or self._is_grave(task))
            and (self.cost_usd is None or (task.cost_usd is not None and task.cost_usd >= self.cost_usd))
            and all(is_wanted(wanted, attribute(task, name)) for name, wanted in self.attributes)
        )

    def _is_grave(self, task: Task) -> bool:
        has_failed = Severity.WARNING if task.error_count or task.child_failed else Severity.INFO
        return max(_STATES.get(task.status, Severity.INFO), has_failed) >= self.least


def attribute(task: Task, name: str) -> str | None:
    """Return an attribute of a task by its name; None where it is not known, or nobody asked for it."""
    field = FIELDS.get(name)
    value = getattr(task, field) if field is not None else task.attributes.get(name)
    return None if value is None else str(value)


def described(task: Task, attributes: Mapping[str, object]) -> Task:
    """Return a task with what these attributes say of it, where it does not know that itself."""
    said = {name: str(value) for name, value in attributes.items()}
    fields = {field: said[name] for name, field in FIELDS.items() if name in said and getattr(task, field) in (None, "")}
    return msgspec.structs.replace(task, **fields, attributes={**said, **task.attributes})


def is_wanted(wanted: Wanted, value: str | None) -> bool:
    """Say whether a value is the one, or one of those, that is asked for."""
    if wanted is None:
        return True
    if value is None:
        return False
    if isinstance(wanted, str):
        return wanted == value or ("*" in wanted and _pattern(wanted).fullmatch(value) is not None)
    return any(is_wanted(one, value) for one in wanted)


@lru_cache(1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    # Runs of stars are one; between them texts alone: nothing that could take long.
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", wanted)), re.DOTALL)
