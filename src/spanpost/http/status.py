"""The error body of every endpoint: google.rpc.Status, in JSON and in protobuf. Pure.

``{"code": 5, "message": "...", "details": [...]}``. `details` holds a google.rpc.ErrorInfo (`reason` is for
programs); a RetryInfo if the client should come back; a BadRequest if one field of the request is wrong.
Field numbers: googleapis' rpc/status.proto and rpc/error_details.proto, read 2026-11. The few fields are
encoded by hand: an error needs no protobuf library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

JSON: Final = "application/json"
#: The ErrorInfo domain of each `reason`.
DOMAIN: Final = "spanpost"
_TYPE: Final = "type.googleapis.com/google.rpc."


class Code(IntEnum):
    """The members of google.rpc.Code that endpoints use."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


#: By HTTP status: the code, and the default reason.
ERRORS: Final[Mapping[int, tuple[Code, str]]] = MappingProxyType(
    {
        400: (Code.INVALID_ARGUMENT, "invalid"),
        401: (Code.UNAUTHENTICATED, "unauthenticated"),
        403: (Code.PERMISSION_DENIED, "forbidden"),
        404: (Code.NOT_FOUND, "not_found"),
        405: (Code.UNIMPLEMENTED, "method"),
        406: (Code.INVALID_ARGUMENT, "not_acceptable"),
        408: (Code.DEADLINE_EXCEEDED, "too_slow"),
        409: (Code.ABORTED, "conflict"),
        413: (Code.RESOURCE_EXHAUSTED, "too_large"),
        415: (Code.INVALID_ARGUMENT, "content_type"),
        422: (Code.INVALID_ARGUMENT, "invalid"),
        429: (Code.RESOURCE_EXHAUSTED, "too_many"),
        431: (Code.RESOURCE_EXHAUSTED, "too_large"),
        502: (Code.UNAVAILABLE, "unavailable"),
        503: (Code.UNAVAILABLE, "unavailable"),
    }
)


def code_of(status: int) -> Code:
    """Return the code of an HTTP status."""
    return ERRORS[status if status in ERRORS else 400 if status < 500 else 503][0]


def as_json(
    code: int, message: str, *, reason: str = "", fields: Mapping[str, str] | None = None, retry_after: int = 0
) -> bytes:
    """Return a google.rpc.Status in JSON; `fields`: a message for each wrong field, `retry_after` in seconds."""
    details: list[dict[str, Any]] = []
    if reason:
        details.append({"@type": f"{_TYPE}ErrorInfo", "reason": reason.upper(), "domain": DOMAIN})
    if retry_after:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{retry_after}s"})
    if fields:
        violations = [{"field": field, "description": why} for field, why in fields.items()]
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": violations})
    return json.dumps({"code": int(code), "message": message} | ({"details": details} if details else {})).encode()


def as_protobuf(
    code: int, message: str, *, reason: str = "", fields: Mapping[str, str] | None = None, retry_after: int = 0
) -> bytes:
    """Return a google.rpc.Status in protobuf; `fields`: a message for each wrong field, `retry_after` in seconds."""
    whole = varint_field(1, code) + text_field(2, message)
    if reason:
        whole += _detail("ErrorInfo", text_field(1, reason.upper()) + text_field(2, DOMAIN))
    if retry_after:
        whole += _detail("RetryInfo", bytes_field(1, varint_field(1, retry_after)))  # retry_delay, a Duration
    if fields:
        violations = (text_field(1, field) + text_field(2, why) for field, why in fields.items())
        whole += _detail("BadRequest", b"".join(bytes_field(1, one) for one in violations))
    return whole


def message_of(body: bytes) -> str:
    """Return the message of a google.rpc.Status in protobuf, as `as_protobuf` writes it; empty for other bytes."""
    at = 0
    if body[:1] == b"\x08":  # the code, a varint
        at = next((i + 1 for i in range(1, min(len(body), 11)) if body[i] < 128), len(body))
    if body[at : at + 1] != b"\x12":
        return ""
    length = shift = 0
    for i in range(at + 1, min(len(body), at + 6)):
        length |= (body[i] & 127) << shift
        shift += 7
        if body[i] < 128:
            return body[i + 1 : i + 1 + length].decode("utf-8", "replace")
    return ""


def _detail(name: str, value: bytes) -> bytes:
    return bytes_field(3, text_field(1, _TYPE + name) + bytes_field(2, value))


def varint_field(number: int, value: int) -> bytes:
    """Return a field of protobuf's wire format; nothing for 0."""
    return bytes((number << 3,)) + _varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field of protobuf's wire format; nothing for an empty value."""
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value if value else b""


def text_field(number: int, value: str) -> bytes:
    """Return a field of protobuf's wire format; nothing for an empty text."""
    return bytes_field(number, value.encode("utf-8", "replace"))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
