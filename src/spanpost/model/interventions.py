"""Interventions: what a person asks of a task, and the outcome."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.readings import ReportedDecision
from spanpost.model.recorded import Recorded


class Verb(StrEnum):
    """The kind of an intervention. Public: rows, JSON, metric labels, action ids of buttons."""

    #: Decisions on an approval; `CHOOSE` takes one of the agent's options.
    APPROVE = "approve"
    DENY = "deny"
    CHOOSE = "choose"
    CANCEL = "cancel"
    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    MUTE = "mute"
    UNMUTE = "unmute"
    #: A text for the agent.
    MESSAGE = "message"
    #: New work by a launcher; concerns no task.
    START = "start"

    @property
    def is_decision(self) -> bool:
        """True for a decision on an approval; the others concern the task."""
        return self in (Verb.APPROVE, Verb.DENY, Verb.CHOOSE)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """A person (or a program) as authenticated by the provider. Never made from telemetry."""

    #: slack, api, cli; ``spanpost`` when a deadline decided.
    provider: str
    #: The id at the provider: Slack's user id; on the command line the operating system's user and host.
    id: str
    #: The team at the provider: Slack's team id.
    team: str = ""
    name: str = ""
    #: Verified by the provider; empty when unknown.
    email: str = ""


class Intervention(msgspec.Struct, frozen=True, kw_only=True):
    """One act of a person, granted or refused by the authorization rules. Each becomes a row."""

    tenant: str
    verb: Verb
    #: The opaque key that the button or the API carries: of an approval (decisions) or of a task.
    key: UUID
    actor: Actor
    #: The option taken by a `CHOOSE`.
    option: str = ""
    #: A decision's comment or a message's text, from a person: shown literally.
    text: str = ""
    #: Where it came from: ``slack``, ``api``, ``cli``.
    source: str = ""
    #: The same for every repetition of the act, in any process; a repetition changes nothing.
    idempotency_key: str
    #: Of a `RETRY` or `START`: the launcher, and its parameters.
    launcher: str = ""
    parameters: dict[str, str] = {}
    #: Why the authorization rules refuse it; empty: granted.
    refusal: str = ""
    #: The time of the act by the provider's clock; the row also has the store's time.
    at: datetime


class Result(StrEnum):
    """The outcome of an intervention."""

    #: It took effect. A repetition gets the same answer.
    DONE = "done"
    #: Another decision came first and stands.
    DECIDED = "decided"
    #: The question was asked again in other words: these buttons are void.
    VOID = "void"
    EXPIRED = "expired"
    #: The task has ended, or is in a state that does not allow this.
    TOO_LATE = "too_late"
    #: Part of the question is hidden or was cut, so it cannot be approved; it can be denied.
    HIDDEN = "hidden"
    #: The authorization rules refused it; only the row is kept.
    REFUSED = "refused"
    #: No such approval or task in that tenant.
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The store's answer to an intervention."""

    result: Result
    #: The same act was received before.
    is_repeat: bool = False
    task_uid: UUID | None = None
    task_id: str = ""
    #: Of an approval: the first decision and the person who made it, if there is one.
    decision: str = ""
    by: str = ""
    decided_at: datetime | None = None
    #: The launch order that it created.
    order_id: UUID | None = None
    #: What it changed in the tables, for metrics; None for a repetition.
    recorded: Recorded | None = None


class InterventionState(StrEnum):
    """The state of a question. Public: rows, JSON."""

    OPEN = "open"
    DECIDED = "decided"
    #: Asked again in other words, by the same trace.
    VOID = "void"
    #: The deadline passed without a decision.
    EXPIRED = "expired"


class ApprovalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a person as stored, under its own key: it outlives its task."""

    #: The key that a button carries. Derived from tenant, approval id, mark and the trace that asked.
    key: UUID
    tenant: str
    approval_id: str
    #: As `Approval.mark`, `is_asked` and `is_cut`.
    mark: str
    is_asked: bool = False
    is_cut: bool = False
    #: The task that asked; trace and span (hex, with a dash between) of the newest request.
    task_uid: UUID
    span: str = ""
    question: str = ""
    detail: str = ""
    options: tuple[str, ...] = ()
    risk: str = ""
    requested_at: datetime
    expires_at: datetime | None = None
    #: wait, deny, escalate or expire.
    at_expiry: str = "expire"
    escalated_at: datetime | None = None
    state: InterventionState = InterventionState.OPEN
    #: approve, deny, expired, or one of the agent's options.
    decision: str = ""
    by: str = ""
    #: The person's id at the provider: ``slack:T1:U1``; empty when the agent reported it.
    by_id: str = ""
    comment: str = ""
    #: As `Approval.source`: empty for a decision reported by telemetry.
    source: str = ""
    decided_at: datetime | None = None
    #: As `Approval.reported_decision`.
    reported_decision: ReportedDecision | None = None

    @property
    def is_decided(self) -> bool:
        """True when a person decided through spanpost, or a deadline did; telemetry does not count."""
        return self.state in (InterventionState.DECIDED, InterventionState.EXPIRED) and self.source != ""

    @property
    def trace(self) -> str:
        """The trace that asked, in hex."""
        return self.span.partition("-")[0]


class StandingAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act of a person that is in effect, as the agent receives it."""

    #: Ascending within the database: acts with a greater number are newer.
    number: int
    verb: str
    by: str = ""
    text: str = ""
    at: datetime
