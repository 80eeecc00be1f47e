"""The HTTP endpoint without a network: its answers to good, bad and hostile requests."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from spanpost.http.tokens import hash_of, new_token
from spanpost.model.observations import Repair
from spanpost.receivers import otlp_protobuf
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.receiver import KEPT
from tests.receivers.endpoints import JSON, PROTOBUF, Endpoint, away, opened, traces

LIMIT = 200_000


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Lend an endpoint that accepts bodies of 200 kB."""
    async with opened(AdmissionLimits(max_body=LIMIT)) as lent:
        yield lent


def as_json(*numbers: int, **extra: Any) -> dict[str, Any]:
    span = [
        {
            "traceId": f"{n:032x}",
            "spanId": f"{n:016X}",
            "name": f"chat {n}",
            "kind": "SPAN_KIND_CLIENT",
            "startTimeUnixNano": str(10**18 + n),
            "endTimeUnixNano": 10**18 + n + 1000,
            "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
            **extra,
        }
        for n in numbers
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": span}]}]}


# --- accepted -----------------------------------------------------------------------------------


async def test_spans_are_recorded_in_both_forms(endpoint: Endpoint) -> None:
    """Protobuf and JSON spans are recorded; the answer is the empty response in the request's form."""
    answer = await endpoint.post("/v1/traces", traces(1))
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, PROTOBUF, b"")
    answer = await endpoint.post("/v1/traces", json.dumps(as_json(2)).encode(), "application/json; charset=utf-8")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, JSON, b"{}")
    assert endpoint.interaction_store.spans == [1, 2]
    assert {o.at_ns for o in endpoint.interaction_store.recorded} == {10**18 + 1001, 10**18 + 1002}


@pytest.mark.proves("one-bad-span", "empty")
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics"])
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_empty_body_is_an_empty_request(
    endpoint: Endpoint, path: str, content_type: str, encoding: str
) -> None:
    """Item 6: an empty body is a valid request, whatever encoding it announces."""
    assert (await endpoint.post(path, b"", content_type, encoding)).status == 200
    assert endpoint.interaction_store.batches == []


async def test_logs_are_recorded_and_points_are_counted(endpoint: Endpoint) -> None:
    """Log records become observations; data points of metrics are accepted, counted and not kept."""
    logs = ExportLogsServiceRequest()
    record = (
        logs.resource_logs.add().scope_logs.add().log_records.add(event_name="agent.checkpoint", time_unix_nano=10**18)
    )
    record.trace_id, record.span_id = b"\1" * 16, b"\1" * 8
    assert (await endpoint.post("/v1/logs", logs.SerializeToString())).status == 200
    assert [o.name for o in endpoint.interaction_store.recorded] == ["agent.checkpoint"]
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_int=1)
    metric.gauge.data_points.add(as_int=2)
    assert (await endpoint.post("/v1/metrics", metrics.SerializeToString())).status == 200
    assert endpoint.metrics.registry.get_sample_value("spanpost_metric_points_total") == 2
    assert len(endpoint.interaction_store.batches) == 1


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("zstd", zstandard.compress),
    ],
)
async def test_encodings(endpoint: Endpoint, encoding: str, encode: Any) -> None:
    """Each announced encoding is decoded, zlib's deflate with and without its header."""
    assert (await endpoint.post("/v1/traces", encode(traces(7)), encoding=encoding)).status == 200
    assert endpoint.interaction_store.spans == [7]


@pytest.mark.proves("one-bad-span", "cut-gzip")
@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
async def test_all_members_are_read(endpoint: Endpoint, encoding: str, encode: Any) -> None:
    """Item 3: a body of several gzip members or zstd frames is read to its end, padding after it included."""
    body = encode(traces(1)) + encode(traces(2))
    assert (await endpoint.post("/v1/traces", body, encoding=encoding)).status == 200
    assert endpoint.interaction_store.spans == [1, 2]


async def test_a_body_in_pieces_is_one_body(endpoint: Endpoint) -> None:
    """A chunked body without a length is put together."""
    body = traces(1, 2, 3)
    assert (await endpoint.post("/v1/traces", [body[i : i + 7] for i in range(0, len(body), 7)])).status == 200
    assert endpoint.interaction_store.spans == [1, 2, 3]


# --- too large ----------------------------------------------------------------------------------


@pytest.mark.proves("one-stops-no-other", "oversized")
async def test_a_length_beyond_the_limit_is_refused_unread(endpoint: Endpoint) -> None:
    """Item 1: the announced length counts, and nothing of the body is read."""
    headers = {"content-type": PROTOBUF, "content-length": str(LIMIT + 1)}
    answer = await endpoint.ask("POST", "/v1/traces", None, headers)
    assert (answer.status, answer.headers["content-type"]) == (413, PROTOBUF)
    assert str(LIMIT) in answer.said


@pytest.mark.proves("one-stops-no-other", "oversized")
async def test_a_body_that_grows_beyond_the_limit_is_refused(endpoint: Endpoint) -> None:
    """Item 1: without a length the limit applies while reading; the reserved memory is released."""
    answer = await endpoint.post("/v1/traces", [b"x" * 60_000] * 10)
    assert answer.status == 413
    assert endpoint.receiver.in_flight == 0


@pytest.mark.slow
@pytest.mark.proves("one-stops-no-other", "bomb")
@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress), ("deflate", zlib.compress)]
)
async def test_bombs_are_refused(endpoint: Endpoint, encoding: str, encode: Any) -> None:
    """Item 2: a small body that would become a large one is inflated up to the limit, no further."""
    bomb = encode(b"\0" * 50_000_000)
    assert len(bomb) < LIMIT
    answer = await endpoint.post("/v1/traces", bomb, encoding=encoding)
    assert answer.status == 413
    assert endpoint.receiver.in_flight == 0


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    """A body of exactly the limit is accepted, plain or encoded."""
    body = traces(1, filler="x" * 5000)
    async with opened(AdmissionLimits(max_body=len(body))) as endpoint:
        assert (await endpoint.post("/v1/traces", body)).status == 200
        assert (await endpoint.post("/v1/traces", gzip.compress(body), encoding="gzip")).status == 200
        assert (await endpoint.post("/v1/traces", body + b"\0")).status == 413


# --- undecodable --------------------------------------------------------------------------------


@pytest.mark.proves("one-bad-span", "cut-gzip", "content-type", "garbage", "depth-bomb")
@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        pytest.param(gzip.compress(traces(1))[:-9], PROTOBUF, "gzip", id="3 truncated gzip"),
        pytest.param(gzip.compress(traces(1)) + b"more", PROTOBUF, "gzip", id="3 garbage after gzip"),
        pytest.param(zstandard.compress(traces(1))[:-3], PROTOBUF, "zstd", id="3 truncated zstd"),
        pytest.param(zlib.compress(traces(1))[:-5], PROTOBUF, "deflate", id="3 truncated deflate"),
        pytest.param(traces(1), PROTOBUF, "gzip", id="3 not gzip at all"),
        pytest.param(traces(1), JSON, "", id="4 protobuf called JSON"),
        pytest.param(json.dumps(as_json(1)).encode(), PROTOBUF, "", id="4 JSON called protobuf"),
        pytest.param(b"\xff\xfe nonsense", PROTOBUF, "", id="5 garbage"),
        pytest.param(traces(1)[:-3], PROTOBUF, "", id="5 truncated protobuf"),
        pytest.param(b'{"resourceSpans":' + b"[" * 100_000, JSON, "", id="11 depth bomb"),
        pytest.param(b"[1, 2]", JSON, "", id="no object"),
        pytest.param(b'"text"', JSON, "", id="text alone"),
    ],
)
async def test_what_cannot_be_decoded_is_kept_and_refused(
    endpoint: Endpoint, body: bytes, content_type: str, encoding: str
) -> None:
    """Items 3, 4, 5, 11: the answer is 400 with a google.rpc.Status, and the body is in quarantine."""
    answer = await endpoint.post("/v1/traces", body, content_type, encoding)
    assert (answer.status, answer.headers["content-type"]) == (400, content_type)
    assert answer.said
    assert "Traceback" not in answer.said
    [(tenant, source, error, kept)] = endpoint.interaction_store.kept
    assert (tenant, source, kept) == ("default", "otlp traces", body[:KEPT])
    assert error == answer.said
    assert endpoint.interaction_store.batches == []
    assert endpoint.receiver.in_flight == 0


@pytest.mark.proves("one-bad-span", "depth-bomb")
async def test_depth_is_read_or_refused(endpoint: Endpoint) -> None:
    """Item 11: deep JSON is refused, or read if Python's parser can; the next request is answered."""
    answer = await endpoint.post("/v1/traces", b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON)
    assert (answer.status, len(endpoint.interaction_store.kept)) in ((400, 1), (200, 0))
    assert (await endpoint.post("/v1/traces", traces(1))).status == 200


@pytest.mark.proves("one-bad-span", "garbage")
async def test_a_body_is_not_refused_for_good_before_it_is_kept(endpoint: Endpoint) -> None:
    """While the store is down even garbage gets 503: nothing is lost that a person might want to see."""
    endpoint.interaction_store.fail = away
    answer = await endpoint.post("/v1/traces", b"\xff\xfe nonsense")
    assert answer.status == 503
    endpoint.interaction_store.fail = lambda batch: None
    assert (await endpoint.post("/v1/traces", b"\xff\xfe nonsense")).status == 400
    assert len(endpoint.interaction_store.kept) == 1


@pytest.mark.proves("one-bad-span", "content-type")
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/grpc", "application/x-www-form-urlencoded", "x" * 5000]
)
async def test_content_types_that_are_not_understood(endpoint: Endpoint, content_type: str) -> None:
    """Item 4: 415, in JSON, with the accepted ones."""
    answer = await endpoint.post("/v1/traces", traces(1), content_type)
    assert (answer.status, answer.headers["content-type"]) == (415, JSON)
    assert PROTOBUF in answer.said
    assert len(answer.said) < 300


@pytest.mark.proves("one-bad-span", "bomb")
@pytest.mark.parametrize("encoding", ["snappy", "br", "gzip, gzip", "x" * 5000])
async def test_encodings_that_are_not_understood(endpoint: Endpoint, encoding: str) -> None:
    """Item 2: 415 in the request's form, with the accepted ones."""
    answer = await endpoint.post("/v1/traces", traces(1), encoding=encoding)
    assert (answer.status, answer.headers["content-type"]) == (415, PROTOBUF)
    assert "zstd" in answer.said


# --- repaired -----------------------------------------------------------------------------------


@pytest.mark.proves("one-bad-span", "no-utf8")
async def test_one_string_that_is_not_utf8_does_not_refuse_the_request(endpoint: Endpoint) -> None:
    """Item 7: the text is repaired and flagged, its siblings are unchanged."""
    body = traces(1, text="good").replace(b"good", b"go\xff\xfe") + traces(2)
    assert (await endpoint.post("/v1/traces", body)).status == 200
    flagged = {
        int.from_bytes(o.span_id, "big"): bool(o.repairs & Repair.NOT_UTF8) for o in endpoint.interaction_store.recorded
    }
    assert flagged == {1: True, 2: False}


def _field(number: int, value: bytes) -> bytes:
    size, length = len(value), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + value


@pytest.mark.proves("one-bad-span", "nested")
@pytest.mark.parametrize("depth", [20, 40, 200])
async def test_values_nested_deep_are_cut_or_the_body_is_kept(endpoint: Endpoint, depth: int) -> None:
    """Item 8: a value that protobuf can read is cut to a depth that every store accepts; any other is
    quarantined.
    """
    value = AnyValue(string_value="deep").SerializeToString()
    for _ in range(depth):  # written by hand: protobuf would not make what it cannot read
        values = _field(1, value)  # ArrayValue.values
        value = _field(5, values)  # AnyValue.array_value
    attribute = _field(9, _field(1, b"nested") + _field(2, value))  # Span.attributes: KeyValue
    span = ExportTraceServiceRequest.FromString(traces(1)).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    body = _field(1, _field(2, _field(2, span + attribute)))
    answer = await endpoint.post("/v1/traces", body)
    if answer.status == 200:
        [o] = endpoint.interaction_store.recorded
        assert o.repairs & Repair.DEPTH
    else:
        assert answer.status == 400
        assert len(endpoint.interaction_store.kept) == 1


@pytest.mark.proves("one-bad-span", "hex-ids", "lenient-json", "giant-integer")
async def test_json_is_read_as_leniently_as_the_specification_asks(endpoint: Endpoint) -> None:
    """Items 9, 10, 12: hex case, numbers as text, enum names, unknown fields, NaN, BOM, giant integers."""
    document = as_json(255, unknown={"a": [1]}, kind=3, attributes=[
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "i", "value": {"intValue": "9007199254740993"}}, {"key": "f", "value": {"doubleValue": "NaN"}},
        {"key": "e", "value": {}},
    ])  # fmt: skip
    body = json.dumps(document).replace('"unknown"', '"big": ' + "9" * 5000 + ', "unknown"').encode()
    assert (await endpoint.post("/v1/traces", b"\xef\xbb\xbf" + body, JSON)).status == 200
    [o] = endpoint.interaction_store.recorded
    assert (o.trace_id, o.span_id) == ((255).to_bytes(16, "big"), (255).to_bytes(8, "big"))
    assert o.attributes["i"] == 9007199254740993


# --- partial success ------------------------------------------------------------------------------------------------


async def test_a_repaired_span_is_not_reported_as_rejected(endpoint: Endpoint) -> None:
    """A span with bad ids is recorded with new ids: no partial success, which a sender would log."""
    answer = await endpoint.post("/v1/traces", traces(0, 1))
    assert (answer.status, answer.body) == (200, b"")
    assert len(endpoint.interaction_store.recorded) == 2


async def test_a_refused_span_is_reported_as_rejected(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable span is reported as rejected; its sibling is recorded."""
    take = otlp_protobuf._take

    def fails_once(decoded: Any, span: Any, *rest: Any) -> int:
        if span.name == b"chat 2":
            raise ValueError("no span")
        return take(decoded, span, *rest)

    monkeypatch.setattr(otlp_protobuf, "_take", fails_once)
    answer = await endpoint.post("/v1/traces", traces(1, 2))
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message
    assert endpoint.interaction_store.spans == [1]


@pytest.mark.proves("one-bad-span", "garbage", "nested")
async def test_a_bad_span_is_kept_and_reported(endpoint: Endpoint) -> None:
    """Items 5, 8: of a body with one invalid span the others are recorded, and that one is in quarantine."""
    good = traces(1, 2, 3)
    broken = good.replace(b"chat 2", b"chat \xff", 1).replace(b"\x15gen_ai.", b"\x7fgen_ai.", 1)
    answer = await endpoint.post("/v1/traces", broken)
    assert answer.status == 200
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    assert endpoint.interaction_store.spans == [2, 3]
    [(_, _, _, kept)] = endpoint.interaction_store.kept
    assert b"chat 1" in kept
    assert b"chat 3" not in kept


# --- methods, paths, pages ------------------------------------------------------------------------------------------


@pytest.mark.proves("one-bad-span", "wrong-path")
@pytest.mark.parametrize(
    "path", ["/", "/v1/traces/", "//v1/traces", "/v1/trace", "/v2/traces", "/v1/traces/../logs", "/\x00"]
)
async def test_paths_that_are_not_there(endpoint: Endpoint, path: str) -> None:
    """Item 15: 404 in the form of the request, with the existing paths."""
    answer = await endpoint.post(path, traces(1))
    assert (answer.status, answer.is_json) == (404, False)
    assert "/v1/traces" in answer.said
    assert endpoint.interaction_store.batches == []


@pytest.mark.proves("one-bad-span", "wrong-path")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
async def test_methods_that_are_not_taken(endpoint: Endpoint, method: str) -> None:
    """Item 15: 405, with the supported method."""
    answer = await endpoint.ask(method, "/v1/traces")
    assert (answer.status, answer.headers["allow"], answer.is_json) == (405, "POST", True)


# --- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves("proven-tenant", "wrong-token")
async def test_a_token_says_whose_spans_they_are() -> None:
    """Item 16: each valid token sets its tenant, two may be valid at once, and others are 401 without reason."""
    one, other, foreign, operator = (new_token() for _ in range(4))
    pairs = [("a", hash_of(one)), ("a", hash_of(other)), ("b", hash_of(foreign))]
    async with opened(tokens=pairs, operators=[hash_of(operator)]) as endpoint:
        for number, token in enumerate((one, other, foreign), 1):
            assert (await endpoint.post("/v1/traces", traces(number), authorization=f"Bearer {token}")).status == 200
        assert [(o.tenant, o.span_id[-1]) for o in endpoint.interaction_store.recorded] == [
            ("a", 1),
            ("a", 2),
            ("b", 3),
        ]
        wrong = [
            "",
            "Bearer",
            "Bearer ",
            f"Basic {one}",
            one,
            f"Bearer {one}x",
            "Bearer \xff\xfe",
            "Bearer " + "x" * 10_000,
        ]
        answers = [await endpoint.post("/v1/traces", traces(9), authorization=each) for each in wrong]
        assert {(answer.status, answer.said) for answer in answers} == {
            (401, "a valid token is needed, as Authorization: Bearer ...")
        }
        assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
        assert len(endpoint.interaction_store.recorded) == 3
        assert (await endpoint.post("/v1/traces", traces(9), authorization=f"Bearer {operator}")).status == 403


async def test_a_token_that_is_replaced_holds_no_longer(endpoint: Endpoint) -> None:
    """After new tokens are set, the former ones are refused."""
    old, new = new_token(), new_token()
    endpoint.sender_tokens.replace("default", [("a", hash_of(old))])
    assert (await endpoint.post("/v1/traces", traces(1), authorization=f"Bearer {old}")).status == 200
    endpoint.sender_tokens.replace("default", [("a", hash_of(new))])
    assert (await endpoint.post("/v1/traces", traces(1), authorization=f"Bearer {old}")).status == 401
    assert (await endpoint.post("/v1/traces", traces(1), authorization=f"Bearer {new}")).status == 200


@pytest.mark.proves("no-token-shown", "wrong-token")
@pytest.mark.parametrize(
    "query", [b"token=x", b"a=1&access_token=x", b"API-KEY=x".replace(b"-", b"_"), b"authorization=x"]
)
async def test_a_token_in_the_url_is_refused(endpoint: Endpoint, query: bytes) -> None:
    """Item 16: a token in the URL would be in every log; the answer names the header instead."""
    answer = await endpoint.ask("POST", "/v1/traces", [traces(1)], {"content-type": PROTOBUF}, query=query)
    assert answer.status == 400
    assert "Authorization" in answer.said
    assert endpoint.interaction_store.batches == []


# --- own faults ---------------------------------------------------------------------------------


@pytest.mark.proves("never-500")
async def test_a_fault_of_ours_is_no_500(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any internal failure asks the sender to retry without details; the log has the request's trace."""

    async def fails(*values: Any, **named: Any) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(endpoint.receiver, "take", fails)
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await endpoint.post("/v1/traces", traces(1), JSON, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert (answer.status, answer.retry_delay, answer.headers["retry-after"]) == (503, 5, "5")
    assert "secret" not in answer.said
    assert [record.trace_id for record in caplog.records if "internal error" in record.message] == [trace]


async def test_a_sender_that_goes_away_is_let_go(endpoint: Endpoint) -> None:
    """A connection closed in the middle of a body gets no answer and leaves nothing reserved."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", PROTOBUF.encode()), (b"content-length", b"1000")]
    await endpoint.app({"type": "http", "method": "POST", "path": "/v1/traces", "headers": headers}, receive, send)
    assert sent == []
    assert endpoint.receiver.in_flight == 0


@pytest.mark.proves("stop", "rolling-restart")
async def test_a_body_still_coming_at_the_end_is_asked_to_come_back(endpoint: Endpoint) -> None:
    """Item 22 of the faults: at the stop a sender in the middle of its body is answered 503 and keeps its
    data.
    """
    sent: list[Any] = []
    waits = asyncio.Event()

    async def receive() -> Any:
        waits.set()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", PROTOBUF.encode()), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/traces", "headers": headers}
    asked = asyncio.create_task(endpoint.app(scope, receive, send))
    await waits.wait()
    endpoint.otlp.end()
    await asked
    assert sent[0]["status"] == 503
    assert endpoint.receiver.in_flight == 0
    assert (await endpoint.post("/v1/traces", traces(1))).status == 503
