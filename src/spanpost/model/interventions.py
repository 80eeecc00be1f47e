"""Interventions: what a person asks of a task, and the outcome."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.readings import ReportedDecision
from spanpost.model.recorded import Recorded
from spanpost.model.standing_approvals import Scope


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
    #: Let a finding of the task be (`Task.loop`): it is not reported again unless it doubles.
    DISMISS = "dismiss"
    #: A text for the agent.
    MESSAGE = "message"
    #: A rating of a task's work: up or down, with a comment.
    RATE = "rate"
    #: New work by a launcher; concerns no task.
    START = "start"
    #: The end of a standing approval.
    REVOKE = "revoke"
    #: Of an alert: someone looks after it; it is silenced in Alertmanager, and no longer.
    ACKNOWLEDGE = "acknowledge"
    SILENCE = "silence"
    UNSILENCE = "unsilence"

    @property
    def is_decision(self) -> bool:
        """True for a decision on an approval; the others concern the task."""
        return self in (Verb.APPROVE, Verb.DENY, Verb.CHOOSE)

    @property
    def is_of_alert(self) -> bool:
        """True for an act on an alert."""
        return self in (Verb.ACKNOWLEDGE, Verb.SILENCE, Verb.UNSILENCE)


#: The two ratings, each at the index that a button carries.
DOWN: Final = "down"
RATINGS: Final = (DOWN, "up")


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """A person (or a program) as authenticated by the provider. Never made from telemetry."""

    #: slack, api, app, cli; ``spanpost`` when a deadline decided.
    provider: str
    #: The id at the provider: Slack's user id; on the command line the operating system's user and host.
    id: str
    #: The team at the provider: Slack's team id.
    team: str = ""
    name: str = ""
    #: Verified by the provider; empty when unknown.
    email: str = ""
    #: What proved the identity: a token's name, a session. Empty for a program of spanpost.
    credential: str = ""
    #: Program that called the API, as it says itself (`spanpost.model.acts.CLIENTS`).
    client: str = ""


class Intervention(msgspec.Struct, frozen=True, kw_only=True):
    """One act of a person, granted or refused by the authorization rules. Each becomes a row."""

    tenant: str
    verb: Verb
    #: The opaque key that the button or the API carries: of an approval (decisions), of an alert, of a task, or of
    #: a standing approval (`REVOKE`).
    key: UUID
    actor: Actor
    #: The option taken by a `CHOOSE`; the rating of a `RATE` (one of `RATINGS`).
    option: str = ""
    #: Of an `APPROVE`: how far it goes.
    scope: Scope = Scope.ONCE
    #: The standing approval that decided.
    rule: UUID | None = None
    #: A comment or a message's text, from a person: shown literally.
    text: str = ""
    #: Where it came from: ``slack``, ``api``, ``app``, ``cli``.
    source: str = ""
    #: The same for every repetition of the act, in any process; a repetition changes nothing.
    idempotency_key: str
    #: Of a `RETRY` or `START`: the launcher, and its parameters. Of a `SILENCE`: its end, as `until` (RFC 3339).
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
    #: The approval counts, and more people must approve.
    COUNTED = "counted"
    #: Another decision came first and stands.
    DECIDED = "decided"
    #: The question was asked again in other words: these buttons are void.
    VOID = "void"
    EXPIRED = "expired"
    #: Nothing waits for the answer any more: it was settled where the agent runs.
    WITHDRAWN = "withdrawn"
    #: The task has ended, or is in a state that does not allow this.
    TOO_LATE = "too_late"
    #: Part of the question is hidden or was cut, so it cannot be approved; it can be denied.
    HIDDEN = "hidden"
    #: The question is open, and no standing approval can come of it: it has no tool, it has options, or more than
    #: one person must approve.
    NO_SCOPE = "no_scope"
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
    #: Of an approval: the first decision and the person who made it, if there is one. Of a rating: that rating.
    decision: str = ""
    by: str = ""
    decided_at: datetime | None = None
    #: Of a question that needs several people: how many approved, and how many must.
    approvals: int = 0
    needs: int = 1
    #: The standing approval that it granted, used or revoked.
    rule: UUID | None = None
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
    #: Nothing waits for the answer any more. Nothing was granted.
    WITHDRAWN = "withdrawn"
    #: Its task ended without an answer. It is open again if the task goes on.
    ENDED = "ended"


_CLOSED = frozenset({InterventionState.DECIDED, InterventionState.EXPIRED, InterventionState.WITHDRAWN})


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """A person's approval of a question that needs several."""

    decision: str
    by: str
    by_id: str
    #: Verified by the provider; empty when unknown.
    email: str = ""
    at: datetime


class AskedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place of a question's chain that was asked."""

    place: str
    at: datetime


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
    #: As `Approval.tool`, `needs`, `to` and `to_after`; `needs` never shrinks.
    tool: str = ""
    needs: int = 1
    places: tuple[str, ...] = ()
    places_after: float = 0.0
    #: As `Approval.resume`.
    resume: tuple[str, ...] = ()
    #: Approvals while more are needed, one for each person.
    votes: tuple[Vote, ...] = ()
    #: The places that were asked so far.
    asked: tuple[AskedPlace, ...] = ()
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
    #: As `Approval.rule`.
    rule: str = ""
    #: As `Approval.reported_decision`.
    reported_decision: ReportedDecision | None = None

    @property
    def is_decided(self) -> bool:
        """True when a person, a deadline or a withdrawal closed it; telemetry does not count."""
        return self.state in _CLOSED and self.source != ""

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
