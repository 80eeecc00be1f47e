"""A task as people see it: the row, the message, the list entry."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.context import Forecast
from spanpost.model.evaluations import Evaluation
from spanpost.model.loops import Loop
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.semconv import ALERT, WAITING

#: `Task.end_reason` of a merged task, shown in the last state of its message (`Delivery.has_moved`).
MERGED: Final = "merged"
#: `Task.rule` of a session that answered: it waits for its person's next prompt, and asked nobody anything.
BETWEEN_PROMPTS: Final = "session between prompts"
#: `Task.shown_status` of such a session.
RESTING: Final = "between_prompts"


def waits_for_person(status: str, rule: str) -> bool:
    """Tell whether a status, concluded by a rule, means that a person has to act before the task goes on."""
    return status == WAITING and rule != BETWEEN_PROMPTS


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of a plan, by its index (from 1) where the agent gave one."""

    name: str
    index: int | None = None
    at: datetime | None = None
    #: Calls of one tool in a row, which are one step (`name` says it, too).
    count: int = 1
    #: The task failed in this step.
    is_failed: bool = False
    #: The message that `name` renders in English; None for an agent's own words.
    message: LocaleMessage | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run of an agent on one piece of work, as known now.

    Figures are of the task's own calls, without its child tasks; `None` is unknown. `status` is one of the
    nine; `is_inferred` marks one that was concluded rather than reported, with the rule in `rule`.
    """

    uid: UUID
    tenant: str
    #: The public id: the highest-ranked alias known.
    task_id: str
    aliases: tuple[str, ...] = ()
    parent_uid: UUID | None = None
    parent_task_id: str | None = None
    #: Root of its tree of tasks: the task whose message shows it.
    root_uid: UUID | None = None
    #: Uid of that message: the root's own, or that of a provisional task whose message the root took over.
    message_uid: UUID | None = None
    trace_id: bytes = b""
    span_id: bytes = b""
    name: str = ""
    type: str | None = None
    agent_name: str | None = None
    agent_id: str | None = None
    agent_version: str | None = None
    service: str | None = None
    environment: str | None = None
    repo: str | None = None
    topic: str | None = None
    requested_by: str | None = None
    retry_of: str | None = None
    #: The task whose end started this one, and the launch order that did, as the agent reports them.
    caused_by: str | None = None
    order_id: str | None = None
    session_id: str | None = None

    status: str = "working"
    end_reason: str | None = None
    is_inferred: bool = False
    rule: str = ""
    #: False for a task that is only recorded (a lone model call, a trace whose root is not known yet).
    is_announced: bool = True
    progress: float | None = None
    #: What it does now: the agent's words, its working agents, or the call that is open.
    action: str | None = None
    #: The last checkpoint that its agent reported, and when (sender's clock).
    last_checkpoint: str | None = None
    last_checkpoint_at: datetime | None = None
    #: The agent named the run itself (`agent.task.name`); else what was asked may title it.
    is_named: bool = False
    #: What was asked of it, and what it answered: a line each, where content is kept.
    ask: str | None = None
    answer: str | None = None
    step_name: str | None = None
    step_index: int | None = None
    step_count: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: The newest event of the task (sender's clock).
    last_event_at: datetime | None = None
    #: When it last did something: a call, a checkpoint, progress (sender's clock). A heartbeat is no activity.
    #: Of an ended task: its end.
    last_activity_at: datetime | None = None
    runs: int = 1

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    #: Model calls whose cost is unknown: `cost_usd` is then of the others.
    unpriced_calls: int = 0
    context_used_tokens: int | None = None
    context_window_tokens: int | None = None
    #: Where the window is from: given, said, observed, table, default (`spanpost.tasks.context`); empty when
    #: unknown.
    context_window_source: str = ""
    #: The model of that window, and its maximum output tokens.
    context_model: str | None = None
    context_max_output_tokens: int | None = None
    #: When the next warning limit will be reached; None: no forecast.
    context_forecast: Forecast | None = None
    model: str | None = None
    llm_calls: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    error_count: int = 0
    #: Child tasks, and how many of them failed.
    child_count: int = 0
    child_failed: int = 0
    #: Tasks below it, at any depth, by what they do; their open questions, the one asked first, and its task.
    working_children: int = 0
    waiting_children: int = 0
    failed_children: int = 0
    done_children: int = 0
    open_child_approvals: int = 0
    child_question: str | None = None
    child_question_uid: UUID | None = None

    steps: tuple[Step, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    #: Requested approvals, with their decisions.
    approvals: tuple[Approval, ...] = ()
    #: The agent repeats itself without progress: the gravest finding of its runs; None: none.
    loop: Loop | None = None
    #: People's ratings and results of evaluators, the newest first.
    evaluations: tuple[Evaluation, ...] = ()
    #: A person muted it (`Verb.MUTE`).
    is_muted: bool = False
    #: The person who asked to cancel it and when (`Verb.CANCEL`); it runs until the agent obeys.
    cancel_by: str = ""
    cancel_at: datetime | None = None
    #: The person who asked to pause it (`Verb.PAUSE`); empty: not paused.
    paused_by: str = ""
    links: dict[str, str] = {}
    results: dict[str, Any] = {}
    error: Failure | None = None
    #: Attributes that routes and budgets name, as texts; no others are kept.
    attributes: dict[str, str] = {}
    #: Messages that fields render in English, by field: action, last_checkpoint, step_name, error, cancel_by,
    #: paused_by.
    messages: dict[str, LocaleMessage] = {}

    @property
    def is_alert(self) -> bool:
        """True for an alert that names no task: it has its own message and is no agent's work."""
        return self.type == ALERT and self.agent_name is None

    @property
    def waits_for_person(self) -> bool:
        """True for a task that a person keeps waiting. False for a session between prompts."""
        return waits_for_person(self.status, self.rule)

    @property
    def shown_status(self) -> str:
        """The status by which people see and count it: one of the nine, or `RESTING`."""
        return RESTING if self.status == WAITING and not self.waits_for_person else self.status

    @property
    def open_approvals(self) -> tuple[Approval, ...]:
        """Questions without an answer."""
        return tuple(a for a in self.approvals if a.is_open)

    def approval_of(self, checkpoint_id: UUID) -> Approval | None:
        """Return the question that a checkpoint (`APPROVAL_REQUESTED`) reported or escalated."""
        return next((a for a in self.approvals if checkpoint_id in (a.reported_by, a.escalated_by)), None)

    @property
    def context_share(self) -> float | None:
        """Used share of the context window, 0 to 1 (above 1 when the window is wrong); None when unknown."""
        if self.context_used_tokens is None or not self.context_window_tokens:
            return None
        return self.context_used_tokens / self.context_window_tokens
