"""Settings of the section `alerts`: the Alertmanagers in which people may silence alerts."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.http.urls import http_url
from spanpost.model.alerts import Alert
from spanpost.readers.alerts import ALERTMANAGER
from spanpost.readers.channel_alerts import ChannelAlerts, mistake_in
from spanpost.settings.interactions import Word
from spanpost.settings.section import Duration, Section, Zone


class AlertmanagerSettings(Section):
    """One Alertmanager. Only addresses of the settings are called, never one that an alert names."""

    url: str = Field(description="Its address, with its path: `http://alertmanager:9093`.")
    external_url: str = Field(
        default="",
        description="The address that its webhook gives as `externalURL` (`--web.external-url`). Required with "
        "several: it decides which of them an alert came from.",
    )
    tenant: Word | None = Field(
        default=None, description="Tenant whose alerts may be silenced there; not given: `intake.tenant`."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token for it. Never printed.")
    username: str = Field(default="", description="Name for basic authentication.")
    password: SecretStr | None = Field(default=None, description="Password for basic authentication. Never printed.")
    timeout: Duration = Field(
        default=timedelta(seconds=5),
        gt=timedelta(0),
        le=timedelta(seconds=10),
        description="Time limit of one silence, all of its requests together.",
    )

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        return http_url(value)

    @model_validator(mode="after")
    def _has_one_kind(self) -> AlertmanagerSettings:
        if self.token is not None and (self.username or self.password is not None):
            raise ValueError("takes either token, or username and password")
        if bool(self.username) is not (self.password is not None):
            raise ValueError("username and password belong together: set both")
        return self

    @property
    def authorization(self) -> str:
        """The value of the header; empty: none."""
        if self.token is not None:
            return f"Bearer {self.token.get_secret_value()}"
        if self.password is None:
            return ""
        return f"Basic {b64encode(f'{self.username}:{self.password.get_secret_value()}'.encode()).decode()}"


class ChannelSettings(Section, ChannelAlerts):
    """Messages of other apps in a Slack channel that are alerts. The app needs the scope `channels:history` (or
    `groups:history`) there, and the events that replies need.
    """

    channel: str = Field(pattern=r"^[CGD][A-Z0-9]{1,31}$", description="The channel's id: `C0123ABCD`.")
    apps: tuple[Annotated[str, StringConstraints(pattern=r"^[AB][A-Z0-9]{1,31}$")], ...] = Field(
        min_length=1, max_length=20, description="Ids of the apps (`A…`) or bots (`B…`) whose messages count."
    )
    firing: str = Field(
        max_length=200,
        description="First line of a message that is an alert: `[FIRING:*] {name}`. `*` is any text.",
    )
    resolved: str = Field(
        default="",
        max_length=200,
        description="First line of a message that ends the alerts of this name in the channel: `[RESOLVED] {name}`.",
    )
    severity: str = Field(default="warning", max_length=60, description="Severity of these alerts.")

    @field_validator("firing", "resolved")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        if value and (why := mistake_in(value)):
            raise ValueError(why)
        return value

    @field_validator("firing")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.replace("{name}", "").replace("*", "").strip():
            raise ValueError("needs a text besides its placeholders: every message would be an alert")
        return value


class AlertsSettings(Section):
    """What people may do with alerts: with an Alertmanager, they may silence them from Slack, the API and the
    command line.
    """

    alertmanagers: tuple[AlertmanagerSettings, ...] = Field(
        default=(), max_length=20, description="The Alertmanagers; each is an `[[alerts.alertmanagers]]` (below)."
    )
    channels: tuple[ChannelSettings, ...] = Field(
        default=(),
        max_length=50,
        description="Slack channels in which other apps post alerts; each is an `[[alerts.channels]]` (below).",
    )
    timezone: Zone = Field(
        default="UTC", description="IANA name of the time zone of *until tomorrow 9:00*: `Asia/Seoul`."
    )

    @model_validator(mode="after")
    def _are_distinct(self) -> AlertsSettings:
        named = [_plain(one.external_url) for one in self.alertmanagers]
        if len(named) > 1 and (not all(named) or len(set(named)) < len(named)):
            raise ValueError("several alertmanagers: give each an external_url of its own")
        return self

    def alertmanager_of(self, alert: Alert, default_tenant: str) -> AlertmanagerSettings | None:
        """Return the Alertmanager that an alert came from; None: it cannot be silenced."""
        if alert.source != ALERTMANAGER:
            return None
        for one in self.alertmanagers:
            is_it = not one.external_url or _plain(one.external_url) == _plain(alert.external_url)
            if is_it and alert.tenant == (one.tenant or default_tenant):
                return one
        return None


def _plain(url: str) -> str:
    return url.strip().rstrip("/")
