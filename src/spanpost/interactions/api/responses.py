"""JSON of responses. Writing it cannot fail: values that JSON does not have become null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from spanpost.http.tags import is_known, tag_of
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
    """An answer that no cache keeps. Text is written in ASCII.

    Its tag, by default of its content, spares a client that asks again the same answer (`If-None-Match`).
    """

    def __init__(self, content: Any, status_code: int = 200, *, tag: str = "") -> None:
        super().__init__(content, status_code, {"cache-control": "no-store"})
        self._tag = tag or tag_of(self.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or self.status_code != 200:
            await super().__call__(scope, receive, send)
        elif is_known(Headers(scope=scope).get("if-none-match", ""), self._tag):
            await unchanged(self._tag)(scope, receive, send)
        else:
            self.headers["etag"] = self._tag
            await super().__call__(scope, receive, send)

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return dumped(content).encode()


def unchanged(tag: str) -> Response:
    """Return the answer to a client that has it already."""
    return Response(status_code=304, headers={"etag": tag, "cache-control": "no-store"})


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
