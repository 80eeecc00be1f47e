"""What becomes a task with a message: the rules that the section `tasks` of the settings holds.

Rules. A trace is *announced*, that is, it has a message and a place among the tasks that people follow, by what
is in it and by the request that it serves:

- ``agents``: a run of an agent or a workflow, a task that names itself; outside of requests several model
  calls in a trace as well;
- ``model calls``: the same, and every trace with a model call;
- ``failures``: of all these only what ended in an error;
- ``nothing``: none.

What asks a person is announced in any case. What is not announced has a row and its figures, and no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

#: How the turns of a conversation are shown.
Conversations: TypeAlias = Literal["one task", "a task a turn"]
ONE_TASK: Final = "one task"
#: Which traces are announced.
When: TypeAlias = Literal["agents", "model calls", "failures", "nothing"]


class Reason(NamedTuple):
    """The rule in force for a task: which traces it announces, and the pattern of requests that chose it."""

    when: When
    pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskRules:
    """What becomes a task with a message."""

    #: Runs that name the same conversation are one task, or each is a task of its own.
    conversations: Conversations = "one task"
    #: Which traces are announced.
    when: When = "agents"
    #: The same for what runs in requests, jobs and messages of queues, by a pattern of their name; the first that
    #: matches decides. ``*`` stands for any text.
    requests: Mapping[str, When] = field(default_factory=lambda: MappingProxyType({}))

    def rule_for(self, request: str | None) -> Reason:
        """Return the rule for what runs in a request of this name; None: in none."""
        for pattern, when in self.requests.items() if request is not None else ():
            if fnmatchcase(request or "", pattern):
                return Reason(when, pattern)
        return Reason(self.when)
