"""One signed POST to one receiver, and the meaning of its answer, for the sink and the launcher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from spanpost import ConfigError, DeliveryError, DeliveryUncertain, Rejected, Throttled, Unavailable
from spanpost_webhook.settings import Receiver
from spanpost_webhook.signature import key_of, sign

#: Bytes read of an answer, so that the connection can be used again. Their content is ignored.
ANSWER: Final = 65_536
#: Pause after an answer that asks for one without a valid time.
DEFAULT_RETRY_AFTER: Final = timedelta(seconds=30)


class Poster:
    """Posts to one receiver. `cure` is the advice for an answer 410, `mistake` the error for an invalid URL."""

    def __init__(self, receiver: Receiver, *, mistake: str, cure: str, clock: Callable[[], float] = time.time) -> None:
        self._receiver = receiver
        self._cure = cure
        self._clock = clock
        secrets = [secret for secret in (receiver.secret, receiver.old_secret) if secret is not None]
        try:
            self._url = httpx.URL(receiver.url.get_secret_value())
        except httpx.InvalidURL:
            raise ConfigError(mistake) from None
        self._keys = [key_of(secret.get_secret_value()) for secret in secrets]
        # The transport below httpx's client: it follows no redirect, and logs no URL.
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=8))
        seconds = receiver.timeout.total_seconds()
        self._timeouts = httpx.Timeout(seconds, connect=min(5.0, seconds)).as_dict()

    async def post(self, message_id: str, body: bytes) -> None:
        """Post a message. Raises `DeliveryError` for an answer other than 2xx, or none."""
        status, headers = await self._post(body, self._headers(message_id, body))
        if not 200 <= status < 300:
            raise meaning(status, headers, now=self._clock(), cure=self._cure)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": "spanpost-webhook",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(message_id, timestamp, body, self._keys),
        }
        if self._receiver.token is not None:
            headers["authorization"] = f"Bearer {self._receiver.token.get_secret_value()}"
        return headers

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, httpx.Headers]:
        request = httpx.Request(
            "POST", self._url, headers=headers, content=body, extensions={"timeout": self._timeouts}
        )
        seconds = self._receiver.timeout.total_seconds()
        # An error is named by its type alone: its text may hold the address.
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(f"no connection to the receiver ({type(error).__name__})", reason="connect") from None
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryUncertain(f"no answer within {seconds:g} s", reason="timeout") from None
        except httpx.TransportError as error:
            raise DeliveryUncertain(
                f"the connection broke before the answer ({type(error).__name__})", reason="reset"
            ) from None
        try:
            # The status decides; whatever becomes of the rest of the answer changes nothing.
            with suppress(TimeoutError, httpx.TransportError):
                async with asyncio.timeout(seconds):
                    await _drain(response)
        finally:
            await response.aclose()
        return response.status_code, response.headers


async def _drain(response: httpx.Response) -> None:
    taken = 0
    async for chunk in response.aiter_raw():
        taken += len(chunk)
        if taken > ANSWER:
            return


def meaning(status: int, headers: Mapping[str, str], *, now: float, cure: str = "") -> DeliveryError:
    """Return the error for an answer other than 2xx. This is the only table of statuses."""
    problem = f"the receiver answered {status}"
    if status == 410:
        return Rejected(f"{problem}: it accepts no more posts; {cure}", reason="gone")
    if status == 429 or (status == 503 and "retry-after" in headers):
        return Throttled(problem, retry_after=retry_after(headers.get("retry-after"), now), reason="throttled")
    if status in (408, 409, 425, 503):
        return Unavailable(problem, reason="busy")
    if status >= 500:
        return DeliveryUncertain(problem, reason="server")
    if 300 <= status < 400:
        return Rejected(f"{problem}: redirects are not followed; set the URL that it leads to", reason="redirect")
    return Rejected(problem, reason="refused")


def retry_after(value: str | None, now: float) -> timedelta:
    """Return a ``Retry-After`` (seconds, or a date) as a time span; any other text gives `DEFAULT_RETRY_AFTER`."""
    text = (value or "").strip()
    try:
        if text.isascii() and text.isdigit():
            return timedelta(seconds=int(text))
        at = parsedate_to_datetime(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(at - datetime.fromtimestamp(now, UTC), timedelta(0))
    except (ValueError, OverflowError, TypeError):
        return DEFAULT_RETRY_AFTER
