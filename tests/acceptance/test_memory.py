"""Hostile bodies sent at once to a real gateway stay within the memory that the settings allow.

`SPANPOST_TEST_BODY_MIB=64` sends the largest bodies that the default accepts.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import zstandard

from tests.acceptance.gateway_process import Gateway, request
from tests.conftest import fresh_database

MIB = 1024 * 1024
LARGEST = int(os.environ.get("SPANPOST_TEST_BODY_MIB", "8")) * MIB
AT_ONCE = 6
#: Allowed growth of a gateway, in bodies of the largest size: those under way, inflated ones, and parsed
#: JSON.
FACTOR, SOME = 8, 100 * MIB

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.fixture(scope="module")
def gateway(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return one gateway for all: a body's memory is released, or the next test fails."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is read from /proc")
    limits = {"SPANPOST_GATEWAY__MAX_BODY": str(LARGEST), "SPANPOST_GATEWAY__MAX_IN_FLIGHT": str(LARGEST)}
    with fresh_database(server) as dsn:
        gateway = Gateway(dsn, tmp_path_factory.mktemp("home"), **limits).ready()
        yield gateway
        gateway.kill()


@pytest.fixture
def grown(gateway: Gateway) -> Callable[[], int]:
    """Return a function that gives the gateway's peak growth in bytes since the test began."""
    process = Path(f"/proc/{gateway.process.pid}")

    def bytes_of(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+)", (process / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    before = bytes_of("VmRSS")
    (process / "clear_refs").write_text("5")  # the peak begins anew
    return lambda: bytes_of("VmHWM") - before


def _filled(head: bytes, unit: bytes, tail: bytes) -> bytes:
    return head + unit * ((LARGEST - len(head) - len(tail) - 64) // len(unit)) + tail


def _spans(unit: bytes) -> bytes:
    return _filled(b'{"resourceSpans":[{"scopeSpans":[{"spans":[', unit + b",", b"{}]}]}]}")


def _wrapped(content: bytes) -> bytes:
    """Return a request in protobuf whose one scope has this content."""

    def field(number: int, inner: bytes) -> bytes:
        length, size = bytearray(), len(inner)
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes((number << 3 | 2, *length, size)) + inner

    return field(1, field(2, content))


_SPAN = json.dumps(
    {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "GET /",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "attributes": [{"key": f"key.{n}", "value": {"stringValue": f"value {n}"}} for n in range(20)],
    }
).encode()
#: Name: content type, encoding, body, allowed answers.
BODIES: dict[str, tuple[str, str, Callable[[], bytes], set[int]]] = {
    "JSON of empty objects": ("json", "", lambda: _spans(b"{}"), {413}),
    "JSON of nothing but lists": ("json", "", lambda: _filled(b'{"resourceSpans":[', b"[],", b"[]]}"), {413}),
    "JSON of many spans": ("json", "", lambda: _spans(_SPAN), {200, 503}),
    "JSON of short texts": ("json", "", lambda: _filled(b'{"resourceSpans":["', b'","', b'"]}'), {413}),
    "JSON of one span with a million numbers": (
        "json",
        "",
        lambda: _filled(
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","attributes":[{"key":"a","value":{"arrayValue":{"values":[',
            b'{"intValue": "1"},',
            b'{"intValue":1}]}}}]}]}]}]}',
        ),
        {413},
    ),
    "JSON that is not strict": (
        "json",
        "",
        lambda: _filled(b'{"resourceSpans":[NaN,"', b"x" * 64, b'"]}'),
        {200, 400, 503},
    ),
    "JSON in gzip, of empty objects": ("json", "gzip", lambda: gzip.compress(_spans(b"{}"), 1), {413, 503}),
    "JSON in zstd, of many spans": ("json", "zstd", lambda: zstandard.compress(_spans(_SPAN)), {200, 503}),
    "gzip that goes on": ("x-protobuf", "gzip", lambda: gzip.compress(bytes(LARGEST * 2), 1), {413, 503}),
    "zstd that goes on": ("x-protobuf", "zstd", lambda: zstandard.compress(bytes(LARGEST * 2)), {413, 503}),
}


@pytest.mark.proves("one-stops-no-other", "oversized", "bomb")
@pytest.mark.parametrize("name", BODIES)
def test_hostile_bodies_are_bounded(name: str, gateway: Gateway, grown: Callable[[], int]) -> None:
    """Six senders of one large body at once get only the foreseen answers, and memory stays within the bound."""
    kind, encoding, make, answers = BODIES[name]
    body = make()
    headers = {"content_type": f"application/{kind}"} | ({"content_encoding": encoding} if encoding else {})

    def send(_: int) -> int:
        with suppress(OSError):
            return request(f"{gateway.http}/v1/traces", body, timeout=110, **headers)[0]
        return 0  # it was rejected unread, or took longer than this sender waits

    with ThreadPoolExecutor(AT_ONCE) as senders:
        codes = set(senders.map(send, range(AT_ONCE)))
    print(f"{name}: {len(body) / MIB:.1f} MiB sent {AT_ONCE} times, grew by {grown() / MIB:.0f} MiB, {sorted(codes)}")
    assert codes <= answers | {0, 503}
    assert grown() < FACTOR * LARGEST + SOME


def test_compressed_messages_over_grpc_are_bounded(gateway: Gateway, grown: Callable[[], int]) -> None:
    """Forty small gRPC messages that inflate to the limit need as much memory as one at a time, and are
    reported so.
    """
    with grpc.insecure_channel(gateway.grpc.removeprefix("http://")) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        message = _wrapped(b"\x1a" + bytes((0xFF, 0xFF, 0x7F)) + bytes(LARGEST - 1024))
        calls = [export.future(message, compression=grpc.Compression.Gzip, timeout=60) for _ in range(40)]
        codes = {call.code() for call in calls}
    print(f"gRPC: grew by {grown() / MIB:.0f} MiB, {codes}")
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT}
    assert grown() < FACTOR * LARGEST + SOME


@pytest.mark.proves("one-stops-no-other", "crowds")
def test_millions_of_empty_spans_are_bounded(gateway: Gateway, grown: Callable[[], int]) -> None:
    """Spans of two bytes, in a body of any size, are refused before any of them is built."""
    body = _wrapped(b"\x12\x00" * (LARGEST // 2 - 32))

    def send(_: int) -> int:
        with suppress(OSError):
            return request(f"{gateway.http}/v1/traces", body, content_type="application/x-protobuf", timeout=5)[0]
        return 0

    with ThreadPoolExecutor(AT_ONCE) as senders:
        codes = set(senders.map(send, range(AT_ONCE)))
    print(
        f"empty spans: {len(body) / MIB:.1f} MiB sent {AT_ONCE} times, grew by {grown() / MIB:.0f} MiB, {sorted(codes)}"
    )
    assert 413 in codes
    assert codes <= {0, 413, 503}
    assert grown() < FACTOR * LARGEST + SOME
