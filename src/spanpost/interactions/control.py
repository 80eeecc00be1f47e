"""The control API (`spanpost.control_protocol`): agents wait here for people, and ask for their budget.

Long polling: with ``wait`` (seconds) it answers as soon as there is something new. The bearer token names
the tenant; data of other tenants does not exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from datetime import timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import parse_qsl, unquote
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse

from spanpost.control_protocol import (
    AFTER,
    APPROVALS,
    BUDGET,
    MARK,
    QUERY,
    RESERVATIONS,
    RETURNS,
    TASKS,
    TRACE,
    UNKNOWN,
    VERSION,
    WAIT,
)
from spanpost.http.asgi import TooLong, address_of, read_body
from spanpost.http.authentication import Authenticator, authorization_of
from spanpost.http.errors import HttpError
from spanpost.http.routing import HttpRoute
from spanpost.http.shares import Sender
from spanpost.http.tokens import SenderTokens
from spanpost.interactions.answers import Answers, UnknownQuestion
from spanpost.interactions.waiting import Waiters
from spanpost.model.access_tokens import TokenScope
from spanpost.model.budgets import Reservation
from spanpost.text.repair import mend_text, mend_value

#: Seconds. Many proxies cut longer waits, often after a minute.
LONGEST: Final = 50.0
_LONGEST_ID: Final = 1024
#: Bytes of a budget request.
_MOST_BODY: Final = 256 * 1024
#: Seconds that a reservation lasts at most, and its largest figure.
_LASTS: Final = 86_400.0
_MOST_RESERVED: Final = 10**12
_NUMBER: Final = re.compile(r"^\d{1,18}(\.\d{1,6})?\Z", re.ASCII)
_MARK: Final = re.compile(r"^([0-9a-f]{64})?\Z")
_TRACE: Final = re.compile(r"^([0-9a-f]{32})?\Z")


class ControlHttp:
    """The endpoints."""

    def __init__(self, answers: Answers, sender_tokens: SenderTokens, waiters: Waiters) -> None:
        self._answers = answers
        self._authenticator = Authenticator(sender_tokens)
        self._waiters = waiters

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of these endpoints."""
        return [
            HttpRoute(APPROVALS, self._approval, ["GET"]),
            HttpRoute(TASKS, self._task, ["GET"]),
            HttpRoute(BUDGET, self._budget, ["POST"]),
            HttpRoute(RESERVATIONS, self._reserve, ["POST"]),
            HttpRoute(RETURNS, self._give_back, ["POST"]),
            HttpRoute(VERSION, self._version, ["GET"]),
        ]

    def end(self) -> None:
        """Answer all waiting agents with the current state."""
        self._answers.end()

    async def _approval(self, request: Request) -> JSONResponse:
        ref, query = _ref(request, APPROVALS), _query(request)
        tenant = self._authenticator.tenant(request.scope, TokenScope.CONTROL)
        mark, trace = query.get(MARK, ""), query.get(TRACE, "")
        if "\0" in ref + mark + trace:
            raise _unknown("no id has such a character")
        if not (_MARK.match(mark) and _TRACE.match(trace)):
            raise HttpError(
                400,
                "invalid",
                "mark is a SHA-256 (64 hex digits, lower case), trace a trace's id (32); see control.md",
                field=MARK,
            )
        return await self._answer(
            request, tenant, query, lambda wait: self._answers.approval(tenant, ref, mark, trace, wait)
        )

    async def _task(self, request: Request) -> JSONResponse:
        ref, query = _ref(request, TASKS), _query(request)
        tenant = self._authenticator.tenant(request.scope, TokenScope.CONTROL)
        after = int(_number(query, AFTER))
        if "\0" in ref:
            raise _unknown("no id has such a character")
        return await self._answer(request, tenant, query, lambda wait: self._answers.task(tenant, ref, after, wait))

    async def _budget(self, request: Request) -> JSONResponse:
        tenant, asked = await self._asked(request)
        return _json(await self._answers.budget(tenant, *_task_of(asked)))

    async def _reserve(self, request: Request) -> JSONResponse:
        tenant, asked = await self._asked(request)
        ref, attributes = _task_of(asked)
        try:
            claim = Reservation(
                id=UUID(str(asked["id"])),
                tenant=tenant,
                ref=ref,
                calls=_whole(asked.get("calls", 1)),
                tokens=_whole(asked.get("tokens", 0)),
                usd=_dollars(asked.get("usd", "0")),
                lasts=timedelta(seconds=min(max(float(asked.get("lasts", 600)), 1.0), _LASTS)),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError):
            said = (
                "id is a UUID; calls and tokens are whole numbers, usd a decimal number, lasts seconds; none negative"
            )
            raise HttpError(400, "invalid", said) from None
        return _json(await self._answers.reserve(claim, attributes))

    async def _give_back(self, request: Request) -> JSONResponse:
        tenant, asked = await self._asked(request)
        try:
            id = UUID(str(asked["id"]))
        except (KeyError, ValueError):
            raise HttpError(400, "invalid", "id is that of the reservation: a UUID", field="id") from None
        await self._answers.give_back(tenant, id)
        return _json({})

    async def _asked(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the tenant and the body of a request, a JSON object."""
        _query(request)
        tenant = self._authenticator.tenant(request.scope, TokenScope.CONTROL)
        try:
            body = await read_body(request.receive, _MOST_BODY)
        except TooLong:
            raise HttpError(413, "too_large", f"it is longer than {_MOST_BODY} bytes: send fewer attributes") from None
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise HttpError(400, "invalid", "the body is no JSON object; it has ref and attributes")
        return tenant, asked

    async def _version(self, request: Request) -> JSONResponse:
        """Say what a Collector's exporter checks when it starts: its token, and the release."""
        _query(request)
        tenant = self._authenticator.tenant(request.scope, TokenScope.SEND, TokenScope.CONTROL)
        return _json({"version": version("spanpost"), "tenant": tenant})

    async def _answer(
        self, request: Request, tenant: str, query: dict[str, str], ask: Callable[[float], Coroutine[Any, Any, Any]]
    ) -> JSONResponse:
        wait = min(_number(query, WAIT), LONGEST)
        try:
            if not wait:
                return _json(await ask(0.0))
            sender = Sender(tenant, address_of(request.scope))
            refused = self._authenticator.until_refused(request.scope, TokenScope.CONTROL)
            return _json(await self._waiters.wait(sender, ask(wait), lambda: ask(0.0), request.receive, refused))
        except UnknownQuestion as error:
            raise _unknown(str(error)) from None


def _task_of(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a task and its attributes."""
    ref, attributes = asked.get("ref", ""), asked.get("attributes", {})
    if not isinstance(ref, str) or not isinstance(attributes, dict) or len(ref) > _LONGEST_ID:
        raise HttpError(400, "invalid", "ref is the id of a task or of a trace, as text; attributes is an object")
    plain = {str(name): value for name, value in attributes.items() if isinstance(value, (str, int, float))}
    return "" if "\0" in ref else mend_text(ref)[0], mend_value(plain)[0]


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_RESERVED:
        raise ValueError
    return value


def _dollars(value: object) -> Decimal:
    usd = Decimal(str(value)[:40])
    if not (usd.is_finite() and 0 <= usd <= _MOST_RESERVED):
        raise ValueError
    return round(usd, 9).normalize()


def _ref(request: Request, prefix: str) -> str:
    """Return the id in a path. Slashes in it are escaped."""
    path = (request.scope.get("raw_path") or request.scope["path"].encode()).decode("latin-1")
    escaped = path.removeprefix(prefix)
    if not path.startswith(prefix) or not escaped or "/" in escaped:
        raise HttpError(
            404,
            "not_found",
            f"there is nothing here; there is {APPROVALS}{{id}}, {TASKS}{{id}}, {BUDGET}, {RESERVATIONS}, {RETURNS} "
            f"and {VERSION}",
        )
    ref = unquote(escaped, errors="replace")
    if len(ref) > _LONGEST_ID:
        raise HttpError(400, "invalid", "the id is too long", field="id")
    return ref


def _query(request: Request) -> dict[str, str]:
    authorization_of(request.scope)  # refuses a token in the URL as such, not as an unknown name
    try:
        query = dict(
            parse_qsl((request.scope.get("query_string") or b"").decode(), keep_blank_values=True, max_num_fields=16)
        )
    except (ValueError, UnicodeDecodeError):
        raise HttpError(400, "invalid", "the query cannot be read") from None
    if unknown := sorted(query.keys() - set(QUERY)):
        name = unknown[0][:50]
        raise HttpError(400, "invalid", f"{name!r} is not understood; there is wait, after, mark and trace", field=name)
    return query


def _number(query: dict[str, str], name: str) -> float:
    said = query.get(name, "0")
    if not _NUMBER.match(said):
        raise HttpError(400, "invalid", f"{name} must be a number, not {said[:50]!r}", field=name)
    return float(said)


def _unknown(message: str) -> HttpError:
    return HttpError(404, UNKNOWN, message)


def _json(body: Any) -> JSONResponse:
    return JSONResponse(body, headers={"cache-control": "no-store"})
