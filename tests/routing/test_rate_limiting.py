"""Rate limits: how often a sink may be called, whatever happens in between."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.deliveries import RateLimit, Receipt, SinkCall
from spanpost.model.outcomes import GiveUp, NotArrived, RetryAt
from spanpost.routing import rate_limiting
from spanpost.routing.bucket_levels import BucketLevels
from spanpost.testing.nouns import NOON

KEY = "slack:default:chat.update"
LEASE = timedelta(seconds=60)
PACED = RateLimit(key=KEY, rate=2.0, burst=5.0, reserve=2.0, is_breaker=True)
BREAKER = RateLimit(key=KEY, is_breaker=True)

_budgets = st.builds(
    lambda rate, burst, share, is_breaker: RateLimit(
        key=KEY, rate=rate, burst=burst, reserve=burst * share, is_breaker=is_breaker
    ),
    st.floats(0.01, 50),
    st.integers(1, 4) | st.floats(1, 20),
    st.floats(0, 2),
    st.booleans(),
)
#: Time until the next step (often a multiple of the time that earns half a call), and the step: a call of either
#: urgency, or the outcome of an earlier call.
_steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 2, 8]) | st.floats(0, 200),
        st.sampled_from(
            ["call", "call", "urgent", "urgent", "skipped", "skipped", "answered", "failed", "throttled", "refused"]
        ),
        st.integers(0, 5),
    ),
    max_size=80,
)


def failed(at=NOON, reason="down"):
    return RetryAt(at=at, reason=reason, is_failure=True)


def closing(at=NOON, **more):
    return RetryAt(at=at, reason="ratelimited", error="slow down", closes=(KEY,), **more)


def after(bucket, outcome, now, *, budget=BREAKER, claimed_at=None, wait=0.0, jitter=0.5):
    return rate_limiting.after(
        bucket, budget, outcome, now, claimed_at=claimed_at, wait=timedelta(seconds=wait), jitter=jitter
    )


def granted(bucket, now, *, budget=BREAKER, is_urgent=False):
    return rate_limiting.grant(bucket, budget, now, is_urgent=is_urgent, lease=LEASE)


def later(seconds):
    return NOON + timedelta(seconds=seconds)


class Run:
    """A bucket through a sequence of steps, with the invariants."""

    def __init__(self, budget):
        self.budget, self.bucket, self.now = budget, rate_limiting.full(budget, NOON), NOON
        self.calls, self.under_way, self.denied = [], [], 0

    def step(self, time, what, which):
        self.now += timedelta(seconds=time / 2 / self.budget.rate if isinstance(time, int) else time)
        if what in ("call", "urgent"):
            self.call(is_urgent=what == "urgent")
        elif self.under_way:
            self.end(what, self.under_way.pop(which % len(self.under_way)))

    def call(self, *, is_urgent):
        before = self.bucket
        left = rate_limiting.calls_left(before, self.budget, self.now, is_urgent=is_urgent)
        new = granted(before, self.now, budget=self.budget, is_urgent=is_urgent)
        assert (new is not None) == (left >= 1)
        if new is None:
            return
        assert before.blocked_until is None or before.blocked_until <= self.now
        if before.opened:
            is_alone = before.probe_until is None or before.probe_until <= self.now
            assert is_alone
        if not is_urgent:
            assert new.tokens >= min(self.budget.reserve, self.budget.burst - 1) - 1e-6
        self.bucket = new
        self.calls.append(self.now)
        self.under_way.append(self.now)

    def end(self, what, claimed_at):
        outcome = {
            "skipped": Receipt(skipped="unchanged"),
            "answered": Receipt(ref={"ts": "1"}),
            "failed": failed(),
            "throttled": closing(),
            "refused": closing(is_refusal=True),
        }[what]
        self.bucket = after(self.bucket, outcome, self.now, budget=self.budget, claimed_at=claimed_at, wait=10.0)
        if what == "skipped":
            self.calls.remove(claimed_at)  # it was never made
        if what == "throttled":
            assert self.bucket.blocked_until >= self.now + timedelta(seconds=10)


@given(_budgets, _steps)
def test_never_more_than_its_burst_and_pace(budget, steps):
    """In any period no more calls go out than burst plus rate, including refunds and failures."""
    run = Run(budget)
    for step in steps:
        run.step(*step)
    for first, begin in enumerate(run.calls):
        for count, end in enumerate(run.calls[first:], 1):
            assert count <= budget.burst + budget.rate * (end - begin).total_seconds() + 1e-3


@given(_budgets, _steps, st.booleans(), st.floats(0, 1, exclude_max=True))
def test_it_opens_when_it_says(budget, steps, is_urgent, share):
    """`opens_at` is the first moment at which a call is allowed, from any state."""
    run = Run(budget)
    for step in steps:
        run.step(*step)
    at = rate_limiting.opens_at(run.bucket, budget, run.now, is_urgent=is_urgent)
    assert at >= run.now
    assert granted(run.bucket, at, budget=budget, is_urgent=is_urgent) is not None
    before = run.now + (at - run.now) * share
    if before < at - timedelta(milliseconds=1):
        assert granted(run.bucket, before, budget=budget, is_urgent=is_urgent) is None


def test_what_is_given_back_makes_no_burst():
    """A call not made is refunded at once; later only as far as the full bucket missed its gain."""
    slow = RateLimit(key=KEY, rate=1.0)
    drawn = granted(rate_limiting.full(slow, NOON), NOON, budget=slow)
    skipped = Receipt(skipped="unchanged")
    assert granted(after(drawn, skipped, NOON, budget=slow, claimed_at=NOON), NOON, budget=slow) is not None
    again = granted(drawn, later(1), budget=slow)
    assert granted(after(again, skipped, later(1), budget=slow, claimed_at=NOON), later(1), budget=slow) is None


def test_the_reserve_is_for_the_urgent():
    """Two of five calls are reserved for urgent deliveries; a reserve as large as the burst leaves one."""
    bucket = rate_limiting.full(PACED, NOON)
    for _ in range(3):
        bucket = granted(bucket, NOON, budget=PACED)
    assert granted(bucket, NOON, budget=PACED) is None
    for _ in range(2):
        bucket = granted(bucket, NOON, budget=PACED, is_urgent=True)
    assert granted(bucket, NOON, budget=PACED, is_urgent=True) is None
    greedy = RateLimit(key=KEY, rate=1.0, burst=1.0, reserve=1.0)
    assert granted(rate_limiting.full(greedy, NOON), NOON, budget=greedy) is not None


def test_after_a_retry_after_there_is_no_burst():
    """After the time that a sink asked for, one call goes, and then they go at the rate."""
    bucket = after(rate_limiting.full(PACED, NOON), closing(), NOON, budget=PACED, wait=600)
    assert granted(bucket, later(599.9), budget=PACED, is_urgent=True) is None
    bucket = granted(bucket, later(600), budget=PACED, is_urgent=True)
    assert granted(bucket, later(600), budget=PACED, is_urgent=True) is None
    assert granted(bucket, later(600.6), budget=PACED, is_urgent=True) is not None


def test_a_retry_after_is_never_shortened():
    """A later answer with a shorter time leaves the longer one in force."""
    bucket = after(rate_limiting.full(BREAKER, NOON), closing(), NOON, wait=600)
    assert after(bucket, closing(), later(1), wait=5).blocked_until == later(600)


def test_five_failures_in_a_row_open_it():
    """Five failures in a row open the circuit, four and a success do not; without `is_breaker` none do."""
    bucket = rate_limiting.full(BREAKER, NOON)
    for i in range(4):
        bucket = after(bucket, failed(), later(i * 60))
    assert granted(after(bucket, Receipt(), later(241)), later(241)) is not None
    assert after(after(bucket, Receipt(), later(241)), failed(), later(242)).opened == 0
    opened = after(bucket, failed(), later(241))
    assert (opened.opened, opened.reason, rate_limiting.why_closed(opened)) == (1, "down", "failing")
    assert granted(opened, later(241 + 9)) is None
    assert granted(opened, later(241 + 10)) is not None
    plain = RateLimit(key=KEY)
    for _ in range(20):
        bucket = after(rate_limiting.full(plain, NOON), failed(), NOON, budget=plain)
    assert bucket.opened == 0


def test_more_than_half_of_ten_open_it():
    """Six failures of ten within 30 s open it, though never five in a row; spread over minutes they do not."""
    for apart, is_open in ((2.0, True), (20.0, False)):
        bucket = rate_limiting.full(BREAKER, NOON)
        for i, outcome in enumerate([failed(), failed(), failed(), failed(), NotArrived()] * 3):
            bucket = after(bucket, outcome, later(i * apart))
        assert bool(bucket.opened) is is_open


def test_a_healthy_bucket_never_changes():
    """Successful calls leave the bucket unchanged: there is no row that every call must write."""
    bucket = rate_limiting.full(BREAKER, NOON)
    for i in range(50):
        assert after(bucket, Receipt(ref={"i": i}), later(i)) == bucket
        assert granted(bucket, later(i)) is bucket
    idempotency_key = after(bucket, failed(), NOON)
    assert not rate_limiting.is_quiet(idempotency_key, NOON)
    well = after(idempotency_key, Receipt(), later(31))
    assert rate_limiting.is_quiet(well, later(31))
    assert after(well, Receipt(), later(32)) == well


@given(st.integers(1, 12), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_pauses_double_up_to_the_longest(times, is_refusal, jitter):
    """Each failed probe doubles the pause, from the first to the longest, a fifth more or less."""
    first, last = rate_limiting.REFUSALS if is_refusal else rate_limiting.PAUSES
    outcome = closing(is_refusal=True) if is_refusal else failed()
    bucket, now = rate_limiting.full(BREAKER, NOON), NOON
    for _ in range(1 if is_refusal else rate_limiting.FAILURES):
        bucket = after(bucket, outcome, now, jitter=jitter)
    for _ in range(times - 1):
        now = bucket.blocked_until
        bucket = granted(bucket, now)
        bucket = after(bucket, outcome, now, claimed_at=bucket.probe_at, jitter=jitter)
    pause = min(first * 2 ** (times - 1), last)
    assert bucket.opened == times
    assert pause * 0.8 <= bucket.blocked_until - now <= pause * 1.2


def _open(outcome=None):
    bucket = rate_limiting.full(BREAKER, NOON)
    for _ in range(rate_limiting.FAILURES):
        bucket = after(bucket, outcome or failed(), NOON)
    return bucket


@pytest.mark.parametrize("bucket", [_open(), _open(closing(is_refusal=True))], ids=["failing", "refused"])
def test_one_probe_at_a_time(bucket):
    """After the pause one probe goes until its outcome or lease end; its success opens the circuit."""
    at = bucket.blocked_until
    probing = granted(bucket, at)
    assert granted(probing, at + timedelta(seconds=1), is_urgent=True) is None
    assert rate_limiting.opens_at(probing, BREAKER, at, is_urgent=True) == at + LEASE
    assert granted(probing, at + LEASE) is not None
    well = after(probing, Receipt(), at + timedelta(seconds=1), claimed_at=at)
    assert rate_limiting.is_quiet(well, at + timedelta(seconds=1))
    assert granted(granted(well, later(9e3)), later(9e3)) is not None


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abcd"))), min_size=1),
    st.sets(st.sampled_from("abcd")),
)
def test_probes_take_turns(sorts, opened):
    """Of the kinds that draw on an open circuit one goes, the one due longest; those that draw on none all
    do.
    """
    buckets = {key: rate_limiting.Bucket(key=key, tokens=1.0, at=NOON, opened=int(key in opened)) for key in "abcd"}
    chosen = rate_limiting.in_turn(
        [(later(due), [RateLimit(key=key) for key in sorted(keys)]) for due, keys in sorts], buckets
    )
    assert chosen
    for i, (due, keys) in enumerate(sorts):
        rivals = [j for j, (_, others) in enumerate(sorts) if j != i and keys & others & opened]
        if i in chosen:
            assert all(sorts[j][0] >= due and j not in chosen for j in rivals)
        elif not rivals:
            raise AssertionError(f"{i} is held back by nobody")


def test_what_an_open_circuit_holds_has_no_wait_of_its_own():
    """A failure leaves the delivery's wait to the open circuit; throttling and failed lookups do not."""
    buckets = [rate_limiting.full(BREAKER, NOON), _open()]
    assert rate_limiting.is_held(buckets, failed())
    assert rate_limiting.is_held(buckets, closing(is_refusal=True))
    for outcome in (
        closing(),
        RetryAt(at=NOON, reason="unreconciled", has_looked=True),
        Receipt(),
        GiveUp(reason="no", is_failure=True),
    ):
        assert not rate_limiting.is_held(buckets, outcome)
    assert not rate_limiting.is_held(buckets[:1], failed())


def test_what_was_under_way_before_says_nothing():
    """Late outcomes of calls from before the opening neither close the circuit nor extend its pause."""
    bucket = _open()
    late = NOON - timedelta(seconds=3)
    for outcome in (failed(), Receipt(), NotArrived(), GiveUp(reason="no")):
        assert after(bucket, outcome, later(1), claimed_at=late) == bucket
    at = bucket.blocked_until
    probing = granted(bucket, at)
    assert after(probing, Receipt(), at, claimed_at=late) == probing


def test_a_probe_that_was_not_sent_lets_another_go():
    """A probe whose delivery was skipped or released decides nothing, and the next call is the probe."""
    bucket = _open()
    at = bucket.blocked_until
    for outcome in (Receipt(skipped="unchanged"), RetryAt(at=NOON, reason="late", is_unsent=True)):
        freed = after(granted(bucket, at), outcome, at, claimed_at=at)
        assert granted(freed, at) is not None
        assert freed.opened == 1


def test_a_probe_that_is_throttled_closes_the_circuit_and_waits():
    """A throttled probe shows that the sink answers: the failures are over, the Retry-After applies."""
    bucket = _open()
    at = bucket.blocked_until
    asked = after(granted(bucket, at), closing(), at, claimed_at=at, wait=30)
    assert (asked.opened, asked.blocked_until) == (0, at + timedelta(seconds=30))


def test_what_expires_counts_as_what_it_was():
    """A delivery given up after a failure counts as a failure of the sink, with its pause for all."""
    bucket = rate_limiting.full(BREAKER, NOON)
    for _ in range(rate_limiting.FAILURES):
        bucket = after(bucket, GiveUp(reason="expired", is_failure=True), NOON)
    assert bucket.opened == 1
    patient = after(
        rate_limiting.full(BREAKER, NOON), GiveUp(reason="expired", closes=(KEY,), until=later(60)), NOON, wait=60
    )
    assert patient.blocked_until == later(60)


def test_a_call_draws_on_all_or_on_none():
    """A call with one closed rate limit draws on none of the others."""
    one, two = RateLimit(key="one", rate=1.0, burst=3.0), RateLimit(key="two", rate=1.0)
    buckets = {}
    first = rate_limiting.draw(buckets, (one, two), NOON, is_urgent=False, lease=LEASE)
    buckets.update(first)
    assert {key: b.tokens for key, b in first.items()} == {"one": 2.0, "two": 0.0}
    assert rate_limiting.draw(buckets, (one, two), NOON, is_urgent=False, lease=LEASE) is None
    assert BucketLevels(buckets, NOON).left((one,), is_urgent=False) == 2
    assert BucketLevels(buckets, NOON).left((one, two), is_urgent=False) == 0
    assert BucketLevels(buckets, NOON).open_at((one, two), is_urgent=False) - later(1) <= timedelta(microseconds=1)


def test_a_clock_that_goes_back_gives_nothing_away():
    """A store's clock that is set back gains no call twice."""
    slow = RateLimit(key=KEY, rate=1.0)
    bucket = granted(rate_limiting.full(slow, later(3600)), later(3600), budget=slow)
    assert granted(bucket, NOON, budget=slow) is None


@pytest.mark.parametrize(
    "more",
    [
        {"rate": 0.0},
        {"rate": -1.0},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"burst": 0.5},
        {"reserve": -1.0},
        {"key": ""},
    ],
    ids=str,
)
def test_a_rate_limit_that_makes_no_sense_is_named(more):
    """Rates, bursts and reserves that would stop a sink for ever or allow everything are refused with the
    reason.
    """
    with pytest.raises(ValueError, match="rate limit"):
        rate_limiting.check(RateLimit(**{"key": KEY, **more}))


def test_the_call_is_derived_from_the_delivery():
    """An unknown delivery is reconciled; a state with a message is edited; all else is posted."""
    assert rate_limiting.call_of("checkpoint", True, True) is SinkCall.RECONCILE
    assert rate_limiting.call_of("state", False, True) is SinkCall.EDIT
    assert [
        rate_limiting.call_of(m, False, r) for m, r in (("state", False), ("checkpoint", True), ("checkpoint", False))
    ] == [SinkCall.POST] * 3


def test_reopened_by_hand_it_is_as_new():
    """A circuit that a person opens forgets why it was closed, and begins with one call, not with a burst."""
    bucket = rate_limiting.reopened(
        after(rate_limiting.full(PACED, NOON), closing(is_refusal=True), NOON, budget=PACED)
    )
    first = granted(bucket, NOON, budget=PACED, is_urgent=True)
    assert granted(first, NOON, budget=PACED, is_urgent=True) is None
    assert (bucket.opened, bucket.blocked_until, bucket.reason) == (0, None, "")
