"""Whether and when a failed delivery is retried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from spanpost.model.errors import DeliveryError, DeliveryRefused, DeliveryUncertain, Rejected, Throttled, Unverifiable
from spanpost.model.outcomes import GiveUp, RetryAt
from spanpost.text.sanitise import line

#: Reason of an exception that no sink raises on purpose.
BUG = "bug"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often to retry.

    Backoff with full jitter (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter, 2015).
    """

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)
    #: Least wait, whatever the jitter.
    floor: timedelta = timedelta(milliseconds=100)
    #: Older deliveries are given up. A day: the least that Standard Webhooks receivers are given.
    max_age: timedelta = timedelta(hours=24)


def decide(
    error: BaseException,
    attempt: int,
    born_at: datetime,
    now: datetime,
    jitter: float,
    policy: Policy,
    drawn: Sequence[str] = (),
) -> RetryAt | GiveUp:
    """Return the retry of a failed delivery, or that it is given up.

    `attempt` counts from 1; `jitter` is drawn by the caller from [0, 1); `drawn` are the rate limits of the
    call, the widest first. `Throttled` waits exactly as long as the far side said, and so do all others
    under the same limit; `DeliveryRefused` waits without a maximum age, because the delivery is not at
    fault; `DeliveryUncertain` is looked up before anything is sent again; an exception that no sink raises
    on purpose counts as `Unavailable`.
    """
    reason = error.reason if isinstance(error, DeliveryError) else BUG
    text = line(str(error) or type(error).__name__, 500)
    if not isinstance(error, DeliveryError):
        text = line(f"{type(error).__name__}: {text}", 500)
    if isinstance(error, Unverifiable) and error.closes and error.retry_after is not None:
        wait = min(max(error.retry_after, timedelta(0)), policy.max_age)
        return GiveUp(reason=reason, error=text, closes=(error.closes,), until=now + wait)
    if isinstance(error, Rejected):
        return GiveUp(reason=reason, error=text)
    if isinstance(error, DeliveryRefused):
        closes = (error.closes,) if error.closes else tuple(drawn[:1])
        # A blocked rate limit holds the delivery, and may be opened sooner by hand; else it waits by itself.
        at = now + (backoff(attempt, jitter, policy) if closes else policy.cap)
        return RetryAt(at=at, reason=reason, error=line(f"{text}: {error.cure}", 500), closes=closes, is_refusal=True)
    closes, delay = (), backoff(attempt, jitter, policy)
    if isinstance(error, Throttled):
        delay = max(error.retry_after, timedelta(0))
        closes = (error.closes,) if error.closes else tuple(drawn)
    is_unknown, is_failure = isinstance(error, DeliveryUncertain), not isinstance(error, Throttled)
    # Compared before it is added: a far side may name more years than a datetime holds.
    if delay > policy.max_age or now - born_at + delay > policy.max_age:
        said = line(f"not delivered within {policy.max_age}: {text}", 500)
        until = now + min(delay, policy.max_age) if closes else None
        return GiveUp(
            reason="expired", error=said, reconcile=is_unknown, closes=closes, until=until, is_failure=is_failure
        )
    return RetryAt(
        at=now + delay, reason=reason, error=text, reconcile=is_unknown, closes=closes, is_failure=is_failure
    )


def backoff(attempt: int, jitter: float, policy: Policy) -> timedelta:
    """Return a random share of a wait that doubles with each attempt, up to the cap."""
    # 2**32 s is longer than any cap; larger exponents only overflow.
    grown = min(policy.cap.total_seconds(), policy.base.total_seconds() * 2.0 ** min(max(attempt - 1, 0), 32))
    return max(policy.floor, timedelta(seconds=grown * min(max(jitter, 0.0), 1.0)))


def from_seconds(value: float | None, default: float) -> timedelta:
    """Return a far side's ``Retry-After`` as a duration; the default where it is not a number from 0 to a year."""
    if value is None or not 0 <= value <= 86_400 * 366:  # not a number compares false
        return timedelta(seconds=default)
    return timedelta(seconds=value)
