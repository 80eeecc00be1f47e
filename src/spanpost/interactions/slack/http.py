"""``POST /slack/events``: verify the signature, then pass the payload to the app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from spanpost.http.asgi import Receive, TooLong, read_body
from spanpost.http.errors import HttpError, note_outcome
from spanpost.http.routing import HttpRoute
from spanpost.interactions.protocols import InteractionMetrics
from spanpost.interactions.slack import guard
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.guard import SlackRefused
from spanpost.interactions.slack.installations import secrets_of
from spanpost.interactions.slack.payloads import FORM, JSON, decode
from spanpost.model.errors import StoreUnavailable
from spanpost.store.protocols import Interventions

PATH: Final = "/slack/events"
#: Seconds of the time for an answer that the search for a replay may take.
_REPLAY_TIMEOUT: Final = 0.5
#: Answers to requests that are refused before they are read.
_REFUSALS: Final = {
    400: ("invalid", "the body cannot be read as a payload of Slack's"),
    401: ("unsigned", "the request is not signed by Slack for an app that is set up here, just now and once"),
    413: ("too_large", f"the body has more than {guard.MOST_BODY} bytes"),
    415: ("content_type", f"send {FORM} or {JSON}"),
}


class SlackHttp:
    """The endpoint. `clock` returns Unix time."""

    def __init__(
        self,
        app: SlackApp,
        interventions: Interventions,
        *,
        watch: InteractionMetrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._interventions = interventions
        self._watch = watch
        self._clock = clock
        self._seen = guard.SeenSignatures(clock)

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of this endpoint."""
        return [HttpRoute(PATH, self._take, ["POST"], count=self._count)]

    def _count(self, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.knocked("slack_http", outcome)

    async def _take(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except SlackRefused as refused:  # the sender does not learn which header is wrong
            reason, message = _REFUSALS[refused.status]
            raise HttpError(refused.status, reason, message, outcome=refused.why) from None

    async def _answer(self, request: Request) -> Response:
        headers = [(bytes(name), bytes(value)) for name, value in request.scope["headers"]]
        signed = guard.read_headers(headers, self._clock())
        content_type = _content_type(headers)
        body = await _body(headers, request.receive)
        proven = guard.verify(signed, body, secrets_of(self._app.apps))
        if content_type not in (FORM, JSON):
            raise SlackRefused(415, "content_type")
        payload = decode(body, content_type)
        if payload is None:
            raise SlackRefused(400, "body")
        if not self._seen.is_first(signed):
            raise SlackRefused(401, "replay")
        began = time.monotonic()
        if not await self._is_first(signed):
            raise SlackRefused(401, "replay")
        candidates = [self._app.apps[i] for i in sorted(proven)]
        answer = await self._app.handle(candidates, payload, took=time.monotonic() - began)
        if answer.status >= 500:
            self._seen.forget(signed)
        if answer.status >= 400:
            raise HttpError(answer.status, answer.word, answer.body or "it could not be taken")
        note_outcome(request.scope, answer.word)
        body = answer.body.encode("utf-8", "replace")
        return Response(
            body, answer.status, {"content-type": answer.content_type.encode("latin-1", "replace").decode("latin-1")}
        )

    async def _is_first(self, signed: guard.Signed) -> bool:
        """Tell whether no process saw this signature; True if the store does not answer in time.

        Then this process's memory and the act's idempotency key prevent a repeat.
        """
        try:
            async with asyncio.timeout(_REPLAY_TIMEOUT):
                return await self._interventions.is_first("slack:signature:" + signed.signature.decode())
        except (StoreUnavailable, TimeoutError):
            return True


def _content_type(headers: list[tuple[bytes, bytes]]) -> str:
    found = [value for name, value in headers if name.lower() == b"content-type"]
    return found[0].partition(b";")[0].strip().lower().decode("latin-1") if len(found) == 1 else ""


async def _body(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit() and int(value[:20]) > guard.MOST_BODY:
            raise SlackRefused(413, "too_large")
    try:
        return await read_body(receive, guard.MOST_BODY)
    except TooLong:
        raise SlackRefused(413, "too_large") from None
