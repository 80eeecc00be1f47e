"""How often each method may be called, and who did not wait.

Slack's tiers (docs.slack.dev/apis/web-api/rate-limits, 2026-08): calls a minute for each method and
workspace, and for `chat.postMessage` about one a second in each channel. Bursts are taken to a minute's
worth, in a channel to ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

TIERS: Final[Mapping[str, float]] = {
    "chat.postMessage": 300.0,
    "chat.update": 50.0,
    "chat.delete": 50.0,
    "users.lookupByEmail": 50.0,
    "conversations.history": 50.0,
    "conversations.replies": 50.0,
    "conversations.info": 50.0,
    "conversations.join": 50.0,
    "conversations.list": 20.0,
}


@dataclass(frozen=True)
class Early:
    """A call to a method before the time that Retry-After named."""

    method: str
    #: Seconds since the 429 was answered, and how many were left.
    since: float
    left: float


@dataclass
class _TierBucket:
    tokens: float
    at: float


class Tiers:
    """Counts calls. Without `limits` nothing is limited; a 429 that a fault dealt is kept account of all the same."""

    def __init__(
        self, limits: Mapping[str, float] | None, clock: Callable[[], float], *, per_channel: float = 60.0
    ) -> None:
        self.limits = dict(limits or {})
        self.per_channel = per_channel
        self._clock = clock
        self._buckets: dict[str, _TierBucket] = {}
        self._closed: dict[str, tuple[float, float]] = {}
        self.early: list[Early] = []

    def refuse(self, method: str, channel: str = "") -> int | None:
        """Return the Retry-After of a call, in seconds; None lets it pass."""
        now = self._clock()
        answered, until = self._closed.get(method, (0.0, 0.0))
        if now < until:
            self.early.append(Early(method, now - answered, until - now))
            return math.ceil(until - now)
        wait = self._take(method, self.limits.get(method), self.limits.get(method, 0.0), now)
        if wait <= 0 and method == "chat.postMessage" and self.limits:
            wait = self._take(f"{method} {channel}", self.per_channel, 10.0, now)
        return self.close(method, wait) if wait > 0 else None

    def close(self, method: str, seconds: float) -> int:
        """Answer calls of the method with Retry-After: none may come for so long."""
        stall_rules = max(1, math.ceil(seconds))
        now = self._clock()
        self._closed[method] = (now, now + stall_rules)
        return stall_rules

    def _take(self, key: str, per_minute: float | None, burst: float, now: float) -> float:
        if per_minute is None:
            return 0.0
        bucket = self._buckets.setdefault(key, _TierBucket(burst, now))
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) * per_minute / 60)
        bucket.at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) * 60 / per_minute
