"""What is posted, and under which id. Pure: the same delivery gives the same bytes and the same id."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from spanpost import Delivery
from spanpost.tasks.json_form import checkpoint_json, rfc3339, task_json
from spanpost.text.sanitise import scrub


def body_of(delivery: Delivery) -> bytes:
    """Return the delivery as JSON: ``type``, ``timestamp`` (when it happened) and ``data``."""
    news = delivery.checkpoint
    at = news.at if news is not None else delivery.task.last_event_at or delivery.born_at
    data: dict[str, Any] = {
        "tenant": delivery.tenant,
        "address": delivery.address or None,
        "task": task_json(delivery.task),
    }
    if news is not None:
        data["checkpoint"] = checkpoint_json(news, delivery.task.task_id)
    told = {"type": f"task.{news.kind if news is not None else 'state'}", "timestamp": rfc3339(at), "data": data}
    return json.dumps(_plain(told), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def id_of(delivery: Delivery, body: bytes) -> str:
    """Return the ``webhook-id``: equal for every try of one delivery, by which the receiver knows a repeat.

    News has a key of its own. The states of a task share one; of those the id is made from what is posted
    and from what was posted before, so that a task that returns to an earlier state is no repeat.
    """
    parts = [delivery.sink.encode(), delivery.key.encode("utf-8", "replace")]
    if delivery.checkpoint is None:
        before = delivery.message_receipt.ref.get("id", "") if delivery.message_receipt is not None else ""
        parts += [str(before).encode(), body]
    return "msg_" + hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Return the value without secrets and what JSON or UTF-8 cannot hold: agents may put anything into an
    attribute.
    """
    if isinstance(value, str):
        return scrub(value).encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
