"""The posted body and its id. Pure: the same delivery gives the same bytes and the same id."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from spanpost import Delivery
from spanpost.tasks.json_form import checkpoint_json, rfc3339, task_json
from spanpost.text.sanitise import scrub


def body_of(delivery: Delivery) -> bytes:
    """Return the delivery as JSON: ``type``, ``timestamp`` (of the occurrence) and ``data``."""
    checkpoint = delivery.checkpoint
    at = checkpoint.at if checkpoint is not None else delivery.task.last_event_at or delivery.born_at
    data: dict[str, Any] = {
        "tenant": delivery.tenant,
        "address": delivery.address or None,
        "task": task_json(delivery.task),
    }
    if checkpoint is not None:
        data["checkpoint"] = checkpoint_json(checkpoint, delivery.task.task_id)
    message = {
        "type": f"task.{checkpoint.kind if checkpoint is not None else 'state'}",
        "timestamp": rfc3339(at),
        "data": data,
    }
    return json.dumps(_plain(message), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def id_of(delivery: Delivery, body: bytes) -> str:
    """Return the ``webhook-id``: equal for every attempt of one delivery, so the receiver can detect a duplicate.

    A checkpoint has a key of its own. The states of a task share one key: their id is made from the body and
    from the body before, so that a task that returns to an earlier state is no duplicate.
    """
    parts = [delivery.sink.encode(), delivery.key.encode("utf-8", "replace")]
    if delivery.checkpoint is None:
        before = delivery.message_receipt.ref.get("id", "") if delivery.message_receipt is not None else ""
        parts += [str(before).encode(), body]
    return "msg_" + hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Return the value without secrets, and without characters and numbers that JSON or UTF-8 cannot hold."""
    if isinstance(value, str):
        return scrub(value).encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
