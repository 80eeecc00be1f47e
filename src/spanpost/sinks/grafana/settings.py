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
        description="Address of Grafana, with its path. Links of alerts use it, too. Without `token`, it is for these "
        "links alone, and no annotation is written.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Token of a service account that may write annotations (`annotations:write` and `:read`; "
        "role Editor).",
    )
    api: Literal["legacy", "apis"] = Field(
        default="legacy",
        description="`legacy`: `/api/annotations`, which every Grafana has. `apis`: its successor "
        "`/apis/annotation.grafana.app/v0alpha1` (Grafana 13; `[annotations.app_platform] enabled = true`).",
    )
    namespace: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Namespace of `apis`: `default`, `org-<n>`, or `stacks-<n>` in the cloud.",
    )
    org_id: int | None = Field(default=None, ge=1, description="Organisation, if the token may write to several.")
    dashboard: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="UID of the dashboard that shows the annotations; a route's `address` names another one. Empty: "
        "annotations of the organisation, for every dashboard that queries the tag `spanpost`.",
    )
    tags: tuple[str, ...] = Field(default=(), description="More tags of each annotation.")
    per_minute: float = Field(
        default=30.0,
        gt=0,
        le=6000,
        description="Maximum number of annotations per minute.",
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=25), description="Time limit of one call."
    )
    reconcile_timeout: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        description="After a lost answer: if an annotation is not found by its tag for this long, it counts as not "
        "created.",
    )

    @property
    def is_on(self) -> bool:
        """True if annotations are written: with a token, or with settings of annotations, which need one."""
        return self.enabled and (self.token is not None or not self.model_fields_set <= {"url", "enabled"})

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
