"""Metric data points at the receivers: which ones become observations, from protobuf and JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanpost.model.observations import Part, Repair
from spanpost.receivers.decode import decode_metrics
from spanpost.receivers.pieces import WHOLE, pieces

READ = "claude_code.token.usage"


def request_of(name: str = READ, *, temporality: int = 1, points: int = 1, **more: Any) -> ExportMetricsServiceRequest:
    """Return a request with one sum: points of 10, 20, ... tokens."""
    request = ExportMetricsServiceRequest()
    holder = request.resource_metrics.add()
    holder.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="claude-code")))
    scope = holder.scope_metrics.add()
    scope.scope.name = "com.anthropic.claude_code"
    metric = scope.metrics.add(name=name)
    metric.sum.aggregation_temporality = temporality  # type: ignore[assignment]
    for number in range(points):
        point = metric.sum.data_points.add(start_time_unix_nano=10**18, time_unix_nano=10**18 + number + 1, **more)
        if point.WhichOneof("value") is None and not point.flags:
            point.as_double = 10.0 * (number + 1)
        point.attributes.append(KeyValue(key="session.id", value=AnyValue(string_value=f"s{number}")))
    return request


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize(("temporality", "kind"), [(0, 0), (1, 1), (2, 2)])
def test_a_point_that_is_read_is_an_observation(is_json: bool, temporality: int, kind: int) -> None:
    """A known metric's point keeps times, value, attributes and temporality, from protobuf and JSON alike."""
    request = request_of(temporality=temporality, as_int=7)
    body = json.dumps(MessageToDict(request)).encode() if is_json else request.SerializeToString()
    decoded = decode_metrics(body, tenant="t", is_json=is_json)
    [o] = decoded.observations
    assert (o.part, o.name, o.kind, o.body, o.tenant) == (Part.LOG, READ, kind, 7, "t")
    assert (o.start_ns, o.at_ns, o.attributes) == (10**18, 10**18 + 1, {"session.id": "s0"})
    assert (o.origin.scope, o.origin.resource, decoded.metric_points) == (
        "com.anthropic.claude_code",
        {"service.name": "claude-code"},
        0,
    )
    assert o.index


def test_both_forms_are_one_observation() -> None:
    """The same point by protobuf and by JSON is the same observation: a duplicate."""
    request = request_of(points=3)
    binary = decode_metrics(request.SerializeToString()).observations
    text = decode_metrics(json.dumps(MessageToDict(request)).encode(), is_json=True).observations
    assert [o.index for o in binary] == [o.index for o in text]
    assert len({o.index for o in binary}) == 3


@pytest.mark.parametrize("is_json", [False, True])
def test_points_that_nobody_reads_are_counted(is_json: bool) -> None:
    """Other metrics, other kinds, and points without a value are counted, without observations."""
    request = request_of("http.server.requests", points=2)
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    metrics.add(name=READ).gauge.data_points.add(as_int=1, time_unix_nano=10**18)
    metrics.add(name=READ).histogram.data_points.add(count=1, time_unix_nano=10**18)
    request.MergeFrom(request_of(flags=1))
    body = json.dumps(MessageToDict(request)).encode() if is_json else request.SerializeToString()
    decoded = decode_metrics(body, is_json=is_json)
    assert (decoded.observations, decoded.metric_points, decoded.dropped) == ([], 5, {})


def test_times_that_no_clock_has_are_mended() -> None:
    """A time beyond a row's range is repaired and flagged; the point is kept."""
    request = request_of()
    request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].time_unix_nano = 2**64 - 1
    [o] = decode_metrics(request.SerializeToString()).observations
    assert (o.at_ns, o.repairs & Repair.TIME) == (2**63 - 1, Repair.TIME)


@pytest.mark.parametrize("value", ["NaN", "ten", True, None, [1], {"a": 1}])
def test_values_that_are_no_numbers_are_no_loss(value: Any) -> None:
    """With any value of a sender, its neighbours are read."""
    document = MessageToDict(request_of(points=2))
    document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"][0]["asDouble"] = value
    decoded = decode_metrics(json.dumps(document).encode(), is_json=True)
    assert 20.0 in [o.body for o in decoded.observations]
    assert len(decoded.observations) + decoded.metric_points == 2


def test_a_large_body_is_read_in_pieces() -> None:
    """Metrics are cut like spans: along their metrics, and nothing is lost or doubled."""
    request = request_of(points=0)
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    for number in range(3000):
        metrics.extend(request_of(points=1).resource_metrics[0].scope_metrics[0].metrics)
        metrics[-1].sum.data_points[0].time_unix_nano = 10**18 + number + 1
        metrics[-1].description = "d" * 100
    body = request.SerializeToString()
    assert len(body) > WHOLE
    found = [piece for piece in pieces("metrics", body, "t", is_json=False) if piece is not None]
    assert len(found) > 1
    assert len({o.index for piece in found for o in piece.decoded.observations}) == 3000
