"""What a receiver answers, as bytes: OTLP's export responses, in protobuf and in JSON. Errors are `spanpost.http.status`.

They are a handful of fields, written here by hand, so that HTTP and gRPC answer alike and nothing is imported for it. Field
numbers: opentelemetry-proto 1.11, read 2026-11.
"""

from __future__ import annotations

import json
from typing import Final

from spanpost.http.status import bytes_field, text_field, varint_field

_REJECTED: Final = {"traces": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}


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
    return bytes_field(1, varint_field(1, rejected) + text_field(2, message))
