"""Settings of the sink `grafana`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from spanpost.http.urls import http_url
from spanpost.sinks.plugin import Duration, SinkSettings


class GrafanaSettings(SinkSettings):
    """Annotations over HTTP, for a Grafana that has no datasource on spanpost's database."""

    url: str = Field(
        default="http://localhost:3000",
        description="Where Grafana is, with the path it is served under. Links of alerts lead there, too.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Token of a service account that may write annotations (`annotations:write` and `:read`; role Editor).",
    )
    api: Literal["legacy", "apis"] = Field(
        default="legacy",
        description="`legacy`: `/api/annotations`, which every Grafana has. `apis`: `/apis/annotation.grafana.app/v0alpha1`, which is to "
        "follow it (Grafana 13; `[annotations.app_platform] enabled = true`).",
    )
    namespace: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Of `apis`: `default`, `org-<n>`, or `stacks-<n>` in the cloud.",
    )
    org_id: int | None = Field(default=None, ge=1, description="Organisation, where the token may write to several.")
    dashboard: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="UID of the dashboard that shows them; a route's `address` is another one. Empty: the organisation's, for every "
        "dashboard that asks for the tag `spanpost`.",
    )
    tags: tuple[str, ...] = Field(default=(), description="Further tags of each annotation.")
    per_minute: float = Field(
        default=30.0, gt=0, le=6000, description="Annotations made a minute: Grafana keeps them for people, hundreds a day."
    )
    timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=25), description="For one call.")
    settle: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        description="After an answer that was lost: not found by its tag for so long, an annotation is taken for not made.",
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return http_url(value, is_bare=True)

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if not (text.isascii() and text.isprintable()) or text != text.strip():
            raise ValueError("must be one line of ASCII")
        return value
