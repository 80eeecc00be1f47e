"""OTLP bodies into observations, protobuf and JSON alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part, Repair, Status, event_id
from spanpost.receivers.decode import Decoded, Undecodable, decode_logs, decode_metrics, decode_traces
from spanpost.text.repair import mend
from tests.thorough import thorough

CAPTURES = Path(__file__).parents[1] / "captures"
TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
AT = 1_790_000_000_000_000_000
#: An attribute whose name identifies a span as an agent's, so that its values are read.
AGENTS = ("gen_ai.operation.name", "chat")


def a_span(**more: Any) -> dict[str, Any]:
    span: dict[str, Any] = {"traceId": TRACE, "spanId": SPAN, "parentSpanId": PARENT, "name": "chat", "kind": 3}
    return {**span, "startTimeUnixNano": str(AT), "endTimeUnixNano": str(AT + 5), **more}


def traces(*spans: Any) -> Decoded:
    body = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "s", "version": "1"}, "spans": list(spans)}]}]}
    return decode_traces(json.dumps(body).encode(), is_json=True)


def logs(**record: Any) -> Observation:
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    (observation,) = decode_logs(json.dumps(body).encode(), is_json=True).observations
    return observation


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def as_otlp_json(request: Any) -> bytes:
    """Return the request as OTLP/JSON writes it: ids in hex, where protobuf's own JSON has base64."""
    document = MessageToDict(request)

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(n) for n in node]
        if not isinstance(node, dict):
            return node
        return {k: _hexed(v) if k in ("traceId", "spanId", "parentSpanId") else walk(v) for k, v in node.items()}

    return json.dumps(walk(document)).encode()


def _hexed(text: str) -> str:
    import base64

    return base64.b64decode(text).hex().upper()


@pytest.mark.proves("one-bad-span", "hex-ids")
@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*/ok/*-traces.pb")), ids=lambda p: f"{p.parts[-3]}-{p.name}")
def test_json_and_protobuf_say_the_same(path: Path) -> None:
    """A recorded body, turned into OTLP/JSON, decodes to the same observations."""
    body = path.read_bytes()
    from_json = decode_traces(as_otlp_json(ExportTraceServiceRequest.FromString(body)), is_json=True)
    assert from_json.observations == decode_traces(body).observations
    assert from_json.observations
    assert from_json.dropped == {}


def test_json_and_protobuf_logs_say_the_same() -> None:
    """The same for log records, bodies and severities included."""
    body = (CAPTURES / "claude-code" / "logsonly" / "001-logs.pb").read_bytes()
    from_json = decode_logs(as_otlp_json(ExportLogsServiceRequest.FromString(body)), is_json=True)
    assert from_json.observations == decode_logs(body).observations
    assert [o.name for o in from_json.observations][:2] == ["managed_settings_resolved", "user_prompt"]


def test_a_span_its_events_and_links() -> None:
    """A span is one observation, each event one by position and number among equals; links stay on the span."""
    events = [
        {"name": "a", "timeUnixNano": AT + 1},
        {"name": "exception", "timeUnixNano": AT + 2},
        {"name": "a", "timeUnixNano": AT + 1},
    ]
    decoded = traces(
        a_span(events=events, links=[{"traceId": TRACE, "spanId": PARENT}], status={"code": "STATUS_CODE_ERROR"})
    )
    span, *decoded_events = decoded.observations
    assert (span.part, span.kind, span.status, span.exceptions) == (Part.ENDED, 3, Status.ERROR, 1)
    assert span.links == ((bytes.fromhex(TRACE), bytes.fromhex(PARENT)),)
    assert (span.at_ns, span.parent_id, span.origin.scope) == (AT + 5, bytes.fromhex(PARENT), "s")
    assert [(e.part, e.index, e.ordinal, e.name, e.at_ns - AT) for e in decoded_events] == [
        (Part.EVENT, 0, 0, "a", 1),
        (Part.EVENT, 1, 0, "exception", 2),
        (Part.EVENT, 2, 1, "a", 1),
    ]
    assert len({event_id(o) for o in decoded.observations}) == 4


def test_a_span_without_an_end_has_started() -> None:
    """A span with end time 0 is still running."""
    (span,) = traces(a_span(endTimeUnixNano="0")).observations
    assert (span.part, span.at_ns, span.end_ns) == (Part.STARTED, AT, 0)


def test_a_pending_span_is_its_parent() -> None:
    """Logfire's pending span has an id of its own: the observation is of the span that was started."""
    attributes = [text("logfire.span_type", "pending_span"), text("logfire.pending_parent_id", PARENT)]
    (span,) = traces(a_span(spanId="1" * 16, parentSpanId=SPAN, attributes=attributes)).observations
    assert (span.part, span.span_id.hex(), span.parent_id.hex(), span.end_ns) == (Part.STARTED, SPAN, PARENT, 0)
    attributes[1] = text("logfire.pending_parent_id", "0" * 16)
    (root,) = traces(a_span(spanId="1" * 16, parentSpanId=SPAN, attributes=attributes)).observations
    assert root.parent_id == b""


@pytest.mark.proves("one-bad-span", "lenient-json")
def test_the_json_dialects_of_senders() -> None:
    """Ids in capitals, numbers as text, enums as names, unknown fields, missing wrappers, null and a BOM are
    all read.
    """
    attributes = [
        text(*AGENTS),
        {"key": "i", "value": {"intValue": "42"}},
        {"key": "d", "value": {"doubleValue": "NaN"}},
        {"key": "n", "value": {"arrayValue": {}}},
        {"key": "m", "value": {"kvlistValue": {"values": [{"key": "x", "value": {"boolValue": True}}]}}},
        {"key": "plain", "value": "bare"},
        {"key": "empty"},
        {"key": "bytes", "value": {"bytesValue": "aGk="}},
    ]
    span = a_span(
        traceId=TRACE.upper(), kind="SPAN_KIND_CLIENT", attributes=attributes, later={"x": 1}, events=None, links=None
    )
    body = b"\xef\xbb\xbf" + json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}], "new": 1}).encode()
    (seen,) = decode_traces(body, is_json=True).observations
    assert (seen.trace_id.hex(), seen.kind) == (TRACE, 3)
    assert seen.attributes == {
        AGENTS[0]: AGENTS[1],
        "i": 42,
        "d": "NaN",
        "n": [],
        "m": {"x": True},
        "plain": "bare",
        "empty": None,
        "bytes": "base64:aGk=",
    }
    assert seen.repairs == Repair.NUMBER | Repair.TEXT


@pytest.mark.proves("one-row", "bad-ids")
@pytest.mark.parametrize("bad", ["", "0" * 32, "abc1", "not hex", None, 7])
def test_a_bad_trace_id_becomes_one_of_the_content(bad: Any) -> None:
    """Zero, short, odd and absent ids never share a trace, and the same span again has the same id."""
    (one,) = traces(a_span(traceId=bad, name="one")).observations
    (again,) = traces(a_span(traceId=bad, name="one")).observations
    (two,) = traces(a_span(traceId=bad, name="two")).observations
    assert one.repairs & Repair.SYNTHETIC_ID
    assert (len(one.trace_id), any(one.trace_id)) == (16, True)
    assert one == again
    if not bad or bad == "0" * 32 or bad == 7:
        assert one.trace_id != two.trace_id
    else:
        assert one.trace_id == two.trace_id  # a strange id still belongs to a sender


@pytest.mark.proves("one-bad-span", "zero-times", "far-times")
def test_times_are_held_and_flagged() -> None:
    """Times beyond 63 bits, backwards or absent are kept as integers and flagged."""
    huge, backwards, absent = traces(
        a_span(endTimeUnixNano=str(2**64 - 1)), a_span(endTimeUnixNano=str(AT - 1)), a_span(startTimeUnixNano="0")
    ).observations
    assert huge.end_ns == 2**63 - 1
    assert (backwards.start_ns, backwards.end_ns) == (AT, AT - 1)
    assert absent.start_ns == 0
    assert all(o.repairs & Repair.TIME for o in (huge, backwards, absent))


def test_one_bad_span_does_not_spoil_its_batch() -> None:
    """An unreadable span is counted by reason; its neighbours are kept."""
    decoded = traces(a_span(), 7, a_span(events=5), a_span(name="last"))
    assert [o.name for o in decoded.observations] == ["chat", "last"]
    assert decoded.dropped == {"bad_shape": 1, "bad_span": 1}


@pytest.mark.proves("one-bad-span", "crowds")
def test_events_beyond_the_limit_are_counted() -> None:
    """128 events of a span are kept, the rest is counted as dropped."""
    decoded = traces(a_span(events=[{"name": "e", "timeUnixNano": AT}] * 200))
    assert len(decoded.observations) == 129
    assert decoded.dropped == {"too_many_events": 72}


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[]", b"{", b"\xff\xfe\x00", b'"x"', b'{"resourceSpans": ' + b'{"a":' * 5000, b"\x00" * 10],
)
def test_what_is_no_json_is_refused_with_a_reason(body: bytes) -> None:
    """A body that is no OTLP/JSON raises one clear error."""
    with pytest.raises(Undecodable, match="not OTLP/JSON"):
        decode_traces(body, is_json=True)


def test_empty_bodies_are_empty_requests() -> None:
    """An empty body is a valid request."""
    assert (
        decode_traces(b"", is_json=True) == decode_traces(b"") == decode_logs(b"") == decode_metrics(b"") == Decoded()
    )


@pytest.mark.parametrize("raw", ['"\\ud800"', '"\xff"'])
def test_bad_text_in_json_is_salvaged(raw: str) -> None:
    """A lone surrogate or invalid UTF-8 costs a character, not the request."""
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [a_span(name="NAME")]}]}]}).replace('"NAME"', raw)
    (span,) = decode_traces(body.encode("latin-1"), is_json=True).observations
    assert span.name == "\ufffd"
    assert span.repairs & (Repair.TEXT | Repair.NOT_UTF8)


@pytest.mark.proves("one-bad-span", "giant-integer")
def test_a_number_of_thousands_of_digits_is_kept_as_text() -> None:
    """A number of thousands of digits is neither an error nor a float."""
    body = json.dumps(
        {
            "resourceSpans": [
                {"scopeSpans": [{"spans": [a_span(attributes=[{"key": "agent.k", "value": {"intValue": 123}}])]}]}
            ]
        }
    )
    (span,) = decode_traces(body.replace("123}", "9" * 5000 + "}").encode(), is_json=True).observations
    assert span.attributes["agent.k"].startswith("9999")


@pytest.mark.proves("one-bad-span", "no-utf8")
def test_invalid_utf8_in_one_protobuf_string_is_salvaged() -> None:
    """Protobuf refuses a whole request for one bad string: the others are unchanged, the bad one is
    repaired.
    """
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in ("good", "XXXX"):
        span = scope.spans.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), name=name)
        span.start_time_unix_nano, span.end_time_unix_nano = AT, AT + 1
        span.attributes.add(key="agent.k").value.string_value = name
    body = request.SerializeToString().replace(b"XXXX", b"b\xc3\x28d")
    good, bad = decode_traces(body).observations
    assert (good.name, good.attributes, good.repairs) == ("good", {"agent.k": "good"}, 0)
    assert (bad.name, bad.attributes) == ("b\ufffd(d", {"agent.k": "b\ufffd(d"})
    assert bad.repairs == Repair.NOT_UTF8


def test_of_a_span_that_is_not_an_agents_no_value_is_read() -> None:
    """Attributes without an agent's names are counted and not read; start and end of the span are kept."""
    strange = a_span(attributes=[text("http.route", "/x"), text("k", "\0")], status={"code": 2, "message": "boom"})
    (seen,) = traces(strange).observations
    assert (seen.attributes, seen.unread, seen.repairs) == ({}, 2, 0)
    assert (seen.parent_id.hex(), seen.name, seen.status, seen.status_message) == (PARENT, "chat", Status.ERROR, "boom")
    (nameless, other) = traces(*(a_span(traceId="", attributes=[text("k", v)]) for v in "ab")).observations
    assert nameless.trace_id != other.trace_id  # without an id of its own its content identifies it


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(),
    st.binary(),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.integers(-9, 9), max_size=20),
    st.sampled_from(["", "x" * 5000, "\0", "ä" * 4096]),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["agent.a", "b", "c" * 300, "d\0", "é"]), VALUES))
@thorough(400)
def test_values_read_from_protobuf_are_mended_as_all_others(attributes: dict[str, Any]) -> None:
    """Values that the walk takes for clean are unchanged by repairing, twice over (names are cached)."""
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, start_time_unix_nano=1)
    )
    for key, value in {AGENTS[0]: AGENTS[1], **attributes}.items():
        set_value(span.attributes.add(key=key).value, value)
    body = request.SerializeToString()
    expected, repairs = mend({AGENTS[0]: AGENTS[1], **attributes})
    for _ in range(2):
        (seen,) = decode_traces(body).observations
        assert msgspec.json.encode(seen.attributes) == msgspec.json.encode(expected)
        assert seen.repairs == repairs


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = {
    16: st.sampled_from([b"1" * 16, b"2" * 16, bytes(16), b"", b"3" * 5]),
    8: st.sampled_from([b"1" * 8, bytes(8), b"", b"9" * 3]),
}
TIMES = st.sampled_from([0, 1, AT, AT + 7, 2**63, 2**64 - 1])
KEYS = st.sampled_from(["gen_ai.operation.name", "agent.a", "http.route", "logfire.span_type", "", "é", "k" * 130])
SPANS = st.fixed_dictionaries(
    {
        "trace_id": IDS[16], "span_id": IDS[8], "parent_span_id": IDS[8],
        "name": PLAIN | st.sampled_from(["n" * 2000, "a\0b"]), "kind": st.integers(0, 5),
        "start_time_unix_nano": TIMES, "end_time_unix_nano": TIMES, "code": st.integers(0, 2),
        "message": st.just("") | PLAIN, "links": st.integers(0, 2), "events": st.integers(0, 2),
        "attributes": st.lists(
            st.tuples(
                KEYS,
                PLAIN
                | st.integers(-(2**63), 2**63 - 1)
                | st.integers(0, 300)
                | st.booleans()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.lists(PLAIN, max_size=2)
                | st.sampled_from(["pending_span", "x" * 200]),
            ),
            max_size=4,
        ),
    }
)  # fmt: skip


@given(st.lists(SPANS, max_size=6))
@thorough(300)
def test_spans_of_any_shape_say_the_same_in_json_and_protobuf(spans: list[dict[str, Any]]) -> None:
    """A plain and an unusual span, and known and new attributes, decode alike in JSON and protobuf."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for given_span in [*spans, *spans]:
        more = dict(given_span)
        code, message, links, events, attributes = (
            more.pop(k) for k in ("code", "message", "links", "events", "attributes")
        )
        span = scope.spans.add(**more)
        span.status.code, span.status.message = code, message
        for number in range(links):
            span.links.add(trace_id=b"7" * 16, span_id=bytes([number + 1]) * (8 - number))
        for holder in (span, *(span.events.add(name="exception", time_unix_nano=AT * n) for n in range(events))):
            for key, value in attributes:
                set_value(holder.attributes.add(key=key).value, value)
    from_json = decode_traces(as_otlp_json(request), is_json=True)
    from_protobuf = decode_traces(request.SerializeToString())
    assert from_protobuf.observations == from_json.observations
    assert from_protobuf.dropped == from_json.dropped


def test_invalid_utf8_in_one_attribute_flags_its_span_alone() -> None:
    """A bad key or value is repaired in place; a span that contains U+FFFD itself is not flagged."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, value in enumerate(("\ufffd", "XXXX", "good")):
        span = scope.spans.add(trace_id=bytes.fromhex(TRACE), span_id=bytes([number + 1]) * 8, name="chat")
        span.start_time_unix_nano, span.end_time_unix_nano = AT, AT + 1
        span.attributes.add(key="agent.k" if number != 1 else f"agent.{value}").value.string_value = value
    body = request.SerializeToString().replace(b"XXXX", b"b\xc3\x28d")
    itself, bad, good = decode_traces(body).observations
    assert (bad.repairs & Repair.NOT_UTF8, itself.repairs & Repair.NOT_UTF8) == (Repair.NOT_UTF8, 0)
    assert bad.attributes == {"agent.b\ufffd(d": "b\ufffd(d"}
    assert (good.attributes, good.repairs) == ({"agent.k": "good"}, 0)


def test_an_attribute_that_is_no_message_is_undecodable() -> None:
    """Bytes that are no attribute fail when they are read, and the request is undecodable."""
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, start_time_unix_nano=1)
    )
    span.attributes.add(key="agent.k").value.string_value = "value"
    body = request.SerializeToString().replace(b"\x07agent.k", b"\x7fagent.k")
    with pytest.raises(Undecodable, match="an attribute is not protobuf"):
        decode_traces(body)


def set_value(into: Any, value: Any) -> None:
    if isinstance(value, list):
        into.array_value.SetInParent()
        for one in value:
            set_value(into.array_value.values.add(), one)
    else:
        kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
        setattr(into, kinds[type(value)], value)


def test_records_have_a_name_an_index_and_a_producer() -> None:
    """An event name is in its field or in one of two attributes; the index is made of the content alone."""
    at = str(AT)
    assert logs(eventName="a", timeUnixNano=at).name == "a"
    assert logs(attributes=[text("event.name", "b")], timeUnixNano=at).name == "b"
    assert logs(attributes=[text("event_name", "c")], observedTimeUnixNano=at).at_ns == AT
    one = logs(eventName="a", timeUnixNano=at, attributes=[text(c.PRODUCER, "p1")], body={"stringValue": "x"})
    two = logs(eventName="a", timeUnixNano=at, attributes=[text(c.PRODUCER, "p2")], body={"stringValue": "x"})
    three = logs(eventName="a", timeUnixNano=at, body={"stringValue": "y"}, severityNumber="SEVERITY_NUMBER_WARN2")
    assert (one.producer, one.body, three.severity) == ("p1", "x", 14)
    assert one.index == two.index != three.index


def test_half_a_context_is_none() -> None:
    """Zeros, or a trace without a span, are a record outside any span."""
    for ids in ({"traceId": TRACE}, {"traceId": "0" * 32, "spanId": "0" * 16}, {"traceId": TRACE, "spanId": "0" * 16}):
        record = logs(eventName="a", timeUnixNano=AT, **ids)
        assert (record.trace_id, record.span_id) == (b"", b"")


def test_the_record_of_a_started_span_is_that_span() -> None:
    """`agent.span.started` becomes a STARTED observation with name, kind, parent, start and the attributes
    so far.
    """
    attributes = [text(c.SPAN_NAME, "invoke_agent x"), text(c.SPAN_KIND, "INTERNAL"), text(c.SPAN_PARENT_ID, PARENT)]
    attributes += [{"key": c.SPAN_START, "value": {"intValue": str(AT - 9)}}, {"key": c.SEQ, "value": {"intValue": 3}}]
    attributes += [text(c.PRODUCER, "p1"), text("gen_ai.agent.name", "x")]
    seen = logs(eventName=c.EVENT_SPAN_STARTED, timeUnixNano=AT, traceId=TRACE, spanId=SPAN, attributes=attributes)
    assert (seen.part, seen.name, seen.kind, seen.parent_id.hex(), seen.start_ns) == (
        Part.STARTED,
        "invoke_agent x",
        1,
        PARENT,
        AT - 9,
    )
    assert (seen.producer, seen.seq, seen.attributes["gen_ai.agent.name"]) == ("p1", 3, "x")
    assert c.SPAN_NAME not in seen.attributes


BODIES = [p.read_bytes() for p in sorted(CAPTURES.glob("*/ok/*.pb")) if p.stat().st_size < 12_000]
JSON_BODIES = [
    as_otlp_json(ExportTraceServiceRequest.FromString(p.read_bytes()))
    for p in sorted(CAPTURES.glob("strands/ok/*-traces.pb"))
]


@pytest.mark.proves("one-bad-span", "garbage")
@thorough(250)
@given(st.data())
def test_mutated_bodies_are_read_or_refused(data: st.DataObject) -> None:
    """Bytes flipped, cut, repeated or inserted give storable observations, or `Undecodable`; nothing else."""
    is_json = data.draw(st.booleans())
    body = bytearray(data.draw(st.sampled_from(JSON_BODIES if is_json else BODIES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                body[at] = data.draw(st.integers(0, 255))
            case 1:
                del body[at : at + data.draw(st.integers(1, 50))]
            case 2:
                body[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case 3:
                body[at:at] = body[at : at + data.draw(st.integers(1, 50))]
        if not body:
            break
    for decode in (decode_traces, decode_logs):
        try:
            decoded = decode(bytes(body), is_json=is_json)
        except Undecodable:
            continue
        for o in decoded.observations:
            event_id(o)
            if o.part is not Part.LOG:
                assert (len(o.trace_id), len(o.span_id), len(o.parent_id) in (0, 8)) == (16, 8, True)
                assert any(o.trace_id)
                assert any(o.span_id)
            assert 0 <= o.start_ns < 2**63
            assert 0 <= o.at_ns < 2**63
            json.dumps(o.attributes, allow_nan=False).encode()
