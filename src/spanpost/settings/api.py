"""Settings of the room `api`: the HTTP API of the gateway."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from spanpost.settings.interactions import ApiRole
from spanpost.settings.section import Duration, Section


class ApiSettings(Section):
    """The HTTP API of `spanpost run`, under `/api` on its HTTP port. Who may use it: `interactions.tokens` and `oidc`."""

    enabled: bool = Field(default=True, description="`false`: there is none.")
    local: bool = Field(
        default=True,
        description="This machine's token (`spanpost token local`) is good here, on a loopback address where no other token is asked "
        "for. `false`: the API always asks for a token of `interactions.tokens` or a login.",
    )
    local_roles: tuple[ApiRole, ...] = Field(
        default=(),
        description='What this machine\'s token lets somebody do beside looking: `["operator", "approver"]` for yourself.',
    )
    max_streams: int = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Event streams (`/api/events`) at once, shared by tenant and by token or person: one more ends the longest of the one "
        "with most, or is asked to come back (503).",
    )
    heartbeat: Duration = Field(
        default=timedelta(seconds=25),
        gt=timedelta(0),
        le=timedelta(minutes=5),
        description="After how long without an event a stream is sent a heartbeat; shorter than proxies between cut.",
    )
