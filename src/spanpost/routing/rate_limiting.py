"""How often a sink may be called: buckets of calls that deliveries draw on, blocked by the answers of the
far side.

Four rules, in this order. While a bucket is *blocked*, no delivery draws on it, however urgent: the far side
named a time, refuses, or failed. After failures or a refusal one *probe* at a time goes through, until an
answer ends that. A *paced* bucket gains `rate` calls a second up to `burst`. Of these, the last `reserve`
are for urgent deliveries.

At most burst + rate * t calls go out in any t seconds; a drawn call that was not made is given back only as
far as that stays true. Pure: the clock, which is the store's, and the random numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite

import msgspec

from spanpost.model.deliveries import Mode, RateLimit, Receipt, SinkCall
from spanpost.model.outcomes import GiveUp, Outcome, RetryAt

#: A circuit breaker opens after this many failures in a row ...
FAILURES = 5
#: ... or when more than half of at least this many calls failed within the window.
LEAST = 10
WINDOW = timedelta(seconds=30)
#: How long it stays open: doubling from the first to the last, 20 % more or less. A call a minute does no
#: harm, and finds a sink that works again within a minute, however long it was away.
PAUSES = (timedelta(seconds=10), timedelta(minutes=1))
#: The same after a refusal, which a person must fix.
REFUSALS = (timedelta(minutes=5), timedelta(hours=1))
#: Longer than any wait.
_LONGEST = timedelta(days=366)
_MANY = 1_000_000


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one rate limit. Times are of the store's clock."""

    key: str
    #: Calls left at `at`.
    tokens: float
    at: datetime
    #: No call is drawn before then.
    blocked_until: datetime | None = None
    #: Why it is or was blocked: a short word, and the error.
    reason: str = ""
    error: str = ""
    #: Failures in a row.
    failures: int = 0
    #: Calls that ended, and those of them that failed, since a failure began the window.
    window_at: datetime | None = None
    calls: int = 0
    failed: int = 0
    #: How often in a row failures or a refusal opened the circuit; 0: it is closed, calls flow.
    opened: int = 0
    is_refused: bool = False
    #: The probe: when it was claimed, and until when its outcome is awaited.
    probe_at: datetime | None = None
    probe_until: datetime | None = None


class OpenCircuit(msgspec.Struct, frozen=True, kw_only=True):
    """A rate limit whose calls an outcome blocked."""

    key: str
    #: throttled, refused or failing
    why: str
    until: datetime
    reason: str = ""


def call_of(mode: str, is_unknown: bool, has_message_receipt: bool, has_receipt: bool = False) -> SinkCall:
    """Return the call that a sink will get for a delivery.

    `has_receipt`: it was delivered before, and is sent again.
    """
    if mode == Mode.ERASE:
        return SinkCall.DELETE
    if is_unknown:
        return SinkCall.RECONCILE
    return SinkCall.EDIT if (has_message_receipt if mode == Mode.STATE else has_receipt) else SinkCall.POST


def full(rate_limit: RateLimit, now: datetime) -> Bucket:
    """Return the bucket of a rate limit on which no call was drawn yet."""
    return Bucket(key=rate_limit.key, tokens=max(rate_limit.burst, 1.0), at=now)


def is_quiet(bucket: Bucket, now: datetime) -> bool:
    """Return whether only its pace holds a bucket back: it is not blocked, and no failure is remembered."""
    is_blocked = bucket.blocked_until is not None and now < bucket.blocked_until
    return not (is_blocked or bucket.opened or bucket.failures or bucket.window_at is not None)


def why_closed(bucket: Bucket) -> str:
    """Return why a bucket is blocked: refused, failing or throttled."""
    if bucket.opened:
        return "refused" if bucket.is_refused else "failing"
    return "throttled"


def check(rate_limit: RateLimit) -> None:
    """Raise ValueError when a rate limit is not valid."""
    if not rate_limit.key or "\0" in rate_limit.key:
        raise ValueError("a rate limit needs a key")
    if rate_limit.rate is not None and not (isfinite(rate_limit.rate) and rate_limit.rate > 0):
        raise ValueError(f"rate limit {rate_limit.key}: the rate must be a number above 0, or None")
    if not (
        isfinite(rate_limit.burst)
        and rate_limit.burst >= 1
        and isfinite(rate_limit.reserve)
        and rate_limit.reserve >= 0
    ):
        raise ValueError(f"rate limit {rate_limit.key}: the burst must be at least 1, the reserve at least 0")


# --- drawing --------------------------------------------------------------------------------------------------------


def grant(bucket: Bucket, rate_limit: RateLimit, now: datetime, *, is_urgent: bool, lease: timedelta) -> Bucket | None:
    """Return the bucket after one call was drawn, or None when none may be drawn."""
    if calls_left(bucket, rate_limit, now, is_urgent=is_urgent) < 1:
        return None
    if rate_limit.rate is not None:
        bucket = msgspec.structs.replace(bucket, tokens=_level(bucket, rate_limit, now) - 1.0, at=now)
    if bucket.opened:
        bucket = msgspec.structs.replace(bucket, probe_at=now, probe_until=now + lease)
    return bucket


def calls_left(bucket: Bucket, rate_limit: RateLimit, now: datetime, *, is_urgent: bool) -> int:
    """Return how many calls may be drawn at once."""
    if bucket.blocked_until is not None and now < bucket.blocked_until:
        return 0
    if bucket.opened and bucket.probe_until is not None and now < bucket.probe_until:
        return 0
    # Rounded up a little: three times a third of a second at one call a second is one call.
    count = (
        _MANY if rate_limit.rate is None else int(_level(bucket, rate_limit, now) - _kept(rate_limit, is_urgent) + 1e-9)
    )
    return min(count, 1) if bucket.opened else count


def opens_at(bucket: Bucket, rate_limit: RateLimit, now: datetime, *, is_urgent: bool) -> datetime:
    """Return when the next call may be drawn, as far as is known now; `now` when it may be at once."""
    at = now
    if bucket.blocked_until is not None:
        at = max(at, bucket.blocked_until)
    if bucket.opened and bucket.probe_until is not None:
        at = max(at, bucket.probe_until)
    if rate_limit.rate is not None:
        missing = 1.0 + _kept(rate_limit, is_urgent) - _level(bucket, rate_limit, at)
        if missing > 1e-9:
            # One clock step later, so that rounding does not leave less than a call.
            at += timedelta(seconds=min(missing / rate_limit.rate, _LONGEST.total_seconds())) + timedelta.resolution
    return at


def draw(
    buckets: Mapping[str, Bucket], rate_limits: Sequence[RateLimit], now: datetime, *, is_urgent: bool, lease: timedelta
) -> dict[str, Bucket] | None:
    """Return the buckets that one call changes, or None when one of these rate limits allows none."""
    drawn: dict[str, Bucket] = {}
    for rate_limit in rate_limits:
        bucket = buckets.get(rate_limit.key) or full(rate_limit, now)
        after_it = grant(bucket, rate_limit, now, is_urgent=is_urgent, lease=lease)
        if after_it is None:
            return None
        if after_it is not bucket:
            drawn[rate_limit.key] = after_it
    return drawn


def in_turn(sorts: Sequence[tuple[datetime, Sequence[RateLimit]]], buckets: Mapping[str, Bucket]) -> list[int]:
    """Return the indexes of the sorts of deliveries that may go on.

    `sorts` has for each the time since when its first delivery is due, and its rate limits. On a bucket that
    lets one probe through, deliveries take turns: the one due longest goes, whatever its urgency. Otherwise
    an urgent delivery that always fails would be the probe each time, and hold all others back.
    """
    opened = [[b.key for b in rate_limits if b.key in buckets and buckets[b.key].opened] for _, rate_limits in sorts]
    first: dict[str, int] = {}
    for i, keys in enumerate(opened):
        for key in keys:
            if key not in first or sorts[i][0] < sorts[first[key]][0]:
                first[key] = i
    return [i for i, keys in enumerate(opened) if all(first[key] == i for key in keys)]


def _level(bucket: Bucket, rate_limit: RateLimit, now: datetime) -> float:
    assert rate_limit.rate is not None
    level = min(
        max(rate_limit.burst, 1.0), bucket.tokens + rate_limit.rate * max((now - bucket.at).total_seconds(), 0.0)
    )
    if bucket.blocked_until is not None and bucket.blocked_until > bucket.at:
        # After the far side asked to wait, calls do not come back in a burst.
        level = min(level, 1.0 + rate_limit.rate * max((now - bucket.blocked_until).total_seconds(), 0.0))
    return level


def _kept(rate_limit: RateLimit, is_urgent: bool) -> float:
    # A reserve that leaves less than one call would stop all others forever.
    return 0.0 if is_urgent else min(rate_limit.reserve, max(rate_limit.burst, 1.0) - 1.0)


# --- outcomes -------------------------------------------------------------------------------------------------------


def is_uncalled(outcome: Outcome) -> bool:
    """Return whether no call was made, so that the drawn one is given back."""
    return outcome.is_unsent if isinstance(outcome, RetryAt) else isinstance(outcome, Receipt) and bool(outcome.skipped)


def is_plain(outcome: Outcome) -> bool:
    """Return whether the far side simply answered: that changes only buckets with remembered failures."""
    if isinstance(outcome, (RetryAt, GiveUp)) and (outcome.closes or outcome.is_failure):
        return False
    return not is_uncalled(outcome)


def concerned(drawn: Iterable[str], outcome: Outcome) -> list[str]:
    """Return the keys of the buckets that an outcome may change, in the order in which they are locked."""
    closes = outcome.closes if isinstance(outcome, (RetryAt, GiveUp)) else ()
    return sorted({*drawn, *closes})


def after(
    bucket: Bucket,
    rate_limit: RateLimit,
    outcome: Outcome,
    now: datetime,
    *,
    claimed_at: datetime | None,
    wait: timedelta,
    jitter: float,
) -> Bucket:
    """Return the bucket after the outcome of a call that drew on it or that blocks it.

    `claimed_at` distinguishes the probe from calls that were under way before; `wait` is the time until the moment
    that the far side named; `jitter` is drawn from [0, 1).
    """
    is_probe = bucket.probe_at is not None and bucket.probe_at == claimed_at
    if is_uncalled(outcome):
        bucket = msgspec.structs.replace(bucket, probe_at=None, probe_until=None) if is_probe else bucket
        return refund(bucket, rate_limit, now, claimed_at)
    is_error = isinstance(outcome, (RetryAt, GiveUp))
    if is_error and bucket.key in outcome.closes:  # type: ignore[union-attr]
        if isinstance(outcome, RetryAt) and outcome.is_refusal:
            return _opened(bucket, outcome, now, jitter, is_refused=True, is_probe=is_probe)
        bucket = _answered(bucket, now, is_probe)
        until = now + min(max(wait, timedelta(0)), _LONGEST)
        if bucket.blocked_until is not None and bucket.blocked_until >= until:
            return bucket
        shown = bucket if bucket.opened else _why(bucket, outcome)
        return msgspec.structs.replace(shown, blocked_until=until)
    if is_error and outcome.is_failure:  # type: ignore[union-attr]
        if bucket.opened:
            return _opened(bucket, outcome, now, jitter, is_refused=bucket.is_refused, is_probe=is_probe)
        return _failed(bucket, outcome, now, jitter) if rate_limit.is_breaker else bucket
    return _answered(bucket, now, is_probe)


def refund(bucket: Bucket, rate_limit: RateLimit, now: datetime, claimed_at: datetime | None) -> Bucket:
    """Give back a drawn call that was not made.

    What the bucket may have failed to gain while it was full is subtracted: else one burst too many could go
    out.
    """
    if rate_limit.rate is None or claimed_at is None:
        return bucket
    given = 1.0 - rate_limit.rate * max((now - claimed_at).total_seconds(), 0.0)
    return (
        msgspec.structs.replace(bucket, tokens=min(max(rate_limit.burst, 1.0), bucket.tokens + given))
        if given > 0
        else bucket
    )


def after_outcome(
    buckets: Mapping[str, Bucket],
    rate_limits: Mapping[str, RateLimit],
    outcome: Outcome,
    now: datetime,
    *,
    claimed_at: datetime | None,
    wait: timedelta,
    jitter: float,
) -> tuple[dict[str, Bucket], list[OpenCircuit]]:
    """Return the buckets that an outcome changes, and the rate limits that it blocks."""
    changed, closed = {}, []
    for key, bucket in buckets.items():
        rate_limit = rate_limits.get(key) or RateLimit(key=key)
        new = after(bucket, rate_limit, outcome, now, claimed_at=claimed_at, wait=wait, jitter=jitter)
        if new == bucket:
            continue
        changed[key] = new
        if new.blocked_until is not None and new.blocked_until != bucket.blocked_until and new.blocked_until > now:
            closed.append(OpenCircuit(key=key, why=why_closed(new), until=new.blocked_until, reason=new.reason))
    return changed, closed


def is_held(buckets: Iterable[Bucket], outcome: Outcome) -> bool:
    """Return whether one of these buckets, after the outcome, paces the next try: the delivery needs no wait
    of its own.
    """
    if not isinstance(outcome, RetryAt) or not (outcome.is_failure or outcome.is_refusal):
        return False
    return any(bucket.opened for bucket in buckets)


def reopened(bucket: Bucket) -> Bucket:
    """Return a bucket that only its pace holds back: a person says that the fault is fixed."""
    return Bucket(key=bucket.key, tokens=min(bucket.tokens, 1.0), at=bucket.at)


def _failed(bucket: Bucket, outcome: Outcome, now: datetime, jitter: float) -> Bucket:
    is_new = bucket.window_at is None or now - bucket.window_at > WINDOW
    bucket = msgspec.structs.replace(
        bucket,
        failures=bucket.failures + 1,
        window_at=now if is_new else bucket.window_at,
        calls=1 if is_new else bucket.calls + 1,
        failed=1 if is_new else bucket.failed + 1,
    )
    if bucket.failures >= FAILURES or (bucket.calls >= LEAST and 2 * bucket.failed > bucket.calls):
        return _opened(bucket, outcome, now, jitter, is_refused=False, is_probe=False)
    return bucket


def _opened(
    bucket: Bucket, outcome: Outcome, now: datetime, jitter: float, *, is_refused: bool, is_probe: bool
) -> Bucket:
    if bucket.opened and not is_probe and is_refused == bucket.is_refused:
        return bucket  # a call that was under way when it opened: no new information
    first, last = REFUSALS if is_refused else PAUSES
    opened = bucket.opened + 1 if is_refused == bucket.is_refused else 1
    pause = min(first * 2 ** min(opened - 1, 16), last) * (0.8 + 0.4 * jitter)
    until = now + pause
    return msgspec.structs.replace(
        _why(bucket, outcome),
        opened=opened,
        is_refused=is_refused,
        blocked_until=max(until, bucket.blocked_until or until),
        failures=0,
        window_at=None,
        calls=0,
        failed=0,
        probe_at=None,
        probe_until=None,
    )


def _answered(bucket: Bucket, now: datetime, is_probe: bool) -> Bucket:
    if bucket.opened:
        if not is_probe:
            return bucket
        blocked = bucket.blocked_until if bucket.blocked_until is not None and bucket.blocked_until > now else now
        return Bucket(key=bucket.key, tokens=bucket.tokens, at=bucket.at, blocked_until=blocked)
    if bucket.window_at is None:
        return bucket
    if now - bucket.window_at > WINDOW:
        return msgspec.structs.replace(bucket, failures=0, window_at=None, calls=0, failed=0)
    return msgspec.structs.replace(bucket, failures=0, calls=bucket.calls + 1)


def _why(bucket: Bucket, outcome: Outcome) -> Bucket:
    if not isinstance(outcome, (RetryAt, GiveUp)):
        return bucket
    return msgspec.structs.replace(bucket, reason=outcome.reason, error=outcome.error)
