"""Sessions of people: a signed, short-lived cookie, which scripts cannot read and logout ends."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final

import msgspec

from spanpost.interactions.api.callers import Caller
from spanpost.model.sessions import SessionState
from spanpost.store.directory import LoginSessions

COOKIE: Final = "spanpost_session"
#: Seconds for which a gateway caches the list of ended sessions.
REFRESH: Final = 5.0
_LONGEST: Final = 4_096


class Signer:
    """Signs small values for a limited time (HMAC-SHA256).

    A signature for one `purpose` is invalid for others.
    """

    def __init__(self, secret: bytes, purpose: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret, f"spanpost {purpose}".encode(), sha256)
        self._clock = clock

    def sign(self, value: Any, seconds: float) -> str:
        """Return a value as text that `read` accepts within that time."""
        body = urlsafe_b64encode(msgspec.json.encode([self._clock() + seconds, msgspec.to_builtins(value)])).rstrip(
            b"="
        )
        return f"{body.decode()}.{self._signature(body)}"

    def read(self, text: str | None) -> Any:
        """Return the signed value; None for anything else, and once it has expired."""
        found = self.read_until(text)
        return found[1] if found is not None else None

    def read_until(self, text: str | None) -> tuple[float, Any] | None:
        """Return the expiry and the signed value; None for anything else, and once it has expired."""
        if not text or len(text) > _LONGEST or not text.isascii():
            return None
        body, _, signature = text.partition(".")
        if not hmac.compare_digest(signature, self._signature(body.encode())):
            return None
        until, value = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return (until, value) if until > self._clock() else None

    def _signature(self, body: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, body, sha256)).decode().rstrip("=")


class Sessions:
    """Sessions of people.

    An ended session is invalid here at once, at other gateways within `REFRESH` seconds. Sessions are signed
    with a stored secret that all gateways share; if `secret` is set, it is needed as well.
    """

    def __init__(
        self,
        keeps: LoginSessions,
        seconds: float,
        secret: bytes = b"",
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeps = keeps
        self._secret = secret
        self._clock = clock
        self._monotonic = monotonic
        self.seconds = seconds
        self._state: SessionState | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def signer(self, purpose: str) -> Signer:
        """Return the signer for a purpose. Raises `StoreUnavailable`."""
        state = await self._now()
        return Signer(hmac.digest(state.secret, self._secret, sha256), purpose, clock=self._clock)

    async def begin(self, person: Caller) -> str:
        """Return the cookie of a person who has logged in. Raises `StoreUnavailable`."""
        person = msgspec.structs.replace(person, roles=frozenset(sorted(person.roles)), session=token_urlsafe(16))
        return (await self.signer("session")).sign(person, self.seconds)

    async def find(self, cookie: str | None) -> Caller | None:
        """Return the person of a cookie; None if it is invalid, expired or ended.

        Raises `StoreUnavailable`.
        """
        if not cookie:
            return None
        found = (await self.signer("session")).read_until(cookie)
        if found is None:
            return None
        person = msgspec.structs.replace(msgspec.convert(found[1], Caller), until=found[0])
        return None if await self.is_ended(person.session) else person

    async def is_ended(self, id: str) -> bool:
        """Tell whether a session was ended. Raises `StoreUnavailable`."""
        return id in (await self._now()).ended

    async def end(self, cookie: str | None) -> Caller | None:
        """End the session of a cookie; return its person, if it was valid. Raises `StoreUnavailable`."""
        person = await self.find(cookie)
        if person is not None and person.until is not None:
            await self._keeps.end(person.session, datetime.fromtimestamp(person.until, UTC))
            async with self._reading:  # a read in progress may be older than the end
                self._read_at = float("-inf")
        return person

    async def _now(self) -> SessionState:
        async with self._reading:
            at = self._monotonic()
            if self._state is None or at - self._read_at > REFRESH:
                self._state, self._read_at = await self._keeps.state(), at
            return self._state
