"""Where agents wait for people, and ask what they may spend: ``GET /control/v1/approvals/{id}`` and ``/control/v1/tasks/{ref}``,
``POST /control/v1/budget``, as a bare ASGI callable.

A long poll: with ``wait`` (seconds) it answers as soon as there is something to tell. A bearer token says whose the agent is; what is
another tenant's does not exist. Errors are JSON: ``code`` (of google.rpc), ``message``, and 503 asks to come back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote

from spanpost.asgi import HungUp, Receive, Scope, Send, TooLong, address_of, read_body, until_hung_up
from spanpost.desk.answers import Answers, Unknown
from spanpost.domain.errors import LedgerUnavailable
from spanpost.fold.mend import mend_value
from spanpost.shares import Full, Sender, SharedPlaces

log = logging.getLogger("spanpost.desk")

PREFIX: Final = "/control/"
_APPROVALS, _TASKS, _BUDGET = "/control/v1/approvals/", "/control/v1/tasks/", "/control/v1/budget"
#: A proxy between would cut longer waits: many do after a minute.
LONGEST: Final = 50.0
_LONGEST_ID: Final = 1024
#: Of a question about budgets: bytes.
_MOST_BODY: Final = 256 * 1024
_NUMBER: Final = re.compile(r"^\d{1,18}(\.\d{1,6})?\Z", re.ASCII)
_MARK: Final = re.compile(r"^([0-9a-f]{64})?\Z")
_TRACE: Final = re.compile(r"^([0-9a-f]{32})?\Z")
_TOKEN: Final = re.compile(r"^(access_?token|token|api_?key|authorization|auth)$", re.IGNORECASE)
#: Codes of google.rpc.
_INVALID, _NOT_FOUND, _DENIED, _UNIMPLEMENTED, _UNAVAILABLE, _UNAUTHENTICATED = 3, 5, 7, 12, 14, 16


class Knows(Protocol):
    """**Protocol:** knows whose a token is."""

    def tenant_of(self, authorization: str | None) -> str | None: ...

    @property
    def is_open(self) -> bool: ...

    def is_operator(self, authorization: str | None) -> bool: ...


class _Refused(Exception):
    def __init__(self, status: int, code: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class ControlHttp:
    """The application. At most `most` agents wait at once; tenants share those places, and within a tenant
    its addresses do."""

    def __init__(self, answers: Answers, doorkeeper: Knows, *, most: int) -> None:
        self._answers = answers
        self._doorkeeper = doorkeeper
        #: Agents that wait, each by the event that ends its waiting.
        self._waiting: SharedPlaces[asyncio.Event] = SharedPlaces(most)

    def end(self) -> None:
        """Answer all who wait with what is known."""
        self._answers.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            said = name.decode("latin-1").lower()
            # Of two that differ, who stands between may have looked at the other: neither is believed.
            headers[said] = value.decode("latin-1") if said not in headers else ""
        extra: dict[str, str] = {}
        try:
            status, told = 200, await self._answer(scope, headers, receive)
            if told is None:
                return  # it hung up
        except _Refused as refused:
            status, told = refused.status, {"code": refused.code, "message": str(refused)}
            extra = {name.replace("_", "-"): value for name, value in refused.headers.items()}
        except Unknown as error:
            status, told = 404, {"code": _NOT_FOUND, "message": str(error), "state": "unknown"}
        except LedgerUnavailable:
            status, told = 503, {"code": _UNAVAILABLE, "message": "the database cannot be reached; come back"}
            extra = {"retry-after": "1"}
        except Exception:
            log.exception("an agent that waits could not be answered")
            status, told = 503, {"code": _UNAVAILABLE, "message": "it failed in here; come back"}
            extra = {"retry-after": "5"}
        body = json.dumps(told).encode()
        sent = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        sent += [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive) -> dict[str, Any] | None:
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if path == _BUDGET:
            return await self._budget(scope, headers, receive)
        kind = next((kind for kind in (_APPROVALS, _TASKS) if path.startswith(kind)), "")
        ref = unquote(path.removeprefix(kind), errors="replace") if kind else ""
        if not ref or "/" in path.removeprefix(kind):
            raise _Refused(404, _NOT_FOUND, f"there is nothing here; there is {_APPROVALS}{{id}}, {_TASKS}{{id}} and {_BUDGET}")
        if scope["method"] not in ("GET", "HEAD"):
            raise _Refused(405, _UNIMPLEMENTED, "it takes GET", allow="GET, HEAD")
        query = _query(scope)
        tenant = self._tenant(headers.get("authorization"))
        if len(ref) > _LONGEST_ID:
            raise _Refused(400, _INVALID, "the id is too long")
        if "\0" in ref + query.get("mark", "") + query.get("trace", ""):
            raise Unknown("no id has such a character")
        wait = min(_number(query, "wait"), LONGEST)
        mark, trace, after = query.get("mark", ""), query.get("trace", ""), int(_number(query, "after"))
        if kind == _APPROVALS and not (_MARK.match(mark) and _TRACE.match(trace)):
            raise _Refused(400, _INVALID, "mark is a SHA-256 (64 hex digits, lower case), trace a trace's id (32); see control.md")

        def ask(wait: float) -> Coroutine[Any, Any, dict[str, Any]]:
            if kind == _APPROVALS:
                return self._answers.approval(tenant, ref, mark, trace, wait)
            return self._answers.task(tenant, ref, after, wait)

        return await (self._wait(Sender(tenant, address_of(scope)), ask, wait, receive) if wait else ask(0.0))

    async def _budget(self, scope: Scope, headers: dict[str, str], receive: Receive) -> dict[str, Any] | None:
        if scope["method"] != "POST":
            raise _Refused(405, _UNIMPLEMENTED, "it takes POST", allow="POST")
        _query(scope)
        tenant = self._tenant(headers.get("authorization"))
        try:
            body = await read_body(receive, _MOST_BODY)
        except HungUp:
            return None
        except TooLong:
            raise _Refused(413, _INVALID, f"it is longer than {_MOST_BODY} bytes: send fewer attributes") from None
        try:
            asked = json.loads(body)
            ref, attributes = asked.get("ref", ""), asked.get("attributes", {})
        except (ValueError, AttributeError, RecursionError):
            raise _Refused(400, _INVALID, "the body is no JSON object; it has ref and attributes") from None
        if not isinstance(ref, str) or not isinstance(attributes, dict) or len(ref) > _LONGEST_ID:
            raise _Refused(400, _INVALID, "ref is the id of a task or of a trace, as text; attributes is an object")
        plain = {str(name): value for name, value in attributes.items() if isinstance(value, (str, int, float))}
        return await self._answers.budget(tenant, "" if "\0" in ref else ref, mend_value(plain)[0])

    def _tenant(self, authorization: str | None) -> str:
        tenant = self._doorkeeper.tenant_of(authorization)
        if tenant is not None:
            return tenant
        if not self._doorkeeper.is_open and self._doorkeeper.is_operator(authorization):
            raise _Refused(403, _DENIED, "an operator's token is no tenant's: use the token by which the agent sends")
        raise _Refused(401, _UNAUTHENTICATED, "a valid token is needed", www_authenticate="Bearer")

    async def _wait(
        self, sender: Sender, ask: Callable[[float], Coroutine[Any, Any, dict[str, Any]]], wait: float, receive: Receive
    ) -> dict[str, Any] | None:
        """Wait for an answer, for as long as the agent does; None when it hung up."""
        told_to_go = asyncio.Event()
        try:
            longest = self._waiting.take(sender, told_to_go)
        except Full:
            said = "as many wait already as may (gateway.max_waiters); come back"
            raise _Refused(503, _UNAVAILABLE, said, retry_after="2") from None
        if longest is not None:
            longest.set()
        answer = asyncio.ensure_future(ask(wait))
        ends = [asyncio.ensure_future(until_hung_up(receive)), asyncio.ensure_future(told_to_go.wait())]
        try:
            await asyncio.wait({answer, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await answer
            return None if ends[0].done() else await ask(0.0)
        finally:
            self._waiting.leave(told_to_go)
            for each in (answer, *ends):
                each.cancel()


def _query(scope: Scope) -> dict[str, str]:
    try:
        query = dict(parse_qsl((scope.get("query_string") or b"").decode(), keep_blank_values=True, max_num_fields=16))
    except (ValueError, UnicodeDecodeError):
        raise _Refused(400, _INVALID, "the query cannot be read") from None
    if any(map(_TOKEN.match, query)):
        # It stands in every log between here and there.
        raise _Refused(400, _INVALID, "a token in the URL is refused; send it as Authorization: Bearer ...")
    if unknown := sorted(query.keys() - {"wait", "after", "mark", "trace"}):
        raise _Refused(400, _INVALID, f"{unknown[0][:50]!r} is not understood; there is wait, after, mark and trace")
    return query


def _number(query: dict[str, str], name: str) -> float:
    said = query.get(name, "0")
    if not _NUMBER.match(said):
        raise _Refused(400, _INVALID, f"{name} must be a number, not {said[:50]!r}")
    return float(said)
