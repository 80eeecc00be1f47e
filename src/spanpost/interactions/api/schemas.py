"""The JSON of the API, as its OpenAPI document tells it. Names are those of ``spanpost tasks --json``; a time is RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")
_MONEY = "US dollars, as text so that no digit is lost; null where no price is known."


class FieldViolation(BaseModel):
    """A field of the request that is wrong."""

    field: str
    description: str


class ErrorDetail(BaseModel):
    """One of google.rpc.ErrorInfo (`reason`, `domain`), RetryInfo (`retryDelay`) and BadRequest (`fieldViolations`)."""

    type: str = Field(alias="@type")
    reason: str | None = Field(default=None, description="A short word in upper case, for programs.")
    domain: str | None = None
    retryDelay: str | None = Field(default=None, description="Come back after so long: `5s`.")  # noqa: N815
    fieldViolations: list[FieldViolation] | None = None  # noqa: N815


class Error(BaseModel):
    """An answer that is no success: a google.rpc.Status."""

    code: int = Field(description="A google.rpc.Code.")
    message: str = Field(description="What went wrong, for people, with the next step.")
    details: list[ErrorDetail] = []


class Items(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = Field(description="`cursor` of the next page; null at the end.")


class Me(BaseModel):
    """Who one is, and what one may."""

    name: str
    provider: str = Field(description="`api` (a token), `oidc` (a person) or `local` (this machine).")
    email: str | None
    tenant: str
    roles: list[str]


class TaskSummary(BaseModel):
    """A task in a list. Names, actions and texts are the agents' own: untrusted."""

    uid: str = Field(description="Internal identity; good wherever an id is asked for.")
    task_id: str
    parent_task_id: str | None
    parent_uid: str | None
    root_uid: str = Field(description="The topmost task above it, or itself.")
    tenant: str
    name: str | None
    type: str | None
    agent_name: str | None
    environment: str | None
    service: str | None
    topic: str | None
    repo: str | None
    requested_by: str | None
    retry_of: str | None = Field(description="Id of the task that it does again.")
    caused_by: str | None = Field(description="Id of the task whose end started it.")
    order_id: str | None = Field(description="The order that started it.")
    status: str = Field(description="As it is now: silence is judged when it is read.")
    end_reason: str | None
    inferred: bool = Field(description="The status was concluded, not said.")
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
    question: str | None = Field(description="What it asks of a person now, in short.")
    failure: str | None = Field(description="Why it failed, in short.")
    announced: bool = Field(description="False for what is recorded and not told (a lone model call).")
    muted: bool
    cancel_by: str | None = Field(description="Who asked to stop it.")
    paused_by: str | None
    session_id: str | None
    trace_id: str | None
    traceparent: str | None = Field(description="W3C trace context: an agent that starts in it is a task below this one.")


class StepBody(BaseModel):
    """A step of a plan."""

    name: str
    index: int | None
    at: str | None


class ArtifactBody(BaseModel):
    """Something that was made."""

    name: str
    uri: str | None
    kind: str | None


class FailureBody(BaseModel):
    """What went wrong in a task."""

    type: str | None
    message: str | None
    log_tail: str | None


class ReportedDecisionBody(BaseModel):
    """A decision as telemetry tells it: nobody decided it through spanpost. Untrusted text."""

    decision: str
    by: str
    comment: str
    at: str | None


class QuestionBody(BaseModel):
    """A question to a person, and what became of it. Untrusted text."""

    key: str = Field(description="By which it is decided. Asked again in other words it is another.")
    id: str = Field(description="As the agent gave it.")
    state: Literal["open", "decided", "void", "expired"]
    task_uid: str
    task_id: str | None
    task_name: str | None
    agent_name: str | None
    question: str | None
    detail: str | None
    options: list[str] = Field(description="Answers to choose from; empty: `approve` or `deny`.")
    risk: str | None
    is_whole: bool = Field(description="All that was asked can be read here. What is not whole can be denied, and not approved.")
    hidden: list[Literal["secret", "cut", "invisible", "alike"]] = Field(
        description="Why it is not whole: a part looks like a secret, was cut when it was recorded, cannot be seen, or two options read alike."
    )
    requested_at: str
    expires_at: str | None
    decision: str | None
    by: str | None
    comment: str | None
    source: str | None = Field(description="How it was decided; null for a decision that only telemetry told.")
    decided_at: str | None
    is_asked: bool = Field(description="Spanpost itself is asked, so that no telemetry answers it.")
    told: ReportedDecisionBody | None = Field(description="What telemetry tells of a decision where nobody has decided.")
    acts: list[Literal["approve", "deny", "choose"]] = Field(
        description="What who asks may do with it now; empty where nothing, or where it is not open."
    )


class TaskWhole(TaskSummary):
    """A task with all that belongs to it."""

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
        description="Those that retry it, or that its end started: the newest fifty; `GET /api/tasks?follows=` has all."
    )
    acts: list[Literal["cancel", "pause", "resume", "retry", "message", "mute", "unmute"]] = Field(
        description="What who asks may ask of it now, as it is and as the rules say. Ask anew when it changes."
    )


class TimelineEntryBody(BaseModel):
    """A line of a task's timeline."""

    id: str
    at: str
    source: Literal["checkpoint", "event", "intervention"]
    kind: str = Field(description="A checkpoint's kind; `step`, `llm`, `tool` or `handoff`; or what a person did.")
    text: str
    message: str | None = Field(description="Key of the message that a checkpoint's text renders in English; null for other words.")
    values: dict[str, Any] = Field(description="What fills the message, for other languages. Untrusted text.")
    status: str | None
    detail: str | None
    seconds: float | None
    by: str | None
    result: str | None = Field(description="What became of what a person did: `done`, `refused`, …")
    span_id: str | None
    content: dict[str, Any] | None = Field(description="Attributes as recorded: for auditors who ask with `content=true`.")


class SumsBody(BaseModel):
    """What some tasks came to. Tokens and cost are those of their own model calls."""

    tasks: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: str | None = Field(description=_MONEY)
    unpriced_calls: int
    llm_calls: int
    tool_calls: int
    tool_errors: int
    ended: int
    seconds_mean: float | None = Field(description="Of those that ended.")
    seconds_p50: float | None
    seconds_p95: float | None


class AgentSums(SumsBody):
    """Of an agent."""

    agent_name: str | None


class DaySums(SumsBody):
    """Of a day (UTC)."""

    day: str | None


class StatusSums(SumsBody):
    """Of a status."""

    status: str | None


class StatsBody(BaseModel):
    """Sums over the announced tasks that began within a time."""

    since: str
    until: str
    total: SumsBody
    agents: list[AgentSums] = Field(description="The 200 with most tasks.")
    days: list[DaySums]
    statuses: list[StatusSums]


class BudgetSpent(BaseModel):
    """What is spent of a budget in its period of now, by those whom it is kept for."""

    budget: str
    scope: dict[str, str] = Field(description="Whom it is kept for, by attribute; empty: all of the tenant.")
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
    """How often a provider held calls of one account back in one day (UTC)."""

    account: str
    provider: str
    model: str
    kind: Literal["rate_limit", "quota"]
    day: str
    count: int


class UsageBody(BaseModel):
    """Budgets, fullest first, and what providers held back, newest first."""

    budgets: list[BudgetSpent]
    provider_limits: list[ProviderLimit]


class LauncherBody(BaseModel):
    """What starts work."""

    name: str


class ActResult(BaseModel):
    """What became of an act that stands."""

    result: Literal["done"]
    task_id: str | None
    decision: str | None
    by: str | None
    order_id: str | None = Field(
        description="Of a start or a retry: what was ordered. The task that comes of it has the same; `GET /api/tasks?order=` finds it."
    )
    is_repeat: bool = Field(description="The same act was heard before, and this is its answer.")
