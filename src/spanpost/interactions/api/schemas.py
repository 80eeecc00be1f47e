"""JSON of the API, as in its OpenAPI document.

Names are those of ``spanpost tasks --json``; times RFC 3339, UTC.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from spanpost.model.task_acts import TASK_ACTS

T = TypeVar("T")
#: What a sum of money is.
MONEY = "US dollars, as text so that no digit is lost; null if no price is known."


class FieldViolation(BaseModel):
    """A field of the request that is wrong."""

    field: str
    description: str


class ErrorDetail(BaseModel):
    """A google.rpc.ErrorInfo (`reason`, `domain`), RetryInfo (`retryDelay`) or BadRequest (`fieldViolations`)."""

    type: str = Field(alias="@type")
    reason: str | None = Field(default=None, description="A short word in upper case, for programs.")
    domain: str | None = None
    retryDelay: str | None = Field(default=None, description="Retry after this time: `5s`.")  # noqa: N815
    fieldViolations: list[FieldViolation] | None = None  # noqa: N815


class Error(BaseModel):
    """An error: a google.rpc.Status."""

    code: int = Field(description="A google.rpc.Code.")
    message: str = Field(description="What went wrong, for people, with the next step.")
    details: list[ErrorDetail] = []


class Items(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = Field(description="`cursor` of the next page; null at the end.")


class Me(BaseModel):
    """The caller, and their roles."""

    name: str
    provider: str = Field(description="`api` (a token), `oidc` (a person) or `local` (this machine).")
    email: str | None
    tenant: str
    roles: list[str]


class LoopBody(BaseModel):
    """A finding that an agent repeats itself without progress."""

    kind: str = Field(description="`same_call`, `cycle`, `same_error` or `no_progress`.")
    id: str
    tools: list[str]
    count: int = Field(description="How often the most frequent call was made; of `no_progress` the number of calls.")
    at: str | None
    is_dismissed: bool = Field(description="A person let it be, and it has not doubled since.")


class TotalsBody(BaseModel):
    """Figures of a task together with all tasks below it."""

    tasks: int
    llm_calls: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: str | None = Field(description=MONEY)
    unpriced_calls: int


class TaskSummary(BaseModel):
    """A task in a list. Names, actions and texts are the agents' own: untrusted."""

    uid: str = Field(description="Internal id; accepted wherever an id is asked for.")
    task_id: str
    parent_task_id: str | None
    parent_uid: str | None
    root_uid: str = Field(description="The topmost task above it, or its own.")
    tenant: str
    title: str = Field(
        description="What people read, the same everywhere: the name that its agent gave, else what was asked, else "
        "`name`, else the agent's, else the id."
    )
    name: str | None
    type: str | None
    agent_name: str | None
    environment: str | None
    service: str | None
    topic: str | None
    repo: str | None
    requested_by: str | None
    retry_of: str | None = Field(description="Id of the task that it retries.")
    caused_by: str | None = Field(description="Id of the task whose end started it.")
    order_id: str | None = Field(description="The order that started it.")
    status: str = Field(description="Current status: whether a task is stalled is judged at each read.")
    end_reason: str | None
    inferred: bool = Field(description="The status was inferred, not reported.")
    progress: float | None
    action: str | None = Field(
        description="What it does now: its agent's words, its working agents, or the call that is open."
    )
    last_checkpoint: str | None = Field(description="What its agent reported last.")
    last_checkpoint_at: str | None
    named: bool = Field(description="The agent named the run itself; else `ask` may title it.")
    ask: str | None = Field(description="What was asked of it, in a line; null unless content is kept.")
    answer: str | None = Field(description="What it answered, in a line; null unless content is kept.")
    step_name: str | None
    step_index: int | None
    step_count: int | None
    started_at: str | None
    ended_at: str | None
    last_event_at: str | None
    last_activity_at: str | None = Field(
        description="When it last did something, by its own clock: a call, a checkpoint, progress. A heartbeat is no "
        "activity. Of an ended task: its end."
    )
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: str | None = Field(description=MONEY)
    unpriced_calls: int
    context_used_tokens: int | None
    context_window_tokens: int | None
    context_window_source: str | None
    context_forecast: dict[str, Any] | None
    loop: LoopBody | None = Field(description="Set while an agent repeats itself without progress.")
    model: str | None
    llm_calls: int
    tool_calls: int
    tool_errors: int
    child_count: int
    child_failed: int
    working_children: int = Field(description="Tasks below it, at any depth, that are at work.")
    waiting_children: int = Field(description="Those that wait for a person.")
    failed_children: int = Field(description="Those that failed.")
    done_children: int = Field(description="Those that ended otherwise.")
    open_child_approvals: int = Field(description="Open questions of the tasks below it.")
    child_question: str | None = Field(description="The one that was asked first, in short.")
    child_question_uid: str | None = Field(description="The task that asks it.")
    waits_for_person: bool = Field(
        description="Its status is `waiting`, and a person has to act. False for a coding session between prompts."
    )
    open_approvals: int
    question: str | None = Field(description="Its open question to a person, in short.")
    failure: str | None = Field(description="Why it failed, in short.")
    announced: bool = Field(description="False for a task that is only recorded (a lone model call).")
    muted: bool
    cancel_by: str | None = Field(description="The person who asked to stop it.")
    paused_by: str | None
    session_id: str | None
    totals: TotalsBody | None = Field(
        default=None,
        description="Of a task with tasks below it: the figures of all. Streams, and the tasks within a task, "
        "leave it out.",
    )
    trace_id: str | None
    traceparent: str | None = Field(
        description="W3C trace context: an agent that starts in it is a task below this one."
    )


class StepBody(BaseModel):
    """A step of a plan."""

    name: str = Field(description="Calls of one tool in a row are one step: `read_file ×5`.")
    index: int | None
    at: str | None
    count: int = Field(description="Calls that are this step.")
    failed: bool = Field(description="The task failed in this step.")


class EvaluationBody(BaseModel):
    """An evaluation of the task's work."""

    name: str
    source: Literal["person", "telemetry"] = Field(description="`person`: a person's rating through spanpost.")
    score: float | None
    label: str | None
    explanation: str | None = Field(description="A person's comment, or the evaluator's words. Untrusted text.")
    by: str | None = Field(description="The person.")
    at: str | None


class ArtifactBody(BaseModel):
    """Something that the task made."""

    name: str
    uri: str | None
    kind: str | None


class FailureBody(BaseModel):
    """What went wrong in a task."""

    type: str | None
    message: str | None
    log_tail: str | None


class ReportedDecisionBody(BaseModel):
    """A decision that telemetry reports, not made through spanpost. Untrusted text."""

    decision: str
    by: str
    comment: str
    at: str | None


class AskedPlaceBody(BaseModel):
    """A place that was asked."""

    place: str
    at: str


class StandingBody(BaseModel):
    """A standing approval: what a person allows beyond one question. Untrusted text."""

    id: str
    scope: Literal["task", "hour", "always"]
    tool: str
    risk: str | None = Field(description="Only questions with this risk are covered.")
    task_uid: str
    agent: str | None
    repo: str | None
    service: str | None
    environment: str | None
    requested_by: str | None = Field(description="For `hour`: only tasks of this person are covered.")
    granted_by: str
    reason: str | None
    source: str
    granted_at: str
    expires_at: str
    revoked_at: str | None
    revoked_by: str | None
    used: int = Field(description="Questions that it decided.")
    last_used_at: str | None


class QuestionBody(BaseModel):
    """A question to a person, and its outcome. Untrusted text."""

    key: str = Field(description="Key for a decision. The same question in other words has another key.")
    id: str = Field(description="The agent's id of it.")
    state: Literal["open", "decided", "void", "expired", "withdrawn", "ended"]
    task_uid: str
    task_id: str | None
    task_name: str | None = Field(description="The task's title.")
    agent_name: str | None
    question: str | None
    detail: str | None
    options: list[str] = Field(description="Answers to choose from; empty: `approve` or `deny`.")
    risk: str | None
    tool: str | None = Field(description="The tool that it asks for.")
    scopes: list[Literal["once", "task", "hour", "always"]] = Field(
        description="How far an approval may go; empty if it is not open."
    )
    needs: int = Field(description="Number of different people who must approve.")
    approved_by: list[str] = Field(description="People who approved while more are needed.")
    asked: list[AskedPlaceBody] = Field(description="Places of its chain that were asked.")
    standing_approval: str | None = Field(description="The standing approval that decided it, or came of it.")
    is_whole: bool = Field(
        description="The question can be read completely. Otherwise it can be denied, and not approved."
    )
    hidden: list[Literal["secret", "cut", "invisible", "alike"]] = Field(
        description="Why it is not whole: a part looks like a secret, was cut when it was recorded, cannot be "
        "seen, or two options read alike."
    )
    requested_at: str
    expires_at: str | None
    decision: str | None
    by: str | None
    comment: str | None
    source: str | None = Field(description="Where it was decided; null for a decision that only telemetry reports.")
    decided_at: str | None
    is_asked: bool = Field(description="The agent asks spanpost itself, so telemetry does not answer it.")
    reported_decision: ReportedDecisionBody | None = Field(
        description="The decision that telemetry reports, if no person decided through spanpost."
    )
    acts: list[Literal["approve", "deny", "choose"]] = Field(
        description="What the caller may do with it now; empty if nothing, or if it is not open."
    )


class TaskWhole(TaskSummary):
    """A task with all its details."""

    aliases: list[str]
    agent_id: str | None
    agent_version: str | None
    runs: int
    steps: list[StepBody]
    artifacts: list[ArtifactBody]
    evaluations: list[EvaluationBody] = Field(description="Those that stand, the newest first.")
    approvals: list[QuestionBody]
    error: FailureBody | None
    links: dict[str, str]
    results: dict[str, Any]
    children: list[TaskSummary] = Field(description="The newest hundred; `GET /api/tasks?parent=` has all.")
    followed_by: list[TaskSummary] = Field(
        description="Tasks that retry it, or that its end started: the newest fifty; `GET /api/tasks?follows=` has all."
    )
    acts: list[Literal[tuple(map(str, TASK_ACTS))]] = Field(  # type: ignore[valid-type]  # the rows of a table
        description="What the caller may do with it now, by its state and the rules. Ask again when it changes."
    )


class TimelineEntryBody(BaseModel):
    """An entry of a task's timeline."""

    id: str
    at: str
    source: Literal["checkpoint", "event", "intervention"]
    kind: str = Field(description="A checkpoint's kind; `step`, `llm`, `tool` or `handoff`; or a person's act.")
    text: str
    message: str | None = Field(
        description="Message key of a checkpoint, whose English is `text`; null for other text."
    )
    values: dict[str, Any] = Field(description="Placeholders of the message, for other languages. Untrusted text.")
    status: str | None
    detail: str | None
    seconds: float | None
    by: str | None
    result: str | None = Field(description="Outcome of a person's act: `done`, `refused`, …")
    span_id: str | None
    content: dict[str, Any] | None = Field(description="Attributes as recorded, for auditors with `content=true`.")


class ParameterBody(BaseModel):
    """A parameter that a launcher declares: a start is checked against it."""

    name: str
    kind: Literal["text", "choice", "number"]
    label: str = Field(description="Its name for people; empty: `name`.")
    hint: str
    required: bool
    default: str = Field(description="The value if none is given.")
    choices: list[str] = Field(description="The values of a `choice`.")
    minimum: float | None
    maximum: float | None


class LauncherBody(BaseModel):
    """A launcher, which starts work."""

    name: str
    parameters: list[ParameterBody] = Field(description="Empty: it accepts any parameters.")


class BatchItem(BaseModel):
    """The outcome for one question of several."""

    key: str
    result: Literal[
        "done", "counted", "decided", "void", "expired", "too_late", "hidden", "no_scope", "refused", "unknown"
    ] = Field(description="`hidden`: it cannot be read completely, and was left out.")
    decision: str | None
    by: str | None
    reason: str | None = Field(description="Why the answer has no effect on it.")


class ActResult(BaseModel):
    """The outcome of an act."""

    result: Literal["done", "counted"] = Field(
        description="`counted`: the approval counts, and more people must approve."
    )
    task_id: str | None
    decision: str | None
    by: str | None
    order_id: str | None = Field(
        description="For a start or a retry: the id of the order. The resulting task has the same; "
        "`GET /api/tasks?order=` finds it."
    )
    approvals: int = Field(description="People who approved, where several must.")
    needs: int = Field(description="People who must approve.")
    standing_approval: str | None = Field(description="The standing approval that was granted or revoked.")
    is_repeat: bool = Field(description="The act is a repeat; this is the first answer.")
    message: str = Field(description="What was done, in a sentence for people.")
