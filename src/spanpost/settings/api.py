"""Settings of the room `api`: the HTTP API of the gateway."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from spanpost.settings.desk import ApiRole
from spanpost.settings.room import Duration, Room


class ApiSettings(Room):
    """The HTTP API of `spanpost run`, under `/api` on its HTTP port. Who may use it: `desk.tokens` and `oidc`."""

    enabled: bool = Field(default=True, description="`false`: there is none.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which browsers reach the gateway, with the port where it is not the usual one: "
        '`["agents.example.com"]`. Beside them loopback is known. A request without a token that names another is refused.',
    )
    local_roles: tuple[ApiRole, ...] = Field(
        default=(),
        description="What somebody at this machine may without a token, where none are configured, beside looking: "
        '`["operator", "approver"]` on a machine that is yours alone. Anybody who can log in there may it too.',
    )
    max_streams: int = Field(
        default=200, ge=0, le=100_000, description="Event streams (`/api/events`) at once; one more is asked to come back (503)."
    )
    heartbeat: Duration = Field(
        default=timedelta(seconds=25),
        gt=timedelta(0),
        le=timedelta(minutes=5),
        description="After how long without an event a stream is sent a heartbeat; shorter than proxies between cut.",
    )

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, one in enumerate(value, 1):
            if not one.strip() or "/" in one or "@" in one or " " in one.strip():
                raise ValueError(f"number {number} is no host; write it as in `agents.example.com` or `agents.example.com:8443`")
        return tuple(one.strip().lower() for one in value)
