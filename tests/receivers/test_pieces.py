"""Bodies cut into pieces have the content of the whole, and a bad span affects only itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.model.observations import Observation
from spanpost.receivers import json_pieces
from spanpost.receivers import pieces as cutting
from spanpost.receivers.decode import decode_logs, decode_traces
from spanpost.receivers.decoded import EACH, STRIDE, Undecodable
from spanpost.receivers.elements import TooHeavy
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.pieces import Piece, pieces
from spanpost.receivers.protobuf_pieces import cut
from tests.thorough import thorough

_text = st.text(max_size=20)


def read(signal: str, body: bytes, *, is_json: bool = False) -> list[Piece]:
    """Return the pieces of a body."""
    return [piece for piece in pieces(signal, body, "default", is_json=is_json) if piece is not None]


def cuts_of(body: bytes, most: int) -> list[bytes]:
    """Return the requests into which a body is cut."""
    return [part for part in cut(body, most) if isinstance(part, bytes)]


_spans = st.lists(st.tuples(_text, st.integers(0, 2**63 - 1), st.binary(max_size=40)), max_size=12)
_scopes = st.lists(st.tuples(_text, _spans), max_size=4)
_resources = st.lists(st.tuples(_text, _scopes), max_size=4)


def _traces(resources: list[tuple[str, list[tuple[str, list[tuple[str, int, bytes]]]]]]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for service, scopes in resources:
        of_resource = request.resource_spans.add(schema_url=service)
        of_resource.resource.attributes.add(key="service.name").value.string_value = service
        for scope, spans in scopes:
            of_scope = of_resource.scope_spans.add(schema_url=scope)
            of_scope.scope.name = scope
            for name, at, raw in spans:
                span = of_scope.spans.add(name=name, trace_id=raw, span_id=raw[:8], end_time_unix_nano=at)
                span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    return request


@thorough(60)
@given(_resources, st.integers(0, 200))
def test_pieces_hold_what_the_whole_held(
    resources: list[tuple[str, list[tuple[str, list[tuple[str, int, bytes]]]]]], most: int
) -> None:
    """Wherever a request is cut, its pieces decode into the same observations in the same order."""
    body = _traces(resources).SerializeToString()
    found: list[Observation] = []
    for piece in cuts_of(body, most):
        found += decode_traces(piece).observations
    assert found == decode_traces(body).observations


@thorough(60)
@given(st.binary(max_size=300))
def test_any_bytes_are_cut_or_refused(body: bytes) -> None:
    """Any bytes are cut, or refused as no message."""
    try:
        cuts = cuts_of(body, 10)
    except Undecodable:
        return
    assert b"".join(cuts) == b"" or all(cuts_of(piece, 10) == [piece] for piece in cuts)


@thorough(60)
@given(_resources, st.data())
def test_a_body_cut_off_is_refused(
    resources: list[tuple[str, list[tuple[str, list[tuple[str, int, bytes]]]]]], data: st.DataObject
) -> None:
    """A body that ends within a span is refused, whatever came before it."""
    body = _traces(resources).SerializeToString()
    at = data.draw(st.integers(0, max(len(body) - 1, 0)))
    try:
        whole = ExportTraceServiceRequest.FromString(body[:at])
    except Exception:
        with pytest.raises(Undecodable):
            read("traces", body[:at])
    else:
        assert sum(len(p.decoded.observations) for p in read("traces", body[:at])) == sum(
            len(s.spans) for r in whole.resource_spans for s in r.scope_spans
        )


def test_a_spoiled_span_spoils_itself_alone() -> None:
    """Of a body that protobuf refuses each readable span is read, and the others are returned with reasons."""
    request = _traces([("s", [("a", [(f"n{i}", 10**18, bytes((i,)) * 16) for i in range(1, 6)])])])
    body = request.SerializeToString()
    good = request.resource_spans[0].scope_spans[0].spans[2].SerializeToString()
    spoiled = good.replace(b"\x15gen_ai.", b"\x7fgen_ai.")  # a key that is longer than its container
    broken = body.replace(good, spoiled)
    [piece] = read("traces", broken)
    assert [o.name for o in piece.decoded.observations] == ["n1", "n2", "n4", "n5"]
    [(single, error, _)] = piece.decoded.spoiled
    assert spoiled in single
    assert str(error)


def test_records_are_cut_like_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs have the same structure: a large request of records comes in pieces, none of them missing."""
    monkeypatch.setattr(cutting, "WHOLE", 2000)
    monkeypatch.setattr(cutting, "PIECE", 1000)
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for i in range(200):
        records.add(event_name=f"agent.checkpoint{i}", time_unix_nano=10**18 + i)
    body = request.SerializeToString()
    found = read("logs", body)
    assert len(found) > 3
    assert max(piece.size for piece in found) < 1100
    assert [o.name for p in found for o in p.decoded.observations] == [o.name for o in decode_logs(body).observations]


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_large_body_of_json_is_read_in_pieces(signal: str) -> None:
    """A body with several resources and scopes is read once, each under its own, and each misshapen element
    is counted once.
    """
    outer, middle, inner = (
        ("resourceSpans", "scopeSpans", "spans") if signal == "traces" else ("resourceLogs", "scopeLogs", "logRecords")
    )
    number = 0

    def entry() -> dict[str, Any]:
        nonlocal number
        number += 1
        ids = {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "chat", "eventName": "agent.checkpoint"}
        pad = {"key": "pad", "value": {"stringValue": "x" * 2000}}
        return {**ids, "startTimeUnixNano": "1", "endTimeUnixNano": "2", "timeUnixNano": "2", "attributes": [pad]}

    def resource(name: str, count: int) -> dict[str, Any]:
        named = {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}
        scopes = [{"scope": {"name": f"{name} {n}"}, inner: [entry() for _ in range(count)]} for n in range(2)]
        return {"resource": named, middle: scopes}

    document = {outer: [resource("a", 300), "no object", resource("b", 40), {middle: 7}, {middle: [{inner: [3]}]}]}
    body = json.dumps(document).encode()
    found = read(signal, body, is_json=True)
    assert len(found) > 4
    whole = (decode_traces if signal == "traces" else decode_logs)(body, is_json=True)
    assert [o for piece in found for o in piece.decoded.observations] == whole.observations
    dropped: Counter[str] = Counter()
    for piece in found:
        dropped.update(piece.decoded.dropped)
    assert dropped == whole.dropped
    assert sum(whole.dropped.values()) > 0


_json = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a,"\\\\é[]{}', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a,"\\\\', max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


def _commas(value: Any) -> int:
    if isinstance(value, list | dict):
        inner = list(value.values()) if isinstance(value, dict) else value
        return max(len(value) - 1, 0) + sum(map(_commas, inner))
    return 0


@pytest.mark.slow
@thorough(100)
@given(_json, st.integers(1, 7), st.booleans())
def test_values_are_counted_outside_of_text(value: Any, step: int, is_ascii: bool) -> None:
    """Commas between JSON values are distinguished from those in text, escapes included, at any step size."""
    body = json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":")).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_pieces, "_STEP", step)
        count = _commas(value)
        assert (
            json_pieces.has_more_values(body, count - 1) is (count > 0 and body.count(b",") > count - 1) or count == 0
        )
        assert not json_pieces.has_more_values(body, count)


def test_what_would_become_too_much_is_refused_or_left_out() -> None:
    """Millions of empty objects are refused before parsing, and a span of too many values is left out alone."""
    empty = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 200_000 + b"{}]}]}]}"
    with pytest.raises(BodyTooLarge, match="send batches of at most"):
        read("traces", empty, is_json=True)
    good = b'{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"chat"}'
    numbers = b",".join([b'{"intValue":"1"}'] * 250_000)
    heavy = b'{"name":"heavy","attributes":[{"key":"a","value":{"arrayValue":{"values":[' + numbers + b"]}}}]}"
    unreadable = b'{"name":"csv","attributes":[{"key":"a","value":{"stringValue":"' + b"1," * 400_000 + b'"}}]}'
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join((good, heavy, unreadable, good)) + b"]}]}]}"
    found = read("traces", body, is_json=True)
    assert [o.name for piece in found for o in piece.decoded.observations] == ["chat", "csv", "chat"]
    assert [type(each.error) for piece in found for each in piece.decoded.spoiled] == [TooHeavy]


def test_small_bodies_of_next_to_nothing_come_in_pieces() -> None:
    """A small body of many thousands of spans comes in pieces, and each counts for its cost."""
    empty = b"\x12\x0c\x2a\x0achatchatch" * 8_000
    scope = b"\x12" + bytes((len(empty) & 127 | 128, len(empty) >> 7 & 127 | 128, len(empty) >> 14)) + empty
    body = b"\x0a" + bytes((len(scope) & 127 | 128, len(scope) >> 7 & 127 | 128, len(scope) >> 14)) + scope
    found = read("traces", body)
    assert (
        max(len(piece.decoded.observations) for piece in found) <= cutting.PIECE // cutting.LEAST + STRIDE // EACH + 2
    )
    assert sum(len(piece.decoded.observations) for piece in found) == 8_000
    assert sum(piece.size for piece in found) >= 8_000 * cutting.LEAST
