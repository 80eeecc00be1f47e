"""What the buckets of many rate limits allow at one moment. A bucket that many calls share is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from spanpost.model.deliveries import RateLimit
from spanpost.routing.rate_limiting import Bucket, calls_left, full, opens_at

#: More calls than are claimed at once.
_MANY = 1_000_000


class BucketLevels:
    """Calls left, and the times of the next ones, by rate limit and urgency.

    Thousands of channels share the limits of their workspace: each of them would be computed for each channel.
    """

    def __init__(self, buckets: Mapping[str, Bucket], now: datetime) -> None:
        self._buckets = buckets
        self._now = now
        self._left: tuple[dict[RateLimit, int], dict[RateLimit, int]] = ({}, {})
        self._open_at: tuple[dict[RateLimit, datetime], dict[RateLimit, datetime]] = ({}, {})

    def left(self, rate_limits: Sequence[RateLimit], *, is_urgent: bool) -> int:
        """Return how many calls may be drawn at once on all of these rate limits."""
        known, least = self._left[is_urgent], _MANY
        for rate_limit in rate_limits:
            left = known.get(rate_limit)
            if left is None:
                left = known[rate_limit] = calls_left(
                    self._bucket(rate_limit), rate_limit, self._now, is_urgent=is_urgent
                )
            if left <= 0:
                return 0
            least = min(least, left)
        return least

    def open_at(self, rate_limits: Sequence[RateLimit], *, is_urgent: bool) -> datetime:
        """Return when a call may be drawn on all of these rate limits."""
        known, last = self._open_at[is_urgent], self._now
        for rate_limit in rate_limits:
            at = known.get(rate_limit)
            if at is None:
                at = known[rate_limit] = opens_at(self._bucket(rate_limit), rate_limit, self._now, is_urgent=is_urgent)
            last = max(last, at)
        return last

    def _bucket(self, rate_limit: RateLimit) -> Bucket:
        return self._buckets.get(rate_limit.key) or full(rate_limit, self._now)
