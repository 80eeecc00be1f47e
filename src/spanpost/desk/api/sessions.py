"""People who have logged in: a signed cookie, short-lived, that scripts cannot read."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec

from spanpost.desk.api.callers import Caller

COOKIE: Final = "spanpost_session"
_LONGEST: Final = 4_096


class Signer:
    """Signs small values for a while (HMAC-SHA256). `purpose` keeps what was signed for one use from another."""

    def __init__(self, secret: bytes, purpose: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret, f"spanpost {purpose}".encode(), sha256)
        self._clock = clock

    def sign(self, value: Any, seconds: float) -> str:
        """Return a value as text that `read` gives back within that time."""
        body = urlsafe_b64encode(msgspec.json.encode([self._clock() + seconds, msgspec.to_builtins(value)])).rstrip(b"=")
        return f"{body.decode()}.{self._seal(body)}"

    def read(self, text: str | None) -> Any:
        """Return what was signed; None for anything else, and when its time is over."""
        found = self.read_until(text)
        return found[1] if found is not None else None

    def read_until(self, text: str | None) -> tuple[float, Any] | None:
        """Return until when it holds, and what was signed; None for anything else, and when its time is over."""
        if not text or len(text) > _LONGEST or not text.isascii():
            return None
        body, _, seal = text.partition(".")
        if not hmac.compare_digest(seal, self._seal(body.encode())):
            return None
        until, value = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return (until, value) if until > self._clock() else None

    def _seal(self, body: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, body, sha256)).decode().rstrip("=")


class Sessions:
    """Knows whose a session cookie is."""

    def __init__(self, secret: bytes, seconds: float, *, clock: Callable[[], float] = time.time) -> None:
        self._signer = Signer(secret, "session", clock=clock)
        self.seconds = seconds

    def begin(self, person: Caller) -> str:
        """Return the cookie of a person who has logged in."""
        return self._signer.sign(msgspec.structs.replace(person, roles=frozenset(sorted(person.roles))), self.seconds)

    def find(self, cookie: str | None) -> Caller | None:
        """Return whose it is; None for nobody's, and when its time is over."""
        found = self._signer.read_until(cookie)
        return msgspec.structs.replace(msgspec.convert(found[1], Caller), until=found[0]) if found is not None else None
