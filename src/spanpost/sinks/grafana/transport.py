"""HTTP connection to Grafana: one call returns an answer, or raises the error for a missing one.

No error holds the token.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

import aiohttp
import msgspec

from spanpost.model.errors import DeliveryUncertain, Unavailable
from spanpost.sinks.grafana.api import GrafanaRequest

#: Maximum size of an answer that is read, bytes.
MOST: Final = 2_000_000


class GrafanaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of Grafana. `body` is None if it was not JSON."""

    status: int
    body: Any = None
    retry_after: str = ""


class Wire:
    """HTTP session with Grafana. It is opened at the first call, in the loop that runs then."""

    def __init__(
        self, url: str, token: str, *, org_id: int | None = None, timeout: timedelta = timedelta(seconds=10)
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "spanpost"}
        if org_id is not None:
            self._headers["X-Grafana-Org-Id"] = str(org_id)
        self._timeout = timeout.total_seconds()
        self._open: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession] | None = None

    async def call(self, request: GrafanaRequest) -> GrafanaAnswer:
        """Make a call. Raises `Unavailable` when nothing can have happened, `DeliveryUncertain` when it may have."""
        body = msgspec.json.encode(request.body) if request.body is not None else None
        headers = {"Content-Type": request.content_type} if body is not None else {}
        # Errors show only their type: their text may hold the address.
        try:
            async with self._session().request(
                request.method,
                self._url + request.path,
                params=request.query,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                read = await answer.content.read(MOST)
                while len(read) < MOST and (more := await answer.content.read(MOST - len(read))):
                    read += more
                return GrafanaAnswer(
                    status=answer.status, body=_json(read), retry_after=answer.headers.get("Retry-After", "")
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"no connection to Grafana ({type(error).__name__})", reason="connect") from None
        except TimeoutError:
            said = f"no answer of Grafana within {self._timeout:g} s"
            raise (
                Unavailable(said, reason="timeout") if request.is_safe else DeliveryUncertain(said, reason="timeout")
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            said = f"the connection to Grafana broke before the answer ({type(error).__name__})"
            raise (
                Unavailable(said, reason="reset") if request.is_safe else DeliveryUncertain(said, reason="reset")
            ) from None

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop or self._open[1].closed:
            timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(5.0, self._timeout))
            session = aiohttp.ClientSession(
                headers=self._headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=8), trust_env=True
            )
            self._open = (loop, session)
        return self._open[1]

    async def close(self) -> None:
        if self._open is not None:
            _, session = self._open
            self._open = None
            await session.close()


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
