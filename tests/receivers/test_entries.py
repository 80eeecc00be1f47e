"""The entries of a body are counted as they are recorded, in every form in which a body may come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.receivers import entries
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.entries import Entries, count

#: Numbers of entries by resource and scope.
SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=3)


def trace_of(number: int) -> bytes:
    return (number % 4 + 1).to_bytes(16, "big")


def a_request(signal: str, shape: list[list[int]]) -> Any:
    """Return a request; its entries have the traces of `trace_of`, in order."""
    number = 0
    whole: Any = {
        "traces": ExportTraceServiceRequest,
        "logs": ExportLogsServiceRequest,
        "metrics": ExportMetricsServiceRequest,
    }[signal]()
    for scopes in shape:
        resource = getattr(whole, f"resource_{'spans' if signal == 'traces' else signal}").add()
        resource.resource.attributes.add(key="service.name").value.string_value = "x" * 200
        for held in scopes:
            scope = getattr(resource, f"scope_{'spans' if signal == 'traces' else signal}").add()
            scope.scope.name = "tests"
            for _ in range(held):
                number += 1
                if signal == "traces":
                    scope.spans.add(trace_id=trace_of(number), name="chat", end_time_unix_nano=10**18)
                elif signal == "logs":
                    scope.log_records.add(trace_id=trace_of(number)).body.string_value = "said"
                else:
                    metric = scope.metrics.add(name="m")
                    data = metric.histogram if number % 2 else metric.sum
                    data.data_points.add(time_unix_nano=1)
                    data.data_points.add(time_unix_nano=2)
    return whole


def as_json(whole: Any) -> bytes:
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(whole)
    for resource in [*document.get("resourceSpans", ()), *document.get("resourceLogs", ())]:
        for scope in [*resource.get("scopeSpans", ()), *resource.get("scopeLogs", ())]:
            for number, entry in enumerate([*scope.get("spans", ()), *scope.get("logRecords", ())]):
                entry["traceId"] = trace_of(number + 1).hex().upper()
    return json.dumps(document).encode()


def counted(signal: str, body: bytes, *, is_json: bool = False, with_traces: bool = False) -> Entries:
    found = Entries()
    for _ in count(found, signal, body, is_json=is_json, with_traces=with_traces):
        pass
    return found


def paths(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes, bool], list[Entries]]:
    """Return what counts a protobuf body by the parser, and as a large one."""

    def both(signal: str, body: bytes, with_traces: bool) -> list[Entries]:
        found = [counted(signal, body, with_traces=with_traces)]
        with monkeypatch.context() as changed:
            changed.setattr(entries, "WHOLE", -1)
            found.append(counted(signal, body, with_traces=with_traces))
        return found

    return both


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
@given(shape=SHAPES, with_traces=st.booleans())
def test_a_body_has_as_many_entries_in_every_form(signal: str, shape: list[list[int]], with_traces: bool) -> None:
    """The parser, the walk over large bodies and both ways of JSON find the same number, and the same traces."""
    whole = a_request(signal, shape)
    expected = sum(map(sum, shape)) * (2 if signal == "metrics" else 1)
    with pytest.MonkeyPatch.context() as patched:
        found = paths(patched)(signal, whole.SerializeToString(), with_traces)
        body = as_json(whole)
        found.append(counted(signal, body, is_json=True, with_traces=with_traces))
        patched.setattr(entries, "LARGEST", -1)
        found.append(counted(signal, body, is_json=True, with_traces=with_traces))
    assert [one.number for one in found] == [expected] * 4
    named = with_traces and signal != "metrics"
    assert [one.traces for one in found[:2]] == [{trace_of(n + 1) for n in range(expected)} if named else set()] * 2
    of_scopes = {trace_of(n + 1) for scopes in shape for held in scopes for n in range(held)}
    assert [one.traces for one in found[2:]] == [of_scopes if named else set()] * 2


def test_tags_in_more_bytes_than_needed_are_counted() -> None:
    """A sender cannot hide spans from the count by writing their field's number in two bytes."""
    span = b"\x92\x00\x02\x2a\x00"
    scope = b"\x12" + bytes((2 * len(span),)) + span * 2
    body = b"\x0a" + bytes((len(scope),)) + scope
    with pytest.MonkeyPatch.context() as patched:
        assert [one.number for one in paths(patched)("traces", body, False)] == [2, 2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 0),
        (b"{}", 0),
        (b'{"resourceSpans":null}', 0),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\\ud800"},{}]}]}]}', 2),
        (b'{"resourceSpans":[{"scopeSpans":{"spans":[{}]}},{"scopeSpans":[{"spans":[1,null,{}]},5]}]}', 3),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":7},{"traceId":"xy"}]}]}],"x":NaN}', 2),
    ],
)
def test_json_that_only_the_lenient_parser_reads_is_counted(body: bytes, expected: int) -> None:
    """Misshapen parts count nothing, and the entries beside them count."""
    assert counted("traces", body, is_json=True).number == expected
    assert counted("traces", body, is_json=True, with_traces=True).number == expected


def test_what_is_no_request_is_refused_like_anywhere() -> None:
    """A body that is no request raises what decoding it raises."""
    with pytest.raises(Undecodable):
        counted("traces", b"\x0a\xff")
    with pytest.raises(Undecodable):
        counted("traces", b"{", is_json=True)
    with pytest.raises(BodyTooLarge):
        counted("traces", b'{"resourceSpans":[' + b"{}," * 500_000 + b"{}]}", is_json=True)
