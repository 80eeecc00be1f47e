"""Rules for questions to people from the settings: expiry, how many people must approve, and who is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from spanpost.model.readings import Approval
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.routing.matching import Match, Wanted, is_wanted

#: How long an approval for an hour lasts.
HOUR = timedelta(hours=1)
#: The place that stands for the person for whom the task runs.
OWNER: Final = "@owner"
_USER: Final = re.compile(r"^(?:slack:|<@|@)?([UW][A-Z0-9]{2,30})>?\Z")
#: Seconds that a place has where nothing says how many, and at least.
_AFTER, _LEAST_AFTER = 900.0, 1.0


@dataclass(frozen=True, kw_only=True)
class QuestionRule(Match):
    """Who must approve the questions that meet its conditions, and who is asked."""

    tool: Wanted = None
    risk: Wanted = None
    needs: int = 1
    to: tuple[str, ...] = ()
    #: How long each place of `to` has before the next is asked.
    to_after: timedelta = timedelta(minutes=15)

    def asks_of(self, task: Task, approval: Approval) -> bool:
        """Return whether the rule decides about a task's question."""
        return (
            self.takes(task)
            and (self.tool is None or is_wanted(self.tool, approval.tool))
            and (self.risk is None or is_wanted(self.risk, approval.risk))
        )


@dataclass(frozen=True, kw_only=True)
class ApprovalRules:
    """Rules for questions: those of the settings stand beside what the question says, and the stricter counts."""

    #: How long a question is open that states no expiry; None: without a limit.
    expire_after: timedelta | None = None
    #: One of `semconv.AT_EXPIRY`.
    at_expiry: str = "expire"
    #: How long a standing approval lasts: of one task, and for always.
    task_for: timedelta = timedelta(days=7)
    always_for: timedelta = timedelta(days=90)
    rules: Sequence[QuestionRule] = ()
    #: Places that questions may name themselves: telemetry chooses no other.
    places: Sequence[str] = (OWNER,)

    def lasts(self, scope: Scope) -> timedelta:
        """Return how long a standing approval lasts."""
        return {Scope.TASK: self.task_for, Scope.HOUR: HOUR, Scope.ALWAYS: self.always_for}[scope]

    def applied(self, task: Task, people: Mapping[str, str]) -> Task:
        """Return the task with what these rules ask of its questions. `people`: Slack user ids by name.

        Of several rules all count: the largest number of people, and every place.
        """
        if not task.approvals:
            return task
        owner = requester_of(task, people)
        return msgspec.structs.replace(task, approvals=tuple(self._strict(task, a, owner) for a in task.approvals))

    def _strict(self, task: Task, approval: Approval, owner: str) -> Approval:
        rules = [rule for rule in self.rules if rule.asks_of(task, approval)]
        named = [place for place in approval.to if place in self.places]
        named += [place for rule in rules for place in rule.to]
        to = tuple(filter(None, dict.fromkeys(owner if place == OWNER else place for place in named)))
        after = approval.to_after or min((rule.to_after.total_seconds() for rule in rules), default=_AFTER)
        return msgspec.structs.replace(
            approval,
            needs=max([approval.needs, *(rule.needs for rule in rules)]),
            to=to,
            to_after=max(after, _LEAST_AFTER) if to else 0.0,
            asked=to[: 1 + approval.passed_on],
            owner=owner,
        )


def requester_of(task: Task, people: Mapping[str, str]) -> str:
    """Return the Slack user id of the person for whom a task runs; empty where it is not known.

    `people`: Slack user ids by name, in lower case.
    """
    said = (task.requested_by or "").strip()
    found = _USER.match(people.get(said.casefold(), said))
    return found[1] if found else ""
