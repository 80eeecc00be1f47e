"""An alert of a monitor, from firing to resolved."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.recorded import Recorded


class SilenceState(StrEnum):
    """The state of a silence. Public: rows, JSON."""

    #: A gateway asks Alertmanager for it; stands for as long as that may take.
    SETTING = "setting"
    ACTIVE = "active"
    #: A gateway ends it.
    ENDING = "ending"
    ENDED = "ended"
    #: Alertmanager did not take it: see `failure`.
    FAILED = "failed"


class SilenceFailure(StrEnum):
    """Why Alertmanager did not do what was asked. Public: rows, JSON, metric labels."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    #: 401 or 403: the credentials of the settings.
    CREDENTIALS = "credentials"
    #: It has no alert with exactly these labels.
    UNKNOWN_ALERT = "unknown_alert"
    #: Any other answer.
    REFUSED = "refused"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A silence that a person asked for."""

    state: SilenceState
    by: str
    comment: str = ""
    until: datetime
    #: When the last change was asked for.
    asked_at: datetime
    #: Alertmanager's id of it.
    id: str = ""
    failure: SilenceFailure | None = None

    def is_active(self, now: datetime) -> bool:
        """Return whether Alertmanager keeps the alert silent."""
        return self.is_set and self.until > now

    @property
    def is_set(self) -> bool:
        """True from when Alertmanager took it until a person ends it."""
        return self.state in (SilenceState.ACTIVE, SilenceState.ENDING)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert from when it fires until it is resolved. All its texts are untrusted."""

    #: Derived from tenant, fingerprint and `starts_at`: the same for every sender and every repetition.
    id: UUID
    tenant: str
    #: alertmanager, grafana, or slack: another app's message there.
    source: str
    fingerprint: str
    starts_at: datetime
    #: None while it fires.
    ends_at: datetime | None = None
    name: str
    #: As the alert rule says it: critical, warning, info, or another word.
    severity: str = ""
    summary: str = ""
    #: What to do.
    description: str = ""
    #: By name; only http and https.
    links: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    #: The sender's own address, as its webhook says: compared with the settings, never called.
    external_url: str = ""
    #: The person who looks after it.
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    silence: Silence | None = None
    #: The span of the task that it is about; its own span if it names no task. Empty before it is placed.
    trace_id: bytes = b""
    span_id: bytes = b""

    @property
    def is_resolved(self) -> bool:
        """True when it no longer fires."""
        return self.ends_at is not None

    @property
    def is_own(self) -> bool:
        """True when it names no known task: it has a message of its own."""
        return self.trace_id == self.id.bytes


class Alerted(msgspec.Struct, frozen=True, kw_only=True):
    """The result of recording an alert."""

    alert: Alert
    #: True when the alert brought nothing new.
    is_repeat: bool = False
    recorded: Recorded = msgspec.field(default_factory=Recorded)
