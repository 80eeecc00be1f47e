"""What an observation means, in one vocabulary for all dialects: the reader's answer."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.messages import LocaleMessage
from spanpost.model.usage import Usage


class Role(IntEnum):
    """What a span is. Stored in cells: never renumber."""

    #: Not of an agent (HTTP, database, user code): transparent, its edge alone is kept.
    OTHER = 0
    #: A part of an agent's machinery: a turn, a node, a cycle. Transparent for placement.
    STEP = 1
    #: A model call.
    LLM = 2
    TOOL = 3
    #: Boxes: they own what lies below them.
    AGENT = 4
    WORKFLOW = 5
    #: A span that says so itself, by ``agent.task.id`` or ``agent.task.name``.
    TASK = 6
    #: Set-up and message plumbing of frameworks: ignored, its edge and links are kept.
    PLUMBING = 7
    HANDOFF = 8

    @property
    def is_root_span(self) -> bool:
        """True for spans that own what lies below them."""
        return 4 <= self <= 6  # naming three members would cost a microsecond: an enum's members are looked up slowly


class Finish(IntEnum):
    """Why a model stopped."""

    UNKNOWN = 0
    STOP = 1
    #: It asks for tools.
    TOOLS = 2
    LENGTH = 3
    FILTER = 4
    ERROR = 5


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What went wrong. `log_tail` only when the agent gave it."""

    type: str = ""
    message: str = ""
    log_tail: str = ""


class Artifact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that was made."""

    name: str
    uri: str = ""
    kind: str = ""

    @property
    def key(self) -> str:
        """What it is known by: its uri, else its name."""
        return self.uri or self.name


class ReportedDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What telemetry says was decided. Where spanpost itself is asked it decides nothing, and is only shown."""

    decision: str
    by: str = ""
    comment: str = ""
    at: datetime | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question to a person (`decision` empty) or the answer to it.

    A task's `approvals` hold one for each wording of each question and each trace that asked it. Of one id the newest wording of a
    trace stands, its others are void; what another trace asks is a question of its own.
    """

    id: str
    question: str = ""
    detail: str = ""
    options: tuple[str, ...] = ()
    risk: str = ""
    #: As the agent wrote it (RFC 3339 text or Unix seconds), not trusted to be a time.
    expires_at: str = ""
    decision: str = ""
    by: str = ""
    comment: str = ""
    #: What happens when nobody answered in time, as the agent said: wait, deny, escalate or expire; empty: as the settings say.
    at_expiry: str = ""
    #: Of a question the mark of its words (`conventions.question_mark`), computed here from all of them as they came in. Of an
    #: answer the mark that it bears; empty: it answers every wording of its id.
    mark: str = ""
    #: Spanpost itself is asked, by a question that bears a mark or for which an agent waits: only a person (or the deadline) decides.
    is_asked: bool = False
    #: Not all words are kept as they were sent: too long, cut on the way, or others than those whose mark it bears.
    is_cut: bool = False
    #: It bears the mark of other words: something on the way changed them, or its sender computes it wrongly.
    is_altered: bool = False
    #: False where the agent said no id: it is known by its words, and nobody can answer it through spanpost.
    has_id: bool = True
    #: How the decision came: empty as telemetry told it, else through spanpost: slack, api, cli; ``spanpost`` at a deadline.
    source: str = ""
    #: The time was over before anybody decided. `decision` is then ``expired``; ``deny`` where that was to be done.
    is_expired: bool = False

    # --- of a task's approvals, and of no reading ----------------------------------------------------------------------
    #: What the trace that asked tells of a decision that is not the one which stands here.
    told: ReportedDecision | None = None
    #: What a button carries; None where nobody can answer it.
    key: UUID | None = None
    #: The checkpoints that told the question, and that told it once more when its time was over.
    reported_by: UUID | None = None
    escalated_by: UUID | None = None
    #: The same trace asked again in other words: this one is void.
    is_void: bool = False
    asked_at: datetime | None = None
    #: `expires_at` as a time, else what the settings give; None: never.
    deadline: datetime | None = None
    decided_at: datetime | None = None
    #: When it was told once more because nobody had answered.
    escalated_at: datetime | None = None
    #: Trace and span (hex, with a dash between) of the newest asking.
    span: str = ""

    @property
    def is_open(self) -> bool:
        """True while it waits for an answer."""
        return not self.decision and not self.is_void


class Act(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a person asked of a task, as it was recorded: cancel, pause, resume, retry, mute, unmute, message."""

    verb: str
    by: str = ""
    text: str = ""
    source: str = ""
    #: The newest moment that was known of the task then, by the clocks of those who tell of it; 0 where nobody wrote it down.
    seen_ns: int = 0


#: Above the data points of a session: not the id of any span. What lies below it counts where nothing else tells.
METERED = b"\0metered"


class Tells(IntEnum):
    """What an event says that is worth telling at once."""

    NOTHING = 0
    CHECKPOINT = 1
    ARTIFACT = 2
    ERROR = 3
    APPROVAL_REQUESTED = 4
    APPROVAL_RESOLVED = 5
    COMPACTION = 6
    ALERT = 7
    #: A share of a budget was passed.
    BUDGET = 8


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What one observation means. Everything not said is `None` or empty; nothing is guessed here.

    A span reading (parts ENDED and STARTED) says what the span is (`role`); an event or log reading (`EVENT`, `LOG`) says
    what happened on a span and has role OTHER unless the record stands for a span of its own (`stands_for`).
    """

    role: Role = Role.OTHER
    #: The rule that decided the role, e.g. ``gen_ai.operation.name``; shown by ``replay --explain``.
    rule: str = ""

    # --- identity -----------------------------------------------------------------------------------------------
    #: Explicit task id: identity across traces (``agent.task.id``, a coding session's ``session.id``).
    task_id: str | None = None
    #: A public id that ranks below the explicit one and above the span ids (``gen_ai.agent.call.id``).
    task_alias: str | None = None
    task_name: str | None = None
    task_type: str | None = None
    task_parent_id: str | None = None
    #: The agent's name *when the span is that agent's box*, cleaned; of child spans see `agent_label`.
    agent_name: str | None = None
    agent_id: str | None = None
    agent_version: str | None = None
    #: Name of the agent that a non-box span says it belongs to.
    agent_label: str | None = None
    repo: str | None = None
    topic: str | None = None
    requested_by: str | None = None
    retry_of: str | None = None
    caused_by: str | None = None
    order_id: str | None = None
    conversation_id: str | None = None
    #: The service or environment, for routing: ``service.name``, ``deployment.environment.name``.
    service: str | None = None
    environment: str | None = None
    #: A segment's good end leaves the task waiting for its next prompt (an interactive coding session).
    is_session: bool = False

    # --- a model call -------------------------------------------------------------------------------------------
    usage: Usage | None = None
    #: Totals that a box reports over its calls: a flagged fallback where no call has tokens, never added.
    aggregate: Usage | None = None
    #: They are totals of a lifetime: of whose (its process and agent). The run before it is taken off.
    totals_of: str = ""
    response_id: str | None = None
    #: Model that answered, else the one asked for, as sent; and who serves it.
    model: str | None = None
    provider: str | None = None
    finish: Finish = Finish.UNKNOWN

    # --- a tool call --------------------------------------------------------------------------------------------
    tool_name: str | None = None
    tool_call_id: str | None = None
    #: It is no call of its own but a part of the one above it; of a model's: of one that another span counts.
    is_same_call: bool = False
    #: The tool call is known to have given no result (it waits for a person). Unknown is False.
    has_no_result: bool = False
    #: It is known to have given one: nobody is waited for. Unknown is False.
    has_result: bool = False

    # --- progress -----------------------------------------------------------------------------------------------
    #: One of the nine statuses, as the agent said it.
    status: str | None = None
    progress: float | None = None
    action: str | None = None
    step_name: str | None = None
    #: The message that `step_name` renders in English; None for an agent's own words.
    step_saying: LocaleMessage | None = None
    step_index: int | None = None
    step_count: int | None = None
    #: The step is that of a plan which the agent wrote down: its words are content.
    is_plan: bool = False
    #: What the agent says that this span cost; a model call's stands in its usage too.
    cost_usd: Decimal | None = None
    context_used: int | None = None
    context_window: int | None = None
    #: The context was compacted: by this event, or before this call. Tokens before and after, where that is said.
    compaction: tuple[int | None, int | None] | None = None
    links: dict[str, str] = {}
    results: dict[str, Any] = {}

    # --- what happened ------------------------------------------------------------------------------------------
    #: The span or event failed.
    failure: Failure | None = None
    #: What looks like a failure is a wait for a person (GraphInterrupt, WaitingForEvent, finish_reason interrupt).
    is_interrupt: bool = False
    #: The run was stopped on purpose (cancelled), however it says so.
    is_cancelled: bool = False
    tells: Tells = Tells.NOTHING
    message: str | None = None
    #: What it tells, where the words are spanpost's; `message` is then None.
    saying: LocaleMessage | None = None
    artifact: Artifact | None = None
    approval: Approval | None = None
    #: Only of what spanpost recorded itself (`Part.INTERVENTION`).
    act: Act | None = None
    #: Occurrence key within the span (exceptions) or task (artifacts, approvals); empty: name, time and ordinal are used.
    occurrence: str = ""
    #: Set by live records: the span is gone with its process (``agent.span.interrupted``).
    is_gone: bool = False
    #: Its process was not heard of any more, up to this moment (``agent.span.silent``); or it was again (``agent.span.heard``).
    is_stalled: bool = False
    is_heard: bool = False
    #: A heartbeat names its process's open roots: (trace id, span id).
    open_roots: tuple[tuple[bytes, bytes], ...] = ()
    #: A record that stands for a span of its own (a coding CLI's): (trace id, span id, parent id, start ns).
    stands_for: tuple[bytes, bytes, bytes, int] | None = None
    #: The record opens the span that it stands for; the end is told by another. Or it only happened on that span.
    is_open: bool = False
    is_event: bool = False
    #: When it was, where the record's own time does not order it; 0: the record's.
    at_ns: int = 0
    #: What all tellings of a call are known by, in whatever form and trace: of those that overlap in time one counts.
    call_key: str = ""
    #: What is open has answered, and rests unless something follows.
    rests: bool = False
    #: It rests whatever was begun: its prompt has been open for a while.
    is_idle: bool = False
    #: A model call beside the conversation (a sub-agent's, a title's): it says nothing of its context.
    is_aside: bool = False
    #: No sign of work, whatever it says.
    is_quiet: bool = False
    #: What a step is known by where names are not.
    step_key: str = ""
    #: A data point: counts where neither spans nor records tell.
    is_metered: bool = False

    @property
    def is_of_agent(self) -> bool:
        """True when the observation is worth recording; False for a span of which the edge alone is kept."""
        return self.role not in (Role.OTHER, Role.PLUMBING) or self.says_something

    @property
    def says_use(self) -> bool:
        """True when it says how many tokens a context holds."""
        return self.context_used is not None or (self.role == 2 and self.usage is not None and self.usage.input is not None)

    @property
    def says_something(self) -> bool:
        """True when an ``agent.*`` name, a wait for a person or a stop was read, whatever the role."""
        return bool(
            self.tells
            or self.task_id
            or self.status
            or self.action
            or self.step_name
            or self.is_plan
            or self.progress is not None
            or self.context_used is not None
            or self.context_window is not None
            or self.cost_usd is not None
            or self.links
            or self.results
            or self.is_gone
            or self.is_stalled
            or self.is_heard
            or self.is_interrupt
            or self.is_cancelled
            or self.open_roots
            or self.act is not None
            or self.approval is not None
        )
