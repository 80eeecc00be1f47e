"""Retries: the outcome of a delivery that failed."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.errors import DeliveryUncertain, Rejected, Throttled, Unavailable, Unverifiable
from spanpost.model.outcomes import GiveUp, RetryAt
from spanpost.routing.retries import Policy, backoff, decide, from_seconds
from spanpost.testing.nouns import NOON

POLICY = Policy()
_jitter = st.floats(0, 1, exclude_max=True)
_error = st.one_of(
    st.just(Rejected("no", reason="channel_not_found")),
    st.builds(lambda s: Throttled("later", retry_after=timedelta(seconds=s)), st.floats(-10, 1e9)),
    st.just(Unavailable("away")),
    st.just(DeliveryUncertain("perhaps")),
    st.just(ValueError("a bug")),
    st.just(KeyError()),
)


@given(_error, st.integers(-1, 10**6), st.floats(-1e6, 1e6), _jitter)
def test_it_always_decides_and_never_before_now(error, attempt, age, jitter):
    """Total: any error at any attempt and age, even with wrong clocks, is retried in the future or given up."""
    outcome = decide(error, attempt, NOON - timedelta(seconds=age), NOON, jitter, POLICY)
    assert outcome.reason
    if isinstance(outcome, RetryAt):
        assert outcome.at >= NOON
        assert outcome.at - (NOON - timedelta(seconds=age)) <= POLICY.max_age
        assert outcome.reconcile is isinstance(error, DeliveryUncertain)
    else:
        assert isinstance(outcome, GiveUp)


@given(st.integers(1, 10**6), _jitter)
def test_backoff_is_full_jitter_under_a_doubling_ceiling(attempt, jitter):
    """The delay is the jitter's share of the base doubled per attempt, between the floor and the cap."""
    delay = backoff(attempt, jitter, POLICY)
    ceiling = min(POLICY.cap.total_seconds(), POLICY.base.total_seconds() * 2 ** min(attempt - 1, 40))
    assert POLICY.floor <= delay <= max(POLICY.floor, timedelta(seconds=ceiling))
    assert abs(delay.total_seconds() - max(POLICY.floor.total_seconds(), ceiling * jitter)) < 1e-3


@given(st.integers(0, 80_000), st.integers(1, 50), _jitter)
def test_throttled_waits_exactly_the_retry_after(seconds, attempt, jitter):
    """A Retry-After applies exactly, whatever the attempt and the jitter."""
    error = Throttled("slow down", retry_after=timedelta(seconds=seconds), reason="ratelimited")
    assert decide(error, attempt, NOON, NOON, jitter, POLICY) == RetryAt(
        at=NOON + timedelta(seconds=seconds), reason="ratelimited", error="slow down"
    )


def test_rejected_is_a_dead_letter_with_its_reason():
    """A delivery that would be refused again is not tried again."""
    assert decide(Rejected("is_archived", reason="is_archived"), 1, NOON, NOON, 0.5, POLICY) == GiveUp(
        reason="is_archived", error="is_archived"
    )


def test_unverifiable_is_a_dead_letter_and_closes_lookups():
    """A delivery that cannot be reconciled becomes a dead letter; a throttled lookup closes its rate limit
    all the same.
    """
    plain = Unverifiable("no scope")
    assert decide(plain, 1, NOON, NOON, 0.5, POLICY) == GiveUp(reason="unverifiable", error="no scope")
    throttled = Unverifiable("once a minute", retry_after=timedelta(seconds=60), closes="lookups")
    assert decide(throttled, 1, NOON, NOON, 0.5, POLICY) == GiveUp(
        reason="unverifiable", error="once a minute", closes=("lookups",), until=NOON + timedelta(seconds=60)
    )


def test_too_old_is_a_dead_letter():
    """A delivery older than the policy's age is given up with the reason."""
    outcome = decide(Unavailable("away"), 9, NOON - timedelta(hours=25), NOON, 0.5, POLICY)
    assert isinstance(outcome, GiveUp)
    assert outcome.reason == "expired"
    assert "away" in outcome.error


def test_a_bug_is_retried_and_named():
    """An exception that no sink raises on purpose counts as unavailable, reason bug, with its type."""
    outcome = decide(ZeroDivisionError("oops"), 1, NOON, NOON, 0.5, POLICY)
    assert isinstance(outcome, RetryAt)
    assert (outcome.reason, outcome.error, outcome.reconcile) == ("bug", "ZeroDivisionError: oops", False)


def test_the_error_text_holds_no_secret():
    """An error text, which becomes a row and a log line, has its tokens redacted."""
    outcome = decide(Unavailable("401 for xoxb-123456789-abcdefghijkl"), 1, NOON, NOON, 0.5, POLICY)
    assert outcome.error == "401 for [redacted:slack-token]"


@given(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
def test_a_nonsensical_retry_after_gives_the_default(value):
    """A Retry-After that is missing, negative, infinite or no number gives the default."""
    sensible = value is not None and 0 <= value <= 86_400 * 366
    assert from_seconds(value, 30.0) == timedelta(seconds=value if sensible else 30.0)
