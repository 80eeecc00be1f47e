"""The conditions by which a route matches a task.

Each field that is given must match: a text, or one of several; ``*`` in it stands for anything. A task keeps
what its own fields hold (`FIELDS`) and, of all other attributes, only those that some route names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """How serious a checkpoint or a task's state is: a part that failed is a warning, a task that failed an error."""

    INFO = 0
    WARNING = 1
    ERROR = 2


_GRAVE: Final = {
    Kind.ERROR: Severity.WARNING,
    Kind.APPROVAL_REQUESTED: Severity.WARNING,
    Kind.CONTEXT_WARNING: Severity.WARNING,
    Kind.CONTEXT_FORECAST: Severity.WARNING,
    Kind.STALLED: Severity.WARNING,
    Kind.LOOP: Severity.WARNING,
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
    """Return the severity of a checkpoint: that of an end is its status's."""
    if checkpoint.kind in (Kind.END, Kind.APPROVAL_RESOLVED):
        return _STATES.get(checkpoint.status, Severity.INFO) if checkpoint.kind is Kind.END else Severity.WARNING
    return _GRAVE.get(checkpoint.kind, Severity.INFO)


def severity_of_state(task: Task) -> Severity:
    """Return the severity of a task's state."""
    has_failed = Severity.WARNING if task.error_count or task.child_failed else Severity.INFO
    return max(_STATES.get(task.status, Severity.INFO), has_failed)


@dataclass(frozen=True, kw_only=True)
class Match:
    """Conditions on a task: each field that is given must match. An empty match takes every task."""

    tenant: Wanted = None
    agent: Wanted = None
    topic: Wanted = None
    environment: Wanted = None
    service: Wanted = None
    repo: Wanted = None
    #: Other attributes by name.
    attributes: Mapping[str, Wanted] = field(default_factory=dict)

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return frozenset(name for name in self.attributes if name not in FIELDS)

    def takes(self, task: Task) -> bool:
        """Return whether the task matches."""
        # Most conditions are not given: a call for each would cost more than the rest (measured).
        return (
            (self.tenant is None or is_wanted(self.tenant, task.tenant))
            and (self.agent is None or is_wanted(self.agent, task.agent_name))
            and (self.topic is None or is_wanted(self.topic, task.topic))
            and (self.environment is None or is_wanted(self.environment, task.environment))
            and (self.service is None or is_wanted(self.service, task.service))
            and (self.repo is None or is_wanted(self.repo, task.repo))
            and all(is_wanted(wanted, attribute(task, name)) for name, wanted in self.attributes.items())
        )


#: Conditions on one field, those first of which many routes have different values; and the task's field of each.
_PLAIN: Final = {
    "repo": "repo", "service": "service", "agent": "agent_name", "topic": "topic", "tenant": "tenant",
    "environment": "environment",
}  # fmt: skip


class MatchIndex:
    """Finds the matches that may take a task without asking each: of a thousand that name a repository, one."""

    def __init__(self, matches: Iterable[Match]) -> None:
        #: Numbers by a field of the task and a value that it must have; None: those that name no such value.
        self._numbers: dict[tuple[str, str] | None, list[int]] = {}
        for number, match in enumerate(matches):
            for value in _plain_values(match) or (None,):
                self._numbers.setdefault(value, []).append(number)

    def candidates(self, task: Task) -> list[int]:
        """Return the numbers of the matches that may take the task, in order."""
        found = set(self._numbers.get(None, ()))
        for own in _PLAIN.values():
            found.update(self._numbers.get((own, getattr(task, own)), ()))
        return sorted(found)


def _plain_values(match: Match) -> tuple[tuple[str, str], ...]:
    """Return a field of a task and the values one of which it must have; empty if no condition names values."""
    for condition, own in _PLAIN.items():
        wanted: Wanted = getattr(match, condition)
        values = (wanted,) if isinstance(wanted, str) else wanted or ()
        if values and not any("*" in value for value in values):
            return tuple((own, value) for value in values)
    return ()


def attribute(task: Task, name: str) -> str | None:
    """Return an attribute of a task by its name; None where it is unknown, or not kept because no route names it."""
    own = FIELDS.get(name)
    value = getattr(task, own) if own is not None else task.attributes.get(name)
    return None if value is None else str(value)


def described(task: Task, attributes: Mapping[str, object]) -> Task:
    """Return the task, filled up with these attributes where its own fields are empty."""
    texts = {name: str(value) for name, value in attributes.items()}
    fields = {own: texts[name] for name, own in FIELDS.items() if name in texts and getattr(task, own) in (None, "")}
    return msgspec.structs.replace(task, **fields, attributes={**texts, **task.attributes})


def is_wanted(wanted: Wanted, value: str | None) -> bool:
    """Return whether a value matches what is wanted."""
    if wanted is None:
        return True
    if value is None:
        return False
    if isinstance(wanted, str):
        return wanted == value or ("*" in wanted and _pattern(wanted).fullmatch(value) is not None)
    return any(is_wanted(one, value) for one in wanted)


@lru_cache(1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    # Several stars in a row are one; between them are plain texts, so matching cannot take long.
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", wanted)), re.DOTALL)
