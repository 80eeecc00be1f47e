"""OTLP's export responses as bytes, in protobuf and in JSON. For errors see `spanpost.http.status`.

The few fields are encoded by hand, so that HTTP and gRPC respond alike and nothing is imported for it. Field
numbers: opentelemetry-proto 1.11, read 2026-11.
"""

from __future__ import annotations

import json
from typing import Final

from spanpost.http.status import bytes_field, text_field, varint_field

_REJECTED: Final = {"traces": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}


def exported(signal: str, rejected: int = 0, message: str = "", *, is_json: bool) -> bytes:
    """Return an export response; empty if nothing was rejected, as the specification says."""
    if is_json:
        if not rejected and not message:
            return b"{}"
        partial: dict[str, object] = {_REJECTED[signal]: str(rejected)} if rejected else {}
        return json.dumps({"partialSuccess": partial | ({"errorMessage": message} if message else {})}).encode()
    if not rejected and not message:
        return b""
    # All three responses and their partial successes have the same field numbers.
    return bytes_field(1, varint_field(1, rejected) + text_field(2, message))
