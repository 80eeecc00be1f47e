"""The control API: paths, query and bodies by which an agent waits for people and asks for its budget.

The gateway (`spanpost.interactions.control`) and its client (`spanpost.agent.gateway`) both use this
module. It imports only the standard library, so that an agent pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict
from urllib.parse import quote, urlencode

APPROVALS: Final = "/control/v1/approvals/"
TASKS: Final = "/control/v1/tasks/"
BUDGET: Final = "/control/v1/budget"
VERSION: Final = "/control/v1/version"
#: Query: seconds to wait; the number after which requests are returned; a question's mark; its trace id.
WAIT, AFTER, MARK, TRACE = "wait", "after", "mark", "trace"
QUERY: Final = (WAIT, AFTER, MARK, TRACE)
#: Reason of a 404 that may change later: no such question or task is known in this tenant.
UNKNOWN: Final = "unknown"


class ReportedAnswer(TypedDict):
    """A decision that telemetry reports; it is not an answer."""

    decision: str
    by: str
    comment: str


class ApprovalAnswer(TypedDict):
    """The state of a question. Times are RFC 3339."""

    id: str
    state: str
    decision: str
    by: str
    comment: str
    source: str
    is_expired: bool
    decided_at: str | None
    expires_at: str | None
    can_be_approved: bool
    reason: str
    reported_decision: ReportedAnswer | None


class PersonAct(TypedDict):
    """A request of a person to a task."""

    number: int
    verb: str
    by: str
    text: str
    at: str


class TaskAnswer(TypedDict):
    """Requests of people to a task after a number; `after` is the number for the next query."""

    task_id: str
    status: str
    after: int
    acts: Sequence[PersonAct]


class BudgetQuestion(TypedDict):
    """A task by one of its ids, with its attributes for a gateway that does not know it yet."""

    ref: str
    attributes: Mapping[str, Any]


class BudgetAnswer(TypedDict):
    """The rest of each budget of a task."""

    budgets: Sequence[Mapping[str, Any]]


def approval_target(id: str, mark: str, trace: str, wait: float) -> str:
    """Return path and query of a question."""
    return f"{APPROVALS}{quote(id, safe='')}?{urlencode({MARK: mark, TRACE: trace, WAIT: f'{wait:.3f}'})}"


def task_target(ref: str, after: int, wait: float) -> str:
    """Return path and query of a task."""
    return f"{TASKS}{quote(ref, safe='')}?{urlencode({AFTER: after, WAIT: f'{wait:.3f}'})}"


def is_unknown(status: int, body: Any) -> bool:
    """Return whether an error (a google.rpc.Status) says that there is no such question or task yet."""
    details = body.get("details") if isinstance(body, dict) else None
    reasons = [one.get("reason") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    return status == 404 and UNKNOWN.upper() in reasons
