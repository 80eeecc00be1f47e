"""The access tokens of the database, as this process read them last.

A request only looks here: `spanpost.runtime.access_tokens` reads the database every two seconds and saves the
last uses once a minute. When the database cannot be read, cached tokens stay valid for `trusted` seconds. After
that a token that only the database may know is answered 503, so that its sender tries again; it is never
accepted, and never called wrong.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from spanpost.http.bearer import digest_of
from spanpost.model.access_tokens import AccessToken, TokenState

#: Every token of the database begins so; any other is not looked for.
PREFIX: Final = "spt_"
_LONGEST: Final = 200


class TokenRefused(Exception):
    """A token is not accepted now, or not here. `reason` is for programs, the text for people."""

    def __init__(self, status: int, reason: str, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class StoredTokens:
    """Finds tokens by their hash. `trusted`: seconds for which a read stays valid."""

    def __init__(
        self,
        trusted: float = math.inf,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trusted = trusted
        self._clock = clock
        self._monotonic = monotonic
        #: When the tokens were read last; a process without a database has none, and knows that.
        self._read_at = monotonic() if trusted == math.inf else -math.inf
        self._by_digest: dict[bytes, AccessToken] = {}
        self._by_id: dict[UUID, AccessToken] = {}
        self._is_closed = False
        self._changed = asyncio.Event()
        #: When each token was used, since it was saved last.
        self.uses: dict[UUID, datetime] = {}

    @property
    def is_fresh(self) -> bool:
        """Whether the tokens were read lately enough to be believed."""
        return self._monotonic() - self._read_at <= self.trusted

    @property
    def is_closed(self) -> bool:
        """Whether senders need a token: one was ever made. Raises `TokenRefused` if that is not known yet."""
        if self._read_at == -math.inf:
            raise _unverified()
        return self._is_closed

    def take(self, state: TokenState | None) -> bool:
        """Use what was read; None: the database has changed nothing. Return whether tokens have changed or expired.

        Call it in the loop of the waiting requests.
        """
        self._read_at = self._monotonic()
        now, before = self._clock(), self._by_id
        tokens = state.tokens if state is not None else tuple(before.values())
        self._by_id = {token.id: token for token in tokens if token.is_valid(now)}
        self._by_digest = {token.digest: token for token in self._by_id.values()}
        if state is not None:
            self._is_closed = state.is_closed
        has_changed = state is not None or len(before) != len(self._by_id)
        if has_changed:
            self.notify()
        return has_changed

    def find(self, token: str) -> AccessToken | None:
        """Return a valid token, and note its use. Raises `TokenRefused` (503) if the database must be read first."""
        if not token.startswith(PREFIX) or len(token) > _LONGEST:
            return None
        if not self.is_fresh:
            raise _unverified()
        found = self._by_digest.get(digest_of(token))
        now = self._clock()
        if found is None or not found.is_valid(now):
            return None
        self.uses[found.id] = now
        return found

    def is_valid(self, id: UUID) -> bool:
        """Whether a token that was accepted is still valid."""
        found = self._by_id.get(id)
        return found is not None and self.is_fresh and found.is_valid(self._clock())

    def notify(self) -> None:
        """Let every waiting request check its credential again. Call it in their loop."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def change(self, seconds: float | None = None) -> None:
        """Return when tokens have changed, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def _unverified() -> TokenRefused:
    return TokenRefused(503, "token_unverified", "tokens cannot be verified while the database is down; try again", 5)
