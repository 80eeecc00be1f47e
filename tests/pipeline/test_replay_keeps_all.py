"""Replay drops nothing: the memory store's limit is for processes that live on."""

from __future__ import annotations

import json
from pathlib import Path

from spanpost.runtime import replay


def test_every_task_of_a_recording_is_shown(clean_environment: Path) -> None:
    """Forty model calls, each with its own trace and response id, are forty tasks."""
    spans = [
        {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "name": "chat m",
            "startTimeUnixNano": str(1_790_000_000 * 10**9 + number),
            "endTimeUnixNano": str(1_790_000_001 * 10**9 + number),
            "attributes": [
                {"key": key, "value": {"stringValue": value}}
                for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.response.id", f"response-{number}"))
            ],
        }
        for number in range(1, 41)
    ]
    file = clean_environment / "calls.json"
    file.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    result = replay.replay([file])
    assert (len(result.tasks), result.dropped) == (40, {})
