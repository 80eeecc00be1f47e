"""Settings of the section `api`: the HTTP API of the gateway."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from spanpost.http.urls import http_url
from spanpost.interactions.authorization import CallerRole
from spanpost.settings.section import Duration, Section


class ApiSettings(Section):
    """The HTTP API of `spanpost run`, under `/api` on its HTTP port. `interactions.tokens` and `oidc` give
    access to it.
    """

    enabled: bool = Field(default=True, description="`false` turns the API off.")
    public_url: str = Field(
        default="",
        description="Address under which people reach this gateway: `https://agents.example.com`. Messages then link "
        "each task to its page on the board. It ends before `/board`.",
    )
    local: bool = Field(
        default=True,
        description="Accept this machine's token (`spanpost token local`) on a loopback address where no other token "
        "is required. `false`: the API always requires a token of `interactions.tokens` or a login.",
    )
    local_roles: tuple[CallerRole, ...] = Field(
        default=(),
        description='Roles of this machine\'s token besides `viewer`: `["operator", "approver"]` for yourself.',
    )
    max_streams: int = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Maximum number of open event streams (`/api/events`), shared by tenant and by token or person. "
        "One more closes the longest stream of the sharer with the most, or is refused (503).",
    )
    max_tenant_streams: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Maximum number of open streams of one tenant; 0: only `max_streams` limits them.",
    )
    trace_url: str | None = Field(
        default=None,
        description="Address of a task's trace, with fields as in `slack.links`: "
        "`https://grafana.example/trace/{trace_id}`. Not given: the first of `slack.links` with `{trace_id}`.",
    )
    heartbeat: Duration = Field(
        default=timedelta(seconds=25),
        gt=timedelta(0),
        le=timedelta(minutes=5),
        description="Time without an event after which a stream gets a heartbeat; set it below the idle "
        "timeout of your proxies.",
    )

    @field_validator("trace_url")
    @classmethod
    def _trace_url(cls, value: str | None) -> str | None:
        from spanpost.sinks.slack.links import problem

        if value is not None and (wrong := problem(value)):
            raise ValueError(f"{value!r} {wrong}")
        return value

    @field_validator("public_url")
    @classmethod
    def _leads_here(cls, value: str) -> str:
        return http_url(value, is_bare=True) if value.strip() else ""
