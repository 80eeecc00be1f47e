"""Encodes observations as OTLP: live ones as log records with an event name, ended ones as spans.

`spanpost.receivers.decode` returns the same observation that was encoded; only an event comes back as the
log form of the same occurrence. Values were repaired when they were observed, so that no value can break a
batch.

The records are our own classes with the fields that every encoder since 1.35 (the first with event names)
reads: the SDK's class for them has changed three times since.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

from spanpost import semconv as c
from spanpost.model.observations import Observation, Origin, Part
from spanpost.readers.redaction import Redaction
from spanpost.receivers.spans import attributes_of, ring_of, time_of
from spanpost.text.repair import mend, mend_text

_MAX_ORIGINS = 256
_MAX_NAME = 1024
_SEVERITIES = {number.value: number for number in SeverityNumber}
_INFO, _ERROR = SeverityNumber.INFO.value, SeverityNumber.ERROR.value


class EncodedResource:
    """A resource as encoders read it; hashed by identity, because the SDK's own class hashes by serialising
    it all.
    """

    __slots__ = ("attributes", "schema_url")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = attributes
        self.schema_url = ""


class EncodedScope:
    """An instrumentation scope as encoders read it."""

    __slots__ = ("attributes", "name", "schema_url", "version")

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self.attributes: Mapping[str, Any] = {}
        self.schema_url = ""


class EncodedRecord:
    """A log record, and the envelope around it, as encoders read them."""

    def __init__(
        self, o: Observation, attributes: dict[str, Any], severity: int, resource: EncodedResource, scope: EncodedScope
    ) -> None:
        self.timestamp = o.at_ns
        self.observed_timestamp = time.time_ns()
        self.trace_id = int.from_bytes(o.trace_id, "big")
        self.span_id = int.from_bytes(o.span_id, "big")
        self.trace_flags = 0
        self.severity_number = _SEVERITIES.get(severity, SeverityNumber.UNSPECIFIED)
        self.severity_text: str | None = None
        self.body = o.body
        self.event_name = o.name if o.part is not Part.STARTED else c.EVENT_SPAN_STARTED
        self.attributes = attributes
        self.dropped_attributes = 0
        self.resource = resource
        self.instrumentation_scope = scope

    @property
    def log_record(self) -> EncodedRecord:
        return self


class Encoder:
    """Encodes observations as records and spans, redacted. For one thread: it caches origins."""

    def __init__(self, redaction: Redaction | None = None) -> None:
        self._redaction = redaction
        self._origins: dict[int, tuple[Origin, EncodedResource, EncodedScope]] = {}

    def _origin(self, origin: Origin) -> tuple[Origin, EncodedResource, EncodedScope]:
        known = self._origins.get(id(origin))
        if known is None:
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            known = origin, EncodedResource(origin.resource), EncodedScope(origin.scope, origin.scope_version)
            self._origins[id(origin)] = known
        return known

    def encode(self, signal: str, items: Sequence[Any]) -> bytes:
        """Return a request of records (``logs``) or spans (``traces``). Raises for an item that OTLP cannot hold."""
        encoded: bytes = (encode_spans if signal == "traces" else encode_logs)(items).SerializeToString()
        return encoded

    def record(self, o: Observation) -> EncodedRecord:
        """Return a started span, an event or a log record as a log record."""
        o = self._clean(o)
        attributes = dict(o.attributes)
        severity = o.severity or _INFO
        if o.part is Part.STARTED:
            attributes.update(_envelope(o))
        elif o.part is Part.EVENT:
            if o.name == c.EVENT_EXCEPTION:
                severity = _ERROR
            if o.ordinal:
                attributes[c.ORDINAL] = o.ordinal
        if o.producer:
            attributes[c.PRODUCER] = o.producer
            attributes[c.SEQ] = o.seq
        _, resource, scope = self._origin(o.origin)
        return EncodedRecord(o, attributes, severity, resource, scope)

    def span(self, readable: Any, o: Observation) -> ReadableSpan:
        """Return an ended span for export: `o` is its observation, `readable` has the rest."""
        o = self._clean(o)
        _, resource, scope = self._origin(o.origin)
        return ReadableSpan(
            name=o.name,
            context=readable.get_span_context(),
            parent=readable.parent,
            resource=resource,  # type: ignore[arg-type]  # only read
            attributes=o.attributes,
            events=[self._event(event, o) for event in ring_of(readable)[1]],
            links=readable.links,
            kind=readable.kind,
            instrumentation_scope=scope,  # type: ignore[arg-type]
            status=Status(StatusCode(int(o.status)), o.status_message or None),
            start_time=o.start_ns,
            end_time=o.end_ns,
        )

    def _clean(self, o: Observation) -> Observation:
        return o if self._redaction is None else self._redaction.clean(o)

    def _event(self, event: Any, span: Observation) -> Event:
        name = mend_text(event.name if type(event.name) is str else str(event.name), _MAX_NAME)[0]
        # An event without a time gets its span's start, as in its observation.
        at_ns = time_of(event.timestamp or 0, span.start_ns)[0]
        seen = msgspec.structs.replace(
            span, part=Part.EVENT, name=name, status_message="", attributes=mend(attributes_of(event))[0]
        )
        clean = self._clean(seen)
        return Event(clean.name, clean.attributes, at_ns)


def _envelope(o: Observation) -> dict[str, Any]:
    envelope: dict[str, Any] = {c.SPAN_NAME: o.name, c.SPAN_KIND: o.kind, c.SPAN_START: o.start_ns}
    if o.parent_id:
        envelope[c.SPAN_PARENT_ID] = o.parent_id.hex()
    if o.links:
        envelope[c.SPAN_LINKS] = [f"{trace.hex()}-{span.hex()}" for trace, span in o.links]
    if o.status:
        envelope[c.SPAN_STATUS] = int(o.status)
    if o.status_message:
        envelope[c.SPAN_STATUS_MESSAGE] = o.status_message
    return envelope
