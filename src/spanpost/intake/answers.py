"""What a receiver answers, as bytes: OTLP's export responses and google.rpc.Status, in protobuf and in JSON.

They are a handful of fields, written here by hand (protobuf's wire format: a tag, then a varint or a length and bytes), so
that HTTP and gRPC answer alike and nothing is imported for it. Field numbers: opentelemetry-proto 1.11 and googleapis'
rpc/status.proto and rpc/error_details.proto, read 2026-11.
"""

from __future__ import annotations

import json
from typing import Final

#: google.rpc.Code
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
DEADLINE_EXCEEDED: Final = 4
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_REJECTED: Final = {"traces": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"


def exported(signal: str, rejected: int = 0, message: str = "", *, is_json: bool) -> bytes:
    """Return an export response; without anything refused it is empty, as the specification has it."""
    if is_json:
        if not rejected and not message:
            return b"{}"
        partial: dict[str, object] = {_REJECTED[signal]: str(rejected)} if rejected else {}
        return json.dumps({"partialSuccess": partial | ({"errorMessage": message} if message else {})}).encode()
    if not rejected and not message:
        return b""
    # All three responses and their partial successes number their fields alike.
    return _bytes(1, _int(1, rejected) + _bytes(2, message.encode("utf-8", "replace")))


def status(code: int, message: str, retry_after: int = 0, *, is_json: bool) -> bytes:
    """Return a google.rpc.Status; `retry_after` in seconds becomes its RetryInfo."""
    if is_json:
        details = [{"@type": _RETRY_INFO, "retryDelay": f"{retry_after}s"}] if retry_after else []
        return json.dumps({"code": code, "message": message} | ({"details": details} if details else {})).encode()
    whole = _int(1, code) + _bytes(2, message.encode("utf-8", "replace"))
    if retry_after:
        retry_info = _bytes(1, _int(1, retry_after))  # RetryInfo.retry_delay, a Duration
        whole += _bytes(3, _bytes(1, _RETRY_INFO.encode()) + _bytes(2, retry_info))
    return whole


def _int(number: int, value: int) -> bytes:
    return bytes((number << 3,)) + _varint(value) if value else b""


def _bytes(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value if value else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
