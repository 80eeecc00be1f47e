"""A reading: the meaning of an observation, in one vocabulary for all dialects."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.evaluations import Evaluation
from spanpost.model.messages import LocaleMessage
from spanpost.model.usage import Usage
from spanpost.semconv import WITHDRAWAL


class Role(IntEnum):
    """The kind of a span. Stored in nodes: never renumber."""

    #: Not an agent's (HTTP, database, user code): transparent, only its edge is kept.
    OTHER = 0
    #: A part of an agent's machinery: a turn, a node, a cycle. Transparent for placement.
    STEP = 1
    LLM = 2  # a model call
    TOOL = 3
    #: Root spans: they own the subtree below them.
    AGENT = 4
    WORKFLOW = 5
    #: A span with ``agent.task.id`` or ``agent.task.name``.
    TASK = 6
    #: Set-up and message plumbing of frameworks: ignored, its edge and links are kept.
    PLUMBING = 7
    HANDOFF = 8

    @property
    def is_root_span(self) -> bool:
        """True for spans that always own the subtree below them."""
        return 4 <= self <= 6  # naming the members would cost a microsecond


class Finish(IntEnum):
    """Why a model stopped."""

    UNKNOWN = 0
    STOP = 1
    TOOLS = 2  # it calls tools
    LENGTH = 3
    FILTER = 4
    ERROR = 5
    ASKS = 6  # for a tool that a person must approve
    REFUSAL = 7
    GUARDRAIL = 8
    STEPS = 9  # the maximum of steps of a run


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A failure. `log_tail` only when the agent gave it."""

    type: str = ""
    message: str = ""
    log_tail: str = ""


class Artifact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A result that a task produced."""

    name: str
    uri: str = ""
    kind: str = ""

    @property
    def key(self) -> str:
        """Its key: the uri, else the name."""
        return self.uri or self.name


class ReportedDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A decision reported by telemetry. It is only shown when the question is put to spanpost."""

    decision: str
    by: str = ""
    comment: str = ""
    at: datetime | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question to a person (`decision` empty) or the answer to it.

    A task's `approvals` hold one for each wording of each question and each trace that asked it. Of one id
    the newest wording of a trace stands and its others are void; the same id in another trace is another
    question.
    """

    id: str
    question: str = ""
    detail: str = ""
    options: tuple[str, ...] = ()
    risk: str = ""
    #: Name of the tool that it asks for; empty: none.
    tool: str = ""
    #: Number of different people who must approve.
    needs: int = 1
    #: Who is asked, one after the other, and how many seconds each has before the next is asked.
    to: tuple[str, ...] = ()
    to_after: float = 0.0
    #: As the agent wrote it (RFC 3339 text or Unix seconds); it may not be a time.
    expires_at: str = ""
    decision: str = ""
    by: str = ""
    comment: str = ""
    #: What the agent wants when the deadline passes: wait, deny, escalate or expire; empty: the settings
    #: decide.
    at_expiry: str = ""
    #: Mark of the wording. Of a question: computed here from all its words as received
    #: (`semconv.question_mark`). Of an answer: as sent; empty: it answers every wording of its id.
    mark: str = ""
    #: The question is put to spanpost (it has a mark, or an agent waits for it): only a person or the
    #: deadline decides.
    is_asked: bool = False
    #: Some words are missing or changed: too long, cut on the way, or not the words of its mark.
    is_cut: bool = False
    #: Its mark is of other words: something on the way changed them, or the sender computes it wrongly.
    is_altered: bool = False
    has_id: bool = True  #: False: the agent gave none: the words identify it, spanpost cannot answer it.
    #: Seconds before people are asked.
    ask_after: float = 0.0
    #: Session and directory of the run that a decision resumes; empty: none.
    resume: tuple[str, ...] = ()
    #: Where the decision came from: empty: telemetry; else slack, api, app, cli, ``rule`` (a standing approval),
    #: ``spanpost`` at a deadline, or ``withdrawal`` where nothing waits for it any more.
    source: str = ""
    #: The deadline passed without a decision. `decision` is then ``expired``, or ``deny`` if that was asked
    #: for.
    is_expired: bool = False
    #: The standing approval that decided it, or that its decision granted.
    rule: str = ""

    # --- of a task's approvals, not of a reading ------------------------------------------------------------------
    #: Names of the people who approved while more are needed.
    approved_by: tuple[str, ...] = ()
    #: The places of `to` that were asked, as addresses of Slack; the person for whom the task runs, where known.
    asked: tuple[str, ...] = ()
    owner: str = ""
    #: How often the next place was asked.
    passed_on: int = 0
    #: The decision reported by the trace that asked, when it is not the one that stands.
    reported_decision: ReportedDecision | None = None
    #: The key that a button carries; None: it cannot be answered.
    key: UUID | None = None
    #: The checkpoints of the question, and of its escalation.
    reported_by: UUID | None = None
    escalated_by: UUID | None = None
    #: The same trace asked again in other words: this wording is void.
    is_void: bool = False
    #: Its task ended without an answer: nothing waits for one.
    is_ended: bool = False
    asked_at: datetime | None = None
    #: `expires_at` as a time, else from the settings; None: never.
    deadline: datetime | None = None
    decided_at: datetime | None = None
    #: When it was escalated, because the deadline passed without an answer.
    escalated_at: datetime | None = None
    #: Trace and span (hex, with a dash between) of the newest request.
    span: str = ""

    @property
    def is_open(self) -> bool:
        """True while it waits for an answer."""
        return not self.decision and not self.is_void and not self.is_ended

    @property
    def is_withdrawn(self) -> bool:
        """True if nothing waits for the answer any more: it was settled where the agent runs, or given up."""
        return self.source == WITHDRAWAL

    @property
    def ask_at(self) -> datetime | None:
        """When people are asked; None: at once."""
        return self.asked_at + timedelta(seconds=self.ask_after) if self.asked_at and self.ask_after else None


class Act(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A person's intervention on a task, as recorded: cancel, pause, resume, retry, mute, unmute, dismiss,
    message, rate.
    """

    verb: str
    by: str = ""
    text: str = ""
    source: str = ""
    #: The newest event known of the task then, by the senders' clocks; 0: not stored.
    seen_ns: int = 0
    #: Of a dismissal: the finding (`Loop.id`) and its count then.
    finding: str = ""
    count: int = 0


#: Parent of a session's metric data points; no real span id. They count only where no span or record reports
#: usage.
METERED = b"\0metered"


class EventReport(IntEnum):
    """What an event reports that becomes a checkpoint at once."""

    NOTHING = 0
    CHECKPOINT = 1
    ARTIFACT = 2
    ERROR = 3
    APPROVAL_REQUESTED = 4
    APPROVAL_RESOLVED = 5
    COMPACTION = 6
    ALERT = 7
    #: A share of a budget was spent.
    BUDGET = 8


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The meaning of one observation. What was not said is `None` or empty; nothing is guessed here.

    A span reading (parts ENDED and STARTED) says what the span is (`role`); an event or log reading
    (`EVENT`, `LOG`) says what happened on a span and has role OTHER unless the record stands for a span of
    its own (`stands_for`).
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
    #: The agent's name, cleaned, *when the span is that agent's root span*; for child spans see
    #: `agent_label`.
    agent_name: str | None = None
    agent_id: str | None = None
    agent_version: str | None = None
    #: The agent's name that any other span gives.
    agent_label: str | None = None
    repo: str | None = None
    topic: str | None = None
    requested_by: str | None = None
    retry_of: str | None = None
    caused_by: str | None = None
    order_id: str | None = None
    conversation_id: str | None = None
    #: The service and environment, for routing: ``service.name``, ``deployment.environment.name``.
    service: str | None = None
    environment: str | None = None
    #: After a good end the task waits for its next prompt (an interactive coding session).
    is_session: bool = False
    is_unattended: bool = False  #: it does not, whatever else says that it has: no person is at the terminal

    # --- a model call -------------------------------------------------------------------------------------------
    usage: Usage | None = None
    #: Totals of its calls that a root span reports: a marked fallback when no call has tokens, never added.
    aggregate: Usage | None = None
    #: Whose lifetime totals they are (process and agent), of which those before the run are subtracted.
    totals_of: str = ""
    response_id: str | None = None
    #: The model that answered, else the one requested, as sent; and its provider.
    model: str | None = None
    provider: str | None = None
    finish: Finish = Finish.UNKNOWN
    asked_ids: tuple[str, ...] = ()  #: of the tool calls that its answer asks for
    answered_ids: tuple[str, ...] = ()  #: of the tool calls whose results end its input

    # --- a tool call --------------------------------------------------------------------------------------------
    tool_name: str | None = None
    tool_call_id: str | None = None
    #: Not a call of its own: part of the tool call above, or of a model call that another span counts.
    is_same_call: bool = False
    #: It is known to have no result (it waits for a person), it may wait for one unless a model turn follows, or it
    #: is known to have a result. All False: unknown.
    has_no_result: bool = False
    may_wait: bool = False
    has_result: bool = False

    # --- progress -----------------------------------------------------------------------------------------------
    #: One of the nine statuses, as the agent said it.
    status: str | None = None
    progress: float | None = None
    action: str | None = None
    step_name: str | None = None
    #: The message that `step_name` renders in English; None for an agent's own words.
    step_message: LocaleMessage | None = None
    step_index: int | None = None
    step_count: int | None = None
    #: The step is one of a plan that the agent wrote: its words are content.
    is_plan: bool = False
    #: The cost that the agent gave for this span; a model call has it in `usage`, too.
    cost_usd: Decimal | None = None
    context_used: int | None = None
    context_window: int | None = None
    #: The context was compacted by this event or before this call: tokens before and after.
    compaction: tuple[int | None, int | None] | None = None
    links: dict[str, str] = {}
    results: dict[str, Any] = {}
    #: What a person asked, and what the model said last ("": nothing in words): one line each, set only where
    #: content is kept. `is_of_run`: of the whole run, not of one call.
    ask: str | None = None
    answer: str | None = None
    is_of_run: bool = False

    # --- what happened ------------------------------------------------------------------------------------------
    #: The span or event failed.
    failure: Failure | None = None
    #: It looks like a failure and is a wait for a person (GraphInterrupt, WaitingForEvent).
    is_interrupt: bool = False
    is_handoff: bool = False  #: It looks like a failure and is a handoff to another agent (ParentCommand).
    is_cancelled: bool = False  #: The run was cancelled on purpose.
    reports: EventReport = EventReport.NOTHING
    message: str | None = None
    #: The message in spanpost's words; `message` is then None.
    locale_message: LocaleMessage | None = None
    artifact: Artifact | None = None
    approval: Approval | None = None
    #: Only in spanpost's own records (`Part.INTERVENTION`).
    act: Act | None = None
    #: A person's rating in spanpost's own records, else a result that telemetry reports.
    evaluation: Evaluation | None = None
    #: Its key within the span (exceptions) or task (artifacts, approvals); empty: name, time and ordinal.
    occurrence: str = ""
    #: Of live records: the span ended with its process (``agent.span.interrupted``).
    is_gone: bool = False
    #: Its process stalled then (``agent.span.stalled``), or was seen again (``agent.span.recovered``).
    is_stalled: bool = False
    is_recovered: bool = False
    #: Of a heartbeat: its process's open roots (trace id, span id).
    open_roots: tuple[tuple[bytes, bytes], ...] = ()
    #: The span that a log record stands for (a coding CLI's): (trace id, span id, parent id, start ns).
    stands_for: tuple[bytes, bytes, bytes, int] | None = None
    #: The record starts that span, and another ends it; or it is an event on that span.
    is_open: bool = False
    is_event: bool = False
    #: The time of the occurrence where the record's own time is wrong for ordering; 0: the record's.
    at_ns: int = 0
    call_key: str = ""  #: common to all copies of a call, in any form and trace: of those at one time one counts
    #: The open run has answered; it rests unless something follows.
    rests: bool = False
    #: It rests even if something was begun: its prompt has been open for a while.
    is_idle: bool = False
    begins_tool: bool = False  #: a tool was called that no span shows yet: it runs, or waits for permission
    #: A model call outside the conversation (a sub-agent's, a title's): it says nothing about the context.
    is_aside: bool = False
    is_quiet: bool = False  #: it is no sign of work
    #: Identity of a step whose name does not identify it.
    step_key: str = ""
    #: A metric data point: counts where neither spans nor records report usage.
    is_metered: bool = False

    @property
    def is_of_agent(self) -> bool:
        """True when the observation is recorded; False for a span of which only the edge is kept."""
        return self.role not in (Role.OTHER, Role.PLUMBING) or self.says_something

    @property
    def says_use(self) -> bool:
        """True when it reports how many tokens a context holds."""
        return self.context_used is not None or (
            self.role == 2 and self.usage is not None and self.usage.input is not None
        )

    @property
    def says_something(self) -> bool:
        """True when an ``agent.*`` name, a wait for a person or a stop was read, whatever the role."""
        return bool(
            self.reports
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
            or self.is_recovered
            or self.is_interrupt
            or self.is_cancelled
            or self.open_roots
            or self.act is not None
            or self.approval is not None
            or self.evaluation is not None
            or self.ask is not None
            or self.answer is not None
        )
