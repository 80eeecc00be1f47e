"""Encoded requests are split and shrunk so that each fits, and keep what they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanpost.receivers.forward_requests import shrink, split


def request_of(resources: list[list[list[int]]]) -> ExportTraceServiceRequest:
    """Return a request: resources of scopes of spans with a text of the given length."""
    request = ExportTraceServiceRequest()
    for number, scopes in enumerate(resources):
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"service-{number}"
        for at, sizes in enumerate(scopes):
            scope = resource.scope_spans.add()
            scope.scope.name = f"scope-{at}"
            for size in sizes:
                scope.spans.add(name=f"s{size}", span_id=b"12345678").attributes.add(key="text").value.string_value = (
                    "x" * size
                )
    return request


def flat(request: ExportTraceServiceRequest) -> list[tuple[bytes, bytes, bytes]]:
    return [
        (r.resource.SerializeToString(), s.scope.SerializeToString(), span.SerializeToString())
        for r in request.resource_spans
        for s in r.scope_spans
        for span in s.spans
    ]


@settings(max_examples=100)
@given(st.lists(st.lists(st.lists(st.integers(0, 900), max_size=6), max_size=3), max_size=3), st.integers(300, 4000))
def test_parts_equal_the_whole_and_fit(resources: list[list[list[int]]], most: int) -> None:
    """Parts hold the same spans with their resources and scopes, in order; only a single span exceeds the limit."""
    whole = request_of(resources)
    parts = list(split(whole.SerializeToString(), most))
    read = [flat(ExportTraceServiceRequest.FromString(body)) for body, _ in parts]
    assert [span for spans in read for span in spans] == flat(whole)
    assert [len(spans) for spans in read] == [count for _, count in parts]
    assert all(len(body) <= most or count == 1 for body, count in parts)


def only(body: bytes | None) -> Any:
    assert body is not None
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    assert resource.resource.attributes[0].value.string_value == "service-0"
    [span] = resource.scope_spans[0].spans
    return span


def test_the_longest_texts_are_cut_first() -> None:
    """A span that is too large keeps its ids and short attributes; its long texts are cut and marked."""
    request = request_of([[[100_000]]])
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="agent.task.name").value.string_value = "Prune the roses"
    span.events.add(name="exception").attributes.add(key="stack").value.string_value = "Ü" * 60_000
    nested = span.attributes.add(key="nested").value.kvlist_value.values.add(key="deep")
    nested.value.array_value.values.add().string_value = "y" * 90_000
    body = shrink("traces", request.SerializeToString(), 50_000)
    assert body is not None
    assert 45_000 < len(body) <= 50_000
    cut = only(body)
    texts = {pair.key: pair.value.string_value for pair in cut.attributes}
    assert texts["agent.task.name"] == "Prune the roses"
    assert texts["text"].startswith("xxx")
    assert "100000 bytes, sha256" in texts["text"]
    assert "120000 bytes" in cut.events[0].attributes[0].value.string_value
    assert (cut.span_id, cut.dropped_attributes_count) == (b"12345678", 0)


@pytest.mark.slow
def test_what_texts_do_not_free_is_left_out_and_counted() -> None:
    """With thousands of small values, the largest events and attributes are left out, and their counts say so."""
    request = request_of([[[10]]])
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="agent.task.name").value.string_value = "Prune the roses"
    many = span.attributes.add(key="numbers").value.array_value
    for number in range(20_000):
        many.values.add().int_value = number
    for _ in range(2_000):
        span.events.add(name="token").attributes.add(key="text").value.string_value = "z" * 100
    body = shrink("traces", request.SerializeToString(), 100_000)
    assert body is not None
    assert len(body) <= 100_000
    cut = only(body)
    assert [pair.key for pair in cut.attributes] == ["text", "agent.task.name"]
    assert cut.dropped_attributes_count == 1
    assert 0 < len(cut.events) == 2_000 - cut.dropped_events_count


def test_a_log_record_is_cut_too() -> None:
    """A log record's body and attributes are cut as a span's are."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="agent.checkpoint")
    record.body.string_value = "b" * 70_000
    record.attributes.add(key="a").value.string_value = "a" * 70_000
    body = shrink("logs", request.SerializeToString(), 20_000)
    assert body is not None
    assert len(body) <= 20_000
    [cut] = ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records
    assert cut.event_name == "agent.checkpoint"
    assert cut.body.string_value.startswith("bbb")


def test_a_resource_that_is_too_large_alone_cannot_be_helped() -> None:
    """Nothing of a span is cut for a resource that does not fit."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="r").value.string_value = "r" * 60_000
    resource.scope_spans.add().spans.append(Span(name="small"))
    assert shrink("traces", request.SerializeToString(), 50_000) is None
