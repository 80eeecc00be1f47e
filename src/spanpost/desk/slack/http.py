"""``POST /slack/events`` as a bare ASGI callable: the guard, then the app. Any bytes get an answer, and none of them a 500."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from spanpost.asgi import HungUp, Receive, Scope, Send, TooLong, read_body
from spanpost.desk.base import Hall, Watches
from spanpost.desk.slack import guard
from spanpost.desk.slack.answering import Answered
from spanpost.desk.slack.app import SlackApp
from spanpost.desk.slack.guard import Refused
from spanpost.desk.slack.installations import secrets_of
from spanpost.desk.slack.payloads import FORM, JSON, decode
from spanpost.domain.errors import LedgerUnavailable

log = logging.getLogger("spanpost.desk")

PATH: Final = "/slack/events"
#: What the look for a replay may take of the time for an answer, seconds.
_LOOK: Final = 0.5


class SlackHttp:
    """The application. `clock` is the time of day."""

    def __init__(self, app: SlackApp, hall: Hall, *, watch: Watches | None = None, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._hall = hall
        self._watch = watch
        self._clock = clock
        self._heard = guard.Heard(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except HungUp:
            return
        except Refused as refused:
            answer = Answered(status=refused.status, word=refused.why)
        except Exception as error:
            log.error("a request to %s could not be taken: %s", PATH, type(error).__name__)
            answer = Answered(status=503, word="fault")
        if self._watch is not None:
            self._watch.knocked("slack_http", answer.word)
        body = answer.body.encode("utf-8", "replace")
        headers = [(b"content-type", answer.content_type.encode("latin-1", "replace")), (b"content-length", b"%d" % len(body))]
        if answer.status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answered:
        if scope["method"] != "POST":
            raise Refused(405, "method")
        headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        signed = guard.read_headers(headers, self._clock())
        content_type = _content_type(headers)
        body = await _body(headers, receive)
        proven = guard.verify(signed, body, secrets_of(self._app.apps))
        if content_type not in (FORM, JSON):
            raise Refused(415, "content_type")
        payload = decode(body, content_type)
        if payload is None:
            raise Refused(400, "body")
        if not self._heard.is_first(signed):
            raise Refused(401, "replay")
        began = time.monotonic()
        if not await self._is_first(signed):
            raise Refused(401, "replay")
        candidates = [self._app.apps[i] for i in sorted(proven)]
        answer = await self._app.hear(candidates, payload, took=time.monotonic() - began)
        if answer.status >= 500:
            self._heard.forget(signed)
        return answer

    async def _is_first(self, signed: guard.Signed) -> bool:
        """Ask all processes; while the database is away our own memory, and what an act is unique by, must do."""
        try:
            async with asyncio.timeout(_LOOK):
                return await self._hall.is_first("slack:signature:" + signed.signature.decode())
        except (LedgerUnavailable, TimeoutError):
            return True


def _content_type(headers: list[tuple[bytes, bytes]]) -> str:
    found = [value for name, value in headers if name.lower() == b"content-type"]
    return found[0].partition(b";")[0].strip().lower().decode("latin-1") if len(found) == 1 else ""


async def _body(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit() and int(value[:20]) > guard.MOST_BODY:
            raise Refused(413, "too_large")
    try:
        return await read_body(receive, guard.MOST_BODY)
    except TooLong:
        raise Refused(413, "too_large") from None
