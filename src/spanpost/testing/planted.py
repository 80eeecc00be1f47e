"""OTLP requests with a marker of its own in every place for a text: what the descriptors of the protocol have, and
every attribute that a dialect reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanpost import semconv as c
from spanpost.readers.events import CLIS
from spanpost.readers.identity import IDENTITY
from spanpost.readers.known_dialects import DIALECTS
from spanpost.readers.session_records import Cli

MARKER = re.compile(r"MARK-[a-z]{1,20}-[0-9]{6}")
#: Attributes of one span or record; receivers keep 128.
_AT_ONCE = 60
_EVENTS = sorted(value for name, value in vars(c).items() if name.startswith("EVENT_"))
_KNOWN = (
    {name for dialect in DIALECTS for names in dialect.fields.values() for name in names}
    | {name for cli in CLIS for names in cli.fields.values() for name in names}
    | {text for name, text in vars(c).items() if name.isupper() and isinstance(text, str) and "." in text}
    | {"custom.note", "agent.result.note", "agent.link.run", "exception.stacktrace", "log.record.original"}
)
#: Attributes of events that spanpost defines, and of those that it reads beside them.
_OWN = ("agent.", "exception.", "custom.", "gen_ai.evaluation.")
_ATTRIBUTES = sorted(_KNOWN - IDENTITY - set(_EVENTS))


class Planted(NamedTuple):
    """The bodies of requests by signal, and the place of each marker."""

    bodies: dict[str, list[bytes]]
    places: dict[str, str]


class _Planter:
    """Makes markers: `MARK-<tenant>-<number>`."""

    def __init__(self, tenant: str, now_ns: int) -> None:
        self.tenant, self.now = tenant, now_ns
        self.places: dict[str, str] = {}
        self._ids = 0

    def marker(self, place: str) -> str:
        text = f"MARK-{self.tenant}-{len(self.places):06d}"
        self.places[text] = place
        return text

    def id(self, size: int) -> bytes:
        """Return a new id of a span, or of a trace, of this tenant."""
        self._ids += 1
        return self._ids.to_bytes(size, "big")

    def text(self, place: str) -> str:
        """Return a text with a marker in its middle."""
        return f"see {self.marker(place)}, please"

    def attributes(self, names: list[str], place: str, into: Any) -> None:
        for name in names:
            into.add(key=name).value.string_value = self.text(f"{place}: {name}")

    def record(self, records: Any, name: str, names: list[str]) -> None:
        """Add a log record with a body and attributes."""
        at = self.now + len(records)
        record = records.add(event_name=name, time_unix_nano=at, observed_time_unix_nano=at, severity_number=9)
        if name == c.EVENT_HEARTBEAT:
            return  # a process is known by its name alone, which is an identity
        record.trace_id, record.span_id = self.id(16), self.id(8)
        record.body.string_value = self.text(f"body of {name}")
        record.attributes.add(key="session.id").value.string_value = f"s-{record.span_id.hex()}"
        if name.startswith("agent.approval"):
            record.attributes.add(key=c.APPROVAL_ID).value.string_value = f"q-{record.span_id.hex()}"
        self.attributes(names, f"record {name}", record.attributes)

    def fill(self, message: Any, place: str) -> None:
        """Fill every field of a message, and of the messages in it, by its descriptor."""
        for field in message.DESCRIPTOR.fields:
            here = f"{place}.{field.name}"
            is_many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
            if field.message_type is not None and field.message_type.full_name.endswith("common.v1.KeyValue"):
                self._all_kinds(getattr(message, field.name), here)
            elif field.message_type is not None and field.message_type.full_name.endswith("common.v1.AnyValue"):
                message.body.string_value = self.text(here)
            elif field.message_type is not None:
                if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
                    continue
                inner = getattr(message, field.name)
                if is_many:
                    self.fill(inner.add(), here)
                else:
                    inner.SetInParent()
                    self.fill(inner, here)
            elif is_many:
                getattr(message, field.name).extend([self.text(here)] if field.type == field.TYPE_STRING else [1])
            elif field.type == field.TYPE_STRING:
                setattr(message, field.name, self.text(here))
            elif field.type == field.TYPE_BYTES:
                setattr(message, field.name, self.id(16 if "trace" in field.name else 8))
            elif field.name.endswith("unix_nano"):
                setattr(message, field.name, self.now)
            elif field.type == field.TYPE_BOOL:
                setattr(message, field.name, True)
            elif field.name not in ("dropped_attributes_count", "flags"):
                setattr(message, field.name, 2)

    def _all_kinds(self, attributes: Any, place: str) -> None:
        """Add attributes of each kind of value, and one whose name has the marker."""
        # Of spans that no dialect reads the attributes are not kept.
        attributes.add(key="gen_ai.operation.name").value.string_value = "execute_tool"
        value: AnyValue = attributes.add(key="t.text").value
        value.string_value = self.text(f"{place}: text")
        attributes.add(key="t.bytes").value.bytes_value = self.text(f"{place}: bytes").encode()
        attributes.add(key=self.text(f"{place}: name")).value.int_value = 7
        inner = attributes.add(key="t.map").value.kvlist_value.values
        inner.add(key="deep").value.string_value = self.text(f"{place}: in a map")
        inner.add(key=self.text(f"{place}: name in a map")).value.bool_value = True
        inner.add(key="bytes").value.bytes_value = self.text(f"{place}: bytes in a map").encode()
        items = attributes.add(key="t.list").value.array_value.values
        items.add().string_value = self.text(f"{place}: in a list")
        many: KeyValue = items.add().kvlist_value.values.add(key="x")
        many.value.array_value.values.add().string_value = self.text(f"{place}: deep in a list")
        attributes.add(key="t.json").value.string_value = f'{{"a": {{"b": "{self.marker(f"{place}: JSON")}"}}}}'


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def planted(tenant: str, now_ns: int) -> Planted:
    """Return requests of traces, logs and metrics, with a marker in each text that a sender can choose.

    Identities are left out, because no rule changes them (`IDENTITY`).
    """
    planter = _Planter(tenant, now_ns)
    traces = [_by_descriptor(planter, ExportTraceServiceRequest()), *_spans(planter)]
    logs = [_by_descriptor(planter, ExportLogsServiceRequest()), *_logs(planter)]
    metrics = [_by_descriptor(planter, ExportMetricsServiceRequest()), *_metrics(planter)]
    return Planted({"traces": traces, "logs": logs, "metrics": metrics}, planter.places)


def _by_descriptor(planter: _Planter, request: Any) -> bytes:
    planter.fill(request, request.DESCRIPTOR.name)
    return bytes(request.SerializeToString())


def _spans(planter: _Planter) -> Iterator[bytes]:
    """Yield tasks with all known attributes, and with every event of the conventions."""
    request = ExportTraceServiceRequest()
    for names in _chunks(_ATTRIBUTES):
        scoped = request.resource_spans.add()
        planter.attributes(names, "resource", scoped.resource.attributes)
        spans = scoped.scope_spans.add().spans
        trace, root = planter.id(16), planter.id(8)
        for is_root in (True, False):
            span = spans.add(
                trace_id=trace, span_id=root if is_root else planter.id(8), name=planter.text("span name"),
                start_time_unix_nano=planter.now, end_time_unix_nano=planter.now + 10**9,
            )  # fmt: skip
            span.status.code, span.status.message = 2, planter.text("status message")
            operation = "invoke_agent" if is_root else "execute_tool"
            span.attributes.add(key="gen_ai.operation.name").value.string_value = operation
            if is_root:
                span.attributes.add(key=c.TASK_ID).value.string_value = f"t-{trace.hex()}"
            else:
                span.parent_span_id = root
            planter.attributes([n for n in names if n != "gen_ai.operation.name"], operation, span.attributes)
            for index, name in enumerate(_EVENTS):
                event = span.events.add(name=name, time_unix_nano=planter.now + index)
                if name.startswith("agent.approval"):
                    event.attributes.add(key=c.APPROVAL_ID).value.string_value = f"q-{span.span_id.hex()}"
                planter.attributes(_of_event(name, names), name, event.attributes)
    yield bytes(request.SerializeToString())


def _of_event(name: str, names: list[str]) -> list[str]:
    """Return the attributes that an event may have: those of its name, and of errors."""
    heads = (".".join(name.split(".")[:2]), "agent.error", "exception.", "custom.")
    return [one for one in names if one.startswith(heads)]


def _logs(planter: _Planter) -> Iterator[bytes]:
    """Yield records of every event that a dialect reads, live spans among them."""
    request = ExportLogsServiceRequest()
    plain = request.resource_logs.add().scope_logs.add()
    plain.scope.name = planter.text("scope name")
    for name in _EVENTS:
        planter.record(plain.log_records, name, [one for one in _ATTRIBUTES if one.startswith(_OWN)])
    for names in _chunks(_ATTRIBUTES):
        planter.record(plain.log_records, c.EVENT_SPAN_STARTED, names)
        planter.record(plain.log_records, "", names)
    for cli in CLIS:
        records = request.resource_logs.add().scope_logs.add()
        for event in cli.events:
            planter.record(records.log_records, f"{cli.heads[0]}.{event}", _of_cli(cli))
    yield bytes(request.SerializeToString())


def _of_cli(cli: Cli) -> list[str]:
    return sorted({name for names in cli.fields.values() for name in names} - IDENTITY)


def _metrics(planter: _Planter) -> Iterator[bytes]:
    """Yield the metrics that a dialect reads, with an exemplar."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for cli in CLIS:
        for name in cli.meters:
            metric = metrics.add(name=name, description=planter.text(f"{name}: description"))
            metric.sum.aggregation_temporality = 1
            point = metric.sum.data_points.add(
                start_time_unix_nano=planter.now - 10**9, time_unix_nano=planter.now, as_int=7
            )
            point.attributes.add(key="session.id").value.string_value = "s-1"
            planter.attributes(_of_cli(cli), name, point.attributes)
            exemplar = point.exemplars.add(time_unix_nano=planter.now, as_int=7)
            planter.attributes(["custom.note"], f"exemplar of {name}", exemplar.filtered_attributes)
    yield bytes(request.SerializeToString())
