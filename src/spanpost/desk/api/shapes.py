"""The JSON of the API, as its OpenAPI document tells it. Names are those of ``spanpost tasks --json``."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="A short word, for programs.")
    message: str = Field(description="The same for people, with the next step.")
    field: str | None = Field(default=None, description="What was wrong, where one field was.")


class Error(BaseModel):
    """An answer that is no success."""

    error: ErrorBody


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
    """A task in a list."""

    uid: str = Field(description="Internal identity; good wherever an id is asked for.")
    task_id: str
    parent_task_id: str | None
    parent_uid: str | None
    name: str | None
    type: str | None
    agent_name: str | None
    environment: str | None
    topic: str | None
    repo: str | None
    requested_by: str | None
    retry_of: str | None
    status: str
    end_reason: str | None
    inferred: bool
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
    cost_usd: str | None = Field(description="US dollars, as text so that no digit is lost.")
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
    muted: bool
    session_id: str | None
    trace_id: str | None
