"""Connection to Slack: slack_sdk's asynchronous client without its retries and its logging.

slack_sdk's retries send a post again whose answer was lost; here nothing is sent twice. Its logging shows
bodies; its logger here goes nowhere. The HTTP client reports whether a request had left when a call failed:
before its first byte was written nothing can have happened (`Unavailable`), after that anything may
(`DeliveryUncertain`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from spanpost.model.errors import ConfigError, DeliveryError, DeliveryRefused, DeliveryUncertain, Unavailable
from spanpost.sinks.slack.calls import Response, SlackRequest

#: Seconds that an idle connection is kept. Shorter than what servers keep: a call on a connection that
#: Slack has just closed would be one more call in doubt.
KEEP: Final = 10.0
#: Maximum seconds to connect.
CONNECT: Final = 5.0


class _Sending:
    """One call under way."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.has_left = False
        self.is_redirected = False


class _Abandoned(Exception):
    """Raised before the first byte of a request, to stop it."""


_sending: ContextVar[_Sending] = ContextVar("spanpost_slack_sending")


def _silent() -> logging.Logger:
    """Return a detached logger (no handlers, no parent)."""
    return logging.Logger("spanpost.slack.nowhere", level=logging.CRITICAL + 1)


class WebApi:
    """Slack's Web API. The session is opened at the first call, in the loop that runs then."""

    def __init__(self, token: str, *, base_url: str, timeout: timedelta = timedelta(seconds=10)) -> None:
        self._timeout = timeout.total_seconds()
        self._proxy = proxy_for(base_url)
        self._host = urlsplit(base_url).hostname
        self._client: Callable[[aiohttp.ClientSession], AsyncWebClient] = lambda session: self._make_client(
            token, base_url, session
        )
        self._open: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession, AsyncWebClient] | None = None

    def _make_client(self, token: str, base_url: str, session: aiohttp.ClientSession) -> AsyncWebClient:
        client = AsyncWebClient(token=token, base_url=base_url, session=session, retry_handlers=[], logger=_silent())
        # slack_sdk takes a proxy from the environment and ignores NO_PROXY.
        client.proxy = self._proxy
        return client

    async def call(self, request: SlackRequest) -> Response:
        """Make a call; return Slack's answer, whatever it is."""
        loop = asyncio.get_running_loop()
        client = self._connected(loop)
        sending = _Sending(loop.time() + self._timeout)
        _sending.set(sending)
        try:
            if request.upload_to:
                return await self._upload(request)
            if request.is_form:
                # Methods that read take forms, not JSON. By POST, which the HTTP client never repeats.
                answer = await client.api_call(request.method, data=_flat(request.arguments))
            else:
                answer = await client.api_call(request.method, json=dict(request.arguments))
        except SlackApiError as error:
            # ok:false, a status other than 200, or a body that is not JSON (then the answer is aiohttp's).
            answer = error.response
        except Exception as error:
            raise self._failure(request, error, sending) from None
        return _response(answer)

    async def _upload(self, request: SlackRequest) -> Response:
        """Upload a file's content to the address that Slack named, without the token, which that server must
        not get.
        """
        assert self._open is not None
        host = urlsplit(request.upload_to).hostname or ""
        if host != self._host and not (host.endswith(".slack.com") and request.upload_to.startswith("https://")):
            return Response(body={"ok": False, "error": "foreign_upload_url"})
        async with self._open[1].post(
            request.upload_to, data=request.content, proxy=self._proxy, allow_redirects=False
        ) as answer:
            await answer.read()
            return Response(status=answer.status, body={"ok": answer.status == 200})

    def _failure(self, request: SlackRequest, error: Exception, sending: _Sending) -> Exception:
        if sending.is_redirected:
            return _redirected(request)
        kind = "timeout" if isinstance(error, TimeoutError) else type(error).__name__
        if not sending.has_left:
            if isinstance(error, (aiohttp.ClientError, OSError, _Abandoned)):
                return Unavailable(
                    f"{request.method}: no connection to Slack ({kind}); nothing was sent", reason="connect"
                )
            return error
        if request.is_reading:
            return Unavailable(f"{request.method}: no answer ({kind})", reason="no_answer")
        if isinstance(error, TimeoutError):
            return DeliveryUncertain(f"{request.method}: no answer within {self._timeout:g} s", reason="timeout")
        if isinstance(error, (aiohttp.ClientError, OSError)):
            return DeliveryUncertain(
                f"{request.method}: the connection broke before the answer ({kind})", reason="reset"
            )
        # slack_sdk fails so on an answer that is text, or JSON but not an object.
        return DeliveryUncertain(f"{request.method}: an answer that is not Slack's ({kind})", reason="bad_answer")

    def _connected(self, loop: asyncio.AbstractEventLoop) -> AsyncWebClient:
        if self._open is None or self._open[0] is not loop or self._open[1].closed:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_leaves)
            trace.on_request_redirect.append(_is_redirected)
            session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(CONNECT, self._timeout)),
                connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=KEEP),
                trace_configs=[trace],
            )
            self._open = (loop, session, self._client(session))
        return self._open[2]

    async def close(self) -> None:
        if self._open is not None:
            _, session, _ = self._open
            self._open = None
            await session.close()


async def _leaves(session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceRequestHeadersSentParams) -> None:
    """Note that the first byte is about to be written; stop it after the deadline (a frozen process)."""
    sending = _sending.get()
    if asyncio.get_running_loop().time() > sending.deadline:
        raise _Abandoned
    sending.has_left = True


async def _is_redirected(
    session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceRequestRedirectParams
) -> None:
    _sending.get().is_redirected = True
    raise _Abandoned


def _redirected(request: SlackRequest) -> DeliveryError:
    return DeliveryRefused(
        f"{request.method}: redirected, which Slack's Web API never does",
        cure="SPANPOST_SLACK__BASE_URL, or the proxy of this machine, does not lead to Slack's Web API: mend "
        "or unset it",
        reason="redirect",
    )


def _flat(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in arguments.items()}


def _response(answer: Any) -> Response:
    """Convert slack_sdk's response, or aiohttp's if the body could not be read."""
    status = getattr(answer, "status_code", None) or getattr(answer, "status", 0)
    headers = getattr(answer, "headers", None) or {}
    data = getattr(answer, "data", None)
    scopes = headers.get("x-oauth-scopes")
    return Response(
        status=int(status or 0),
        body=data if isinstance(data, dict) else {},
        retry_after=_number(headers.get("retry-after")),
        date=_date(headers.get("date")),
        scopes=tuple(s for s in (part.strip() for part in scopes.split(",")) if s) if scopes is not None else None,
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None and len(text) < 32 else None
    except ValueError:
        return None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text is not None else None
    except (ValueError, OverflowError, TypeError):
        return None


def proxy_for(base_url: str) -> str | None:
    """Return the environment's proxy for an address, respecting ``NO_PROXY``.

    Raises `ConfigError` for an invalid one.
    """
    parts = urlsplit(base_url)
    # Not urllib's `getproxies`, which asks the whole operating system.
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not proxy.strip() or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError(
            f"slack: the proxy in {parts.scheme.upper()}_PROXY is not an http:// one; name one, or put Slack's "
            "host in NO_PROXY"
        )
    return proxy
