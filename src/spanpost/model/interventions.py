"""What a person asks of a task, and what became of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.readings import ReportedDecision
from spanpost.model.recorded import Recorded


class Verb(StrEnum):
    """What is asked. Public: rows, JSON, metric labels, action ids of buttons."""

    #: A decision on an approval; `CHOOSE` takes one of the options that the agent gave.
    APPROVE = "approve"
    DENY = "deny"
    CHOOSE = "choose"
    CANCEL = "cancel"
    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    MUTE = "mute"
    UNMUTE = "unmute"
    #: Words to the agent.
    MESSAGE = "message"
    #: Of no task: new work by a launcher.
    START = "start"

    @property
    def is_decision(self) -> bool:
        """True for what answers an approval; the others are asked of the task."""
        return self in (Verb.APPROVE, Verb.DENY, Verb.CHOOSE)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """A person (or a program) as the provider knows it. Never made from telemetry."""

    #: slack, api, cli; ``spanpost`` where a deadline decided.
    provider: str
    #: Who it is at the provider: Slack's user id; of the command line the operating system's user and host.
    id: str
    #: Where at the provider: Slack's team id.
    team: str = ""
    name: str = ""
    #: Verified by the provider; empty when unknown.
    email: str = ""


class Intervention(msgspec.Struct, frozen=True, kw_only=True):
    """One act of a person, granted or refused by the rules of who may. Every one becomes a row."""

    tenant: str
    verb: Verb
    #: What it is about, as the button or the API carries it: the opaque key of an approval (decisions) or of a task.
    key: UUID
    actor: Actor
    #: The option taken, of a `CHOOSE`.
    option: str = ""
    #: A decision's comment, a message's words: a person's text, shown literally.
    text: str = ""
    #: Where it came from: ``slack``, ``api``, ``cli``.
    source: str = ""
    #: The same for every repeat of the same act, whatever process hears it; a repeat changes nothing.
    idempotency_key: str
    #: Of a `RETRY` or `START`: the launcher that is to start it, and what it is given.
    launcher: str = ""
    parameters: dict[str, str] = {}
    #: Why the rules refuse it; empty: granted.
    refusal: str = ""
    #: When it was done, by the provider's clock; the row has the store's beside it.
    at: datetime


class Result(StrEnum):
    """What became of an intervention."""

    #: It stands. A repeat of it is told the same.
    DONE = "done"
    #: Another decided before: the first decision stands.
    DECIDED = "decided"
    #: The request was asked again in other words: these buttons are void.
    VOID = "void"
    EXPIRED = "expired"
    #: The task has ended, or is in a state where this cannot be asked.
    TOO_LATE = "too_late"
    #: Part of the question is hidden or was cut: nobody can read what they would approve. It can be denied.
    HIDDEN = "hidden"
    #: The rules refused it; kept as a row, and nothing more.
    REFUSED = "refused"
    #: No such approval or task in that tenant.
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The store's answer to an intervention."""

    result: Result
    #: The same act was heard before.
    is_repeat: bool = False
    task_uid: UUID | None = None
    task_id: str = ""
    #: Of an approval: what was decided and by whom (the first), where it is.
    decision: str = ""
    by: str = ""
    decided_at: datetime | None = None
    #: The order that it came to (`domain.orders`).
    order_id: UUID | None = None
    #: What it came to in the tables, for who counts; nothing in a repeat.
    recorded: Recorded | None = None


class InterventionState(StrEnum):
    """What has become of a question. Public: rows, JSON."""

    OPEN = "open"
    DECIDED = "decided"
    #: Asked again in other words, by the same trace.
    VOID = "void"
    #: Its time was over before anybody decided.
    EXPIRED = "expired"


class ApprovalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a person as it is kept: by its own key, whatever becomes of its task."""

    #: What a button carries. Made of tenant, approval id, mark and the trace that asked: asked again there it is the same.
    key: UUID
    tenant: str
    approval_id: str
    #: As `Approval.mark`, `is_asked` and `is_cut`.
    mark: str
    is_asked: bool = False
    is_cut: bool = False
    #: The task that asked, and trace and span (hex, with a dash between) of the newest asking.
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
    #: Who it is at the provider: ``slack:T1:U1``; empty where the agent told it.
    by_id: str = ""
    comment: str = ""
    #: As `Approval.source`: empty for a decision that telemetry told.
    source: str = ""
    decided_at: datetime | None = None
    #: As `Approval.told`.
    told: ReportedDecision | None = None

    @property
    def is_decided(self) -> bool:
        """True where a person decided through spanpost, or a deadline did. What telemetry tells of a decision is none."""
        return self.state in (InterventionState.DECIDED, InterventionState.EXPIRED) and self.source != ""

    @property
    def trace(self) -> str:
        """The trace that asked, in hex."""
        return self.span.partition("-")[0]


class StandingAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act of a person that stands, as an agent is told of it."""

    #: Ascending within the database: what came after a number is new.
    number: int
    verb: str
    by: str = ""
    text: str = ""
    at: datetime
