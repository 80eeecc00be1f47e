"""JSON of responses. Writing it cannot fail: values that JSON does not have become null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi.responses import JSONResponse

from spanpost.interactions.api.cursors import written
from spanpost.model.queries import Page, TaskQuestion
from spanpost.tasks.api_json import stats_json as stats_json
from spanpost.tasks.api_json import task_summary as task_summary
from spanpost.tasks.api_json import task_whole as task_whole
from spanpost.tasks.api_json import timeline_entry_json as timeline_entry_json
from spanpost.tasks.api_json import totals_json as totals_json
from spanpost.tasks.json_form import question_json, rfc3339
from spanpost.text.sanitise import strip

#: Ids and recorded content: returned exactly as they were given.
_EXACT = frozenset(
    {"id", "task_id", "parent_task_id", "retry_of", "caused_by", "order_id", "session_id", "aliases", "next", "content"}
)


class ApiJson(JSONResponse):
    """An answer that is not cached. Text is written in ASCII."""

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(content, status_code, {"cache-control": "no-store"})

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return dumped(content).encode()


def dumped(content: Any) -> str:
    """Return JSON on one line, in ASCII."""
    return json.dumps(plain(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def plain(value: Any, show: Callable[[str], str] = strip) -> Any:
    """Return a value as JSON: money and times as text, NaN and infinity as null, texts through `show`."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return show(str(value))
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return format(value, "f") if value.is_finite() else None
        case datetime():
            return rfc3339(value)
        case bytes():
            return value.hex()
        case dict():
            return {show(str(name)): plain(one, str if name in _EXACT else show) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one, show) for one in value]
    return str(value)


def page_json(page: Page[Any], items: Iterable[dict[str, Any]]) -> ApiJson:
    """Return a page of a list."""
    return ApiJson({"items": list(items), "next": written(page.next)})


def asked_json(question: TaskQuestion, acts: Iterable[str]) -> dict[str, Any]:
    """Return a question, and the caller's acts on it."""
    return question_json(question.row, question.task) | {"acts": list(acts)}
