"""The control API: paths, query and bodies by which an agent waits for people and asks for its budget.

The gateway (`spanpost.interactions.control`) and its client (`spanpost.agent.gateway`) both use this
module. It imports only the standard library, so that an agent pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict
from urllib.parse import quote, unquote, urlencode, urlsplit

APPROVALS: Final = "/control/v1/approvals/"
TASKS: Final = "/control/v1/tasks/"
BUDGET: Final = "/control/v1/budget"
#: Reserve from the task's budgets before a call, and give back after it.
RESERVATIONS: Final = "/control/v1/budget/reservations"
RETURNS: Final = "/control/v1/budget/returns"
#: Permission hooks of coding CLIs, each below its name.
HOOKS: Final = "/control/v1/hooks/"
HOOK_PROGRAMS: Final = ("claude-code", "codex", "gemini-cli")
VERSION: Final = "/control/v1/version"
#: Query: seconds to wait; the number after which requests are returned; a question's mark; its trace id.
WAIT, AFTER, MARK, TRACE = "wait", "after", "mark", "trace"
QUERY: Final = (WAIT, AFTER, MARK, TRACE)
#: Query of a hook: the calls of a headless run wait without a process.
DEFER: Final = "defer"
#: Reason of a 404 that may change later: no such question or task is known in this tenant.
UNKNOWN: Final = "unknown"


class NoAddress(ValueError):
    """The environment's gateway cannot be asked. The text says why."""


class ControlAddress(NamedTuple):
    """The gateway of an environment, and the headers that it wants."""

    endpoint: str
    headers: Mapping[str, str]
    #: CA certificates, a PEM file.
    certificate: str | None


def address_of(environment: Mapping[str, str]) -> ControlAddress | None:
    """Return the environment's gateway; None: it names none. Raises `NoAddress`."""
    said = {name: value for name, value in environment.items() if value}
    headers: dict[str, str] = {}
    endpoint = said.get("SPANPOST_CONTROL__ENDPOINT") or said.get("SPANPOST_FORWARD__ENDPOINT")
    if endpoint is None:
        protocol = said.get("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL") or said.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
        endpoint = said.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or said.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if endpoint is not None and (protocol == "grpc" or (not protocol and urlsplit(endpoint).port == 4317)):
            raise NoAddress("telemetry goes by gRPC, and answers come by HTTP")
        given = said.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or said.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
        for pair in given.split(","):
            name, _, value = pair.partition("=")
            headers[name.strip().lower()] = unquote(value.strip())
        headers = {name: value for name, value in headers.items() if name == "authorization"}
        endpoint = endpoint.removesuffix("/v1/logs") if endpoint is not None else None
    token = said.get("SPANPOST_CONTROL__TOKEN") or said.get("SPANPOST_FORWARD__TOKEN")
    if token:
        headers["authorization"] = f"Bearer {token}"
    certificate = said.get("SPANPOST_CONTROL__CERTIFICATE") or said.get("SPANPOST_FORWARD__CERTIFICATE")
    certificate = certificate or said.get("OTEL_EXPORTER_OTLP_CERTIFICATE")
    return ControlAddress(endpoint, headers, certificate) if endpoint is not None else None


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


class ReservationQuestion(TypedDict):
    """A reservation. The agent makes `id` (a UUID): repeated requests count once."""

    id: str
    ref: str
    attributes: Mapping[str, Any]
    calls: int
    tokens: int
    #: Dollars, as a decimal number in text.
    usd: str
    #: Seconds until it ends by itself.
    lasts: float


class ReservationAnswer(TypedDict):
    """Whether a reservation was granted, until when it holds, and the rest of each budget before it."""

    is_granted: bool
    reason: str
    expires_at: str | None
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
