"""An alert of a monitor, from firing to resolved."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.recorded import Recorded


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert from when it fires until it is resolved. All its texts are untrusted."""

    #: Derived from tenant, fingerprint and `starts_at`: the same for every sender and every repetition.
    id: UUID
    tenant: str
    #: alertmanager or grafana.
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
