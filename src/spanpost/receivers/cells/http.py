"""The HTTP endpoints of a routing gateway: each request is passed on to a cell, and the response back.

Telemetry, waiting agents and alerts are authenticated here: the token names the tenant, the tenant its cell. The
cell gets the tenant's name with the router's own token. Everything else (API, board, webhooks, Slack) is
authenticated by its cell; here the host, the API token's tenant or a table only choose the cell.

A body is read before a connection to the cell is used, so that a slow sender holds none. It is never decompressed
or parsed, except that one of Slack's is searched for its workspace. A response is passed on as it arrives.
No request is answered with success here: the answer is the cell's, or an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from spanpost.http.asgi import HungUp, Receive, Scope, Send, TooLong, address_of, read_body, until_hung_up
from spanpost.http.authentication import Authenticator, authorization_of, unauthenticated
from spanpost.http.errors import HttpError, note_outcome
from spanpost.http.guard import allowed_request
from spanpost.http.routing import HttpRoute
from spanpost.http.shares import Sender
from spanpost.http.tokens import SenderTokens
from spanpost.model.access_tokens import TokenScope
from spanpost.receivers.admission import Admission
from spanpost.receivers.cells.cell import Cell, CellRequest, CellUnavailable
from spanpost.receivers.cells.headers import TextHeaders, of_other, of_response, of_tenant
from spanpost.receivers.cells.passing import WAIT, WHOLE, Cells, refuse_distrust, refuse_foreign, under_way, whole
from spanpost.receivers.counted import counted

if TYPE_CHECKING:
    from spanpost.receivers.otlp_http import HttpMetrics

#: Requests that may stay open for long.
_WAITING: Final = ("/control/", "/api/events")
#: Most bytes of a body of Slack's.
_MOST_OF_SLACK: Final = 1024 * 1024
_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")


class CellHttp:
    """The endpoints.

    `tenant_of_caller` returns the tenant of an API token (None: unknown), `team_of` the workspace that a body of
    Slack's names (empty: none), given its content type.
    """

    def __init__(
        self,
        cells: Cells,
        sender_tokens: SenderTokens,
        *,
        tenant_of_caller: Callable[[str], str | None],
        team_of: Callable[[bytes, str], str],
        watch: HttpMetrics | None = None,
    ) -> None:
        #: Replaced on reload.
        self.tenant_of_caller = tenant_of_caller
        self._cells = cells
        self._authenticator = Authenticator(sender_tokens)
        self._team_of = team_of
        self._watch = watch
        #: Memory of bodies whose cell is not known yet.
        self._unassigned = Admission(cells.limits)

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of these endpoints."""
        telemetry = [
            HttpRoute(f"/v1/{signal}", _Endpoint(self._tenants), ["POST"], count=partial(self._count, signal))
            for signal in ("traces", "logs", "metrics")
        ]
        others = {
            "/control/": self._tenants,
            "/alerts/": self._tenants,
            "/api/": self._callers,
            "/hooks/": self._hooks,
            "/slack/events": self._slack,
            **dict.fromkeys(("/slack/install", "/slack/oauth_redirect", "/board/", "/docs", "/"), self._pages),
        }
        return [*telemetry, *(HttpRoute(path, _Endpoint(pass_on)) for path, pass_on in others.items())]

    def _count(self, signal: str, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.requested("http", signal, str(status))

    # --- endpoints --------------------------------------------------------------------------------------------------

    async def _tenants(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a tenant's request on: telemetry, a waiting agent, alerts."""
        tenant = self._authenticator.tenant(scope, TokenScope.SEND)
        cell = self._cells.of_tenant(tenant)
        headers = of_tenant(scope["headers"], allowed_request(scope), tenant, cell.token)
        await self._pass_on(cell, Sender(tenant, address_of(scope)), headers, scope, receive, send, is_tenants=True)

    async def _callers(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request for the API on: to the cell of its host, or of its token's tenant."""
        authorization = authorization_of(scope)  # refuses a token in the URL
        if (cell := self._of_host(scope)) is not None:
            await self._other(cell, "", scope, receive, send)
            return
        scheme, _, token = (authorization or "").partition(" ")
        tenant = self.tenant_of_caller(token.strip()) if scheme.lower() == "bearer" else None
        if tenant is None:
            raise unauthenticated(
                "a token of interactions.tokens is needed: Authorization: Bearer ...; in a browser use the address of "
                "your cell (cells.named.<cell>.public_url)"
            )
        await self._other(self._cells.of_tenant(tenant), tenant, scope, receive, send)

    async def _hooks(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a webhook on: to the cell of its host, or of its provider."""
        provider = scope["path"].removeprefix("/hooks/").rstrip("/")
        cell = self._of_host(scope) or self._cells.named(self._cells.assignment.hooks.get(provider, ""))
        if cell is None:
            raise HttpError(404, "unknown", "no provider of this name is set up here: name it in cells.hooks")
        await self._other(cell, "", scope, receive, send)

    async def _slack(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request of Slack's on: to the cell of its host, or of its workspace."""
        if (cell := self._of_host(scope)) is not None:
            await self._other(cell, "", scope, receive, send)
            return
        reservation = self._unassigned.reservation(Sender("", address_of(scope)))
        try:
            body = await _read(scope, counted(receive, reservation), min(_MOST_OF_SLACK, self._cells.limits.max_body))
            kind = _header(scope, b"content-type").partition(";")[0].strip().lower()
            cell = self._cells.named(self._cells.assignment.of_slack(self._team_of(body, kind)))
            if cell is None:
                raise HttpError(404, "unknown", "no cell has this workspace: name it in cells.slack_teams")
            await self._other(cell, "", scope, _again(body, receive), send)
        finally:
            reservation.leave()

    async def _pages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request of a browser on to the cell of its host."""
        cell = self._of_host(scope)
        if cell is None:
            message = "this is the address of no cell: use that of your cell (cells.named.<cell>.public_url)"
            raise HttpError(404, "not_found", message)
        await self._other(cell, "", scope, receive, send)

    def _of_host(self, scope: Scope) -> Cell | None:
        return self._cells.of_host(allowed_request(scope).host)

    # --- passing on -------------------------------------------------------------------------------------------------

    async def _other(self, cell: Cell, tenant: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = of_other(scope["headers"], allowed_request(scope))
        await self._pass_on(cell, Sender(tenant, address_of(scope)), headers, scope, receive, send, is_tenants=False)

    async def _pass_on(
        self,
        cell: Cell,
        sender: Sender,
        headers: TextHeaders,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        is_tenants: bool,
    ) -> None:
        reservation = cell.admission.reservation(sender)
        begun = _Begun(send)
        try:
            cell.refuse_down()
            is_wait = scope["path"].startswith(_WAITING)
            request = CellRequest(
                method=scope["method"],
                target=_target(scope),
                headers=headers,
                body=await _read(scope, counted(receive, reservation), self._cells.limits.max_body),
                is_safe=is_tenants or scope["method"] in ("GET", "HEAD"),
                timeout=self._cells.timeout + (WAIT if is_wait else 0.0),
            )
            work = self._answer(cell, request, begun, is_tenants=is_tenants)
            await under_way(cell, sender, work, until_hung_up(receive), is_wait=is_wait)
        except CellUnavailable as error:
            self._cells.count(cell.name, error.reason)
            if begun.is_begun:
                raise HungUp from None
            note_outcome(scope, error.reason)
            raise
        except HungUp:
            self._cells.count(cell.name, "hung_up")
            raise
        finally:
            reservation.leave()

    async def _answer(self, cell: Cell, request: CellRequest, send: Send, *, is_tenants: bool) -> None:
        """Send the cell's response. Raises `CellUnavailable` before it began, and `HungUp` if it breaks off."""
        began = time.monotonic()
        response = await cell.send(request)
        seconds = time.monotonic() - began
        try:
            if is_tenants:
                refuse_distrust(cell, response.status)
                given, is_telemetry = dict(request.headers).get("content-type", ""), request.target.startswith("/v1/")
                refuse_foreign(cell, response, given, is_telemetry=is_telemetry)
            length = response.headers.get("content-length", "")
            # Read whole, so that the client gets an error if the cell breaks off.
            is_short = length.isdigit() and int(length) <= WHOLE
            body = await whole(cell, response) if is_short else b""
            self._cells.count(cell.name, f"{response.status // 100}xx", seconds)
            headers = of_response(response.raw_headers)
            if length:
                headers.append((b"content-length", length.encode("latin-1")))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            if not is_short:
                async for part in response.content.iter_any():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": body})
            response.release()
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise HungUp from None  # the client sees that the response is not whole
        finally:
            if not response.closed:
                response.close()


class _Endpoint:
    """An endpoint as an ASGI application, so that no framework reads its body."""

    def __init__(self, pass_on: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._pass_on = pass_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._pass_on(scope, receive, send)
        except CellUnavailable as error:
            raise HttpError(
                503, "cell_unavailable", str(error), retry_after=error.retry_after, outcome=error.reason
            ) from None


class _Begun:
    """A `send` that knows whether the response has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.is_begun = True
        await self._send(message)


async def _read(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body of a request, as it was sent. Raises `HttpError`, and `HungUp` if the sender broke off."""
    length = _header(scope, b"content-length")
    announced = int(length[:20]) if length.isascii() and length.isdigit() else None
    too_large = HttpError(413, "too_large", f"the body has more than {most} bytes")
    if announced is not None and announced > most:
        raise too_large
    try:
        body = await read_body(receive, most)
    except TooLong:
        raise too_large from None
    if announced is not None and len(body) != announced:
        raise HungUp
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields a body that was read already, then what comes after it."""
    parts = [body]

    async def receiving() -> MutableMapping[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return receiving


def _target(scope: Scope) -> str:
    """Return the path and query of a request as they were sent. Raises `HttpError` for other characters."""
    path, query = scope.get("raw_path") or scope["path"].encode(), scope.get("query_string") or b""
    target = path + (b"?" + query if query else b"")
    if _TARGET.fullmatch(target) is None:
        raise HttpError(400, "invalid", "the path has a character that must be escaped")
    return str(target.decode("ascii"))


def _header(scope: Scope, name: bytes) -> str:
    found: Sequence[bytes] = [value for key, value in scope["headers"] if key.lower() == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""
