"""An alert: what a monitor says of something, while it lasts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert from when it fires until it is over. All its texts are untrusted."""

    #: Made of tenant, fingerprint and `starts_at`: whoever tells it, and how often, it is the same.
    id: UUID
    tenant: str
    #: alertmanager or grafana.
    source: str
    fingerprint: str
    starts_at: datetime
    #: None while it fires.
    ends_at: datetime | None = None
    name: str
    #: As the rule says it: critical, warning, info, or a word of its own.
    severity: str = ""
    summary: str = ""
    #: What to do.
    description: str = ""
    #: By name; http and https alone.
    links: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    #: The span of the task that it is told of; of one that names no task the span that it is itself. Empty before it is placed.
    trace_id: bytes = b""
    span_id: bytes = b""

    @property
    def is_resolved(self) -> bool:
        """True when it is over."""
        return self.ends_at is not None

    @property
    def is_own(self) -> bool:
        """True when it names no task that is known: it is a message of its own."""
        return self.trace_id == self.id.bytes
