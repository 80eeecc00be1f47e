"""Whether and when a letter that failed is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from spanpost.domain.errors import DeliveryError, Rejected, Throttled, Unknown
from spanpost.domain.outcomes import GiveUp, RetryAt
from spanpost.fold.redact import line

#: Reason of an exception that no sink meant to raise.
BUG = "bug"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient we are. Backoff with full jitter (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter, 2015)."""

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)
    #: Never sooner than this, however the dice fall.
    floor: timedelta = timedelta(milliseconds=100)
    #: Older letters are buried. A day: what Standard Webhooks receivers are given at least.
    max_age: timedelta = timedelta(hours=24)


def decide(error: BaseException, attempt: int, born_at: datetime, now: datetime, jitter: float, policy: Policy) -> RetryAt | GiveUp:
    """Return what becomes of a letter that failed.

    `attempt` counts from 1; `jitter` is drawn by the caller from [0, 1). `Throttled` waits exactly as long as it was told
    to; `Unknown` is to be reconciled before anything is sent again; what no sink meant to raise counts as `Unavailable`.
    """
    reason = error.reason if isinstance(error, DeliveryError) else BUG
    text = line(str(error) or type(error).__name__, 500)
    if not isinstance(error, DeliveryError):
        text = line(f"{type(error).__name__}: {text}", 500)
    if isinstance(error, Rejected):
        return GiveUp(reason=reason, error=text)
    delay = max(error.retry_after, timedelta(0)) if isinstance(error, Throttled) else backoff(attempt, jitter, policy)
    # Compared before it is added: a far side may ask for more years than a datetime holds.
    if delay > policy.max_age or now - born_at + delay > policy.max_age:
        return GiveUp(reason="expired", error=line(f"not delivered within {policy.max_age}: {text}", 500))
    return RetryAt(at=now + delay, reason=reason, error=text, reconcile=isinstance(error, Unknown))


def backoff(attempt: int, jitter: float, policy: Policy) -> timedelta:
    """Return a random share of what has doubled with each attempt, up to the cap."""
    # 2**32 s is longer than any cap; larger exponents only overflow.
    grown = min(policy.cap.total_seconds(), policy.base.total_seconds() * 2.0 ** min(max(attempt - 1, 0), 32))
    return max(policy.floor, timedelta(seconds=grown * min(max(jitter, 0.0), 1.0)))


def from_seconds(value: float | None, default: float) -> timedelta:
    """Return a far side's ``Retry-After`` as a duration; what is no sensible number gives the default."""
    if value is None or not 0 <= value <= 86_400 * 366:  # not a number compares false
        return timedelta(seconds=default)
    return timedelta(seconds=value)
