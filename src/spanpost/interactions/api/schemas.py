"""JSON of the API, as in its OpenAPI document.

Names are those of ``spanpost tasks --json``; times RFC 3339, UTC.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")
_MONEY = "US dollars, as text so that no digit is lost; null if no price is known."


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


class TaskSummary(BaseModel):
    """A task in a list. Names, actions and texts are the agents' own: untrusted."""

    uid: str = Field(description="Internal id; accepted wherever an id is asked for.")
    task_id: str
    parent_task_id: str | None
    parent_uid: str | None
    root_uid: str = Field(description="The topmost task above it, or its own.")
    tenant: str
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
    action: str | None
    step_name: str | None
    step_index: int | None
    step_count: int | None
    started_at: str | None
    ended_at: str | None
    last_event_at: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: str | None = Field(description=_MONEY)
    unpriced_calls: int
    context_used_tokens: int | None
    context_window_tokens: int | None
    context_window_source: str | None
    context_forecast: dict[str, Any] | None
    model: str | None
    llm_calls: int
    tool_calls: int
    tool_errors: int
    child_count: int
    child_failed: int
    open_approvals: int
    question: str | None = Field(description="Its open question to a person, in short.")
    failure: str | None = Field(description="Why it failed, in short.")
    announced: bool = Field(description="False for a task that is only recorded (a lone model call).")
    muted: bool
    cancel_by: str | None = Field(description="The person who asked to stop it.")
    paused_by: str | None
    session_id: str | None
    trace_id: str | None
    traceparent: str | None = Field(
        description="W3C trace context: an agent that starts in it is a task below this one."
    )


class StepBody(BaseModel):
    """A step of a plan."""

    name: str
    index: int | None
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


class QuestionBody(BaseModel):
    """A question to a person, and its outcome. Untrusted text."""

    key: str = Field(description="Key for a decision. The same question in other words has another key.")
    id: str = Field(description="The agent's id of it.")
    state: Literal["open", "decided", "void", "expired"]
    task_uid: str
    task_id: str | None
    task_name: str | None
    agent_name: str | None
    question: str | None
    detail: str | None
    options: list[str] = Field(description="Answers to choose from; empty: `approve` or `deny`.")
    risk: str | None
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
    approvals: list[QuestionBody]
    error: FailureBody | None
    links: dict[str, str]
    results: dict[str, Any]
    children: list[TaskSummary] = Field(description="The newest hundred; `GET /api/tasks?parent=` has all.")
    followed_by: list[TaskSummary] = Field(
        description="Tasks that retry it, or that its end started: the newest fifty; `GET /api/tasks?follows=` has all."
    )
    acts: list[Literal["cancel", "pause", "resume", "retry", "message", "mute", "unmute"]] = Field(
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


class SumsBody(BaseModel):
    """Sums over tasks. Tokens and cost are those of the tasks' own model calls."""

    tasks: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: str | None = Field(description=_MONEY)
    unpriced_calls: int
    llm_calls: int
    tool_calls: int
    tool_errors: int
    ended: int
    seconds_mean: float | None = Field(description="Seconds, of the tasks that ended.")
    seconds_p50: float | None
    seconds_p95: float | None


class AgentSums(SumsBody):
    """Sums of an agent."""

    agent_name: str | None


class DaySums(SumsBody):
    """Sums of a day (UTC)."""

    day: str | None


class StatusSums(SumsBody):
    """Sums of a status."""

    status: str | None


class StatsBody(BaseModel):
    """Sums over the announced tasks that began in a period."""

    since: str
    until: str
    total: SumsBody
    agents: list[AgentSums] = Field(description="The 200 agents with most tasks.")
    days: list[DaySums]
    statuses: list[StatusSums]


class BudgetSpent(BaseModel):
    """Spending from a budget in its current period, for one scope."""

    budget: str
    scope: dict[str, str] = Field(description="Its scope by attribute; empty: the whole tenant.")
    began_at: str
    ends_at: str
    cost_usd: str
    tokens: int
    calls: int
    unpriced_calls: int
    limit_usd: str | None
    limit_tokens: int | None
    left_usd: str | None
    left_tokens: int | None
    share: float = Field(description="Used share of the tighter limit; above 1 when it is overspent.")


class ProviderLimit(BaseModel):
    """How often a provider limited the calls of an account in one day (UTC)."""

    account: str
    provider: str
    model: str
    kind: Literal["rate_limit", "quota"]
    day: str
    count: int


class UsageBody(BaseModel):
    """Budgets, fullest first, and provider limits, newest first."""

    budgets: list[BudgetSpent]
    provider_limits: list[ProviderLimit]


class LauncherBody(BaseModel):
    """A launcher, which starts work."""

    name: str


class ActResult(BaseModel):
    """The outcome of an act."""

    result: Literal["done"]
    task_id: str | None
    decision: str | None
    by: str | None
    order_id: str | None = Field(
        description="For a start or a retry: the id of the order. The resulting task has the same; "
        "`GET /api/tasks?order=` finds it."
    )
    is_repeat: bool = Field(description="The act is a repeat; this is the first answer.")
