"""The rate of calls to Slack: below its limits, by keys that its answers close."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.deliveries import SinkCall
from spanpost.routing import rate_limiting
from spanpost.sinks.slack.calls import SlackPlace
from spanpost.sinks.slack.rates import Rates, rate_limits
from spanpost.testing.fake_slack import TIERS, Tiers
from spanpost.testing.nouns import NOON

METHOD = {
    SinkCall.POST: "chat.postMessage",
    SinkCall.EDIT: "chat.update",
    SinkCall.RECONCILE: "conversations.history",
    SinkCall.DELETE: "chat.delete",
}
LEASE = timedelta(seconds=60)


@pytest.mark.proves("retry-after")
@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from(SinkCall), st.integers(0, 2), st.booleans()),
        min_size=20,
        max_size=400,
    )
)
def test_our_rates_never_reach_slacks_limits(wishes):
    """Any wishes at any time, urgent or not: the calls that our rate limits grant stay below Slack's tiers."""
    now, buckets = NOON, {}
    tiers = Tiers(TIERS, lambda: now.timestamp())
    for wait, call, channel, is_urgent in wishes:
        now += timedelta(seconds=wait if wait > 4 else 0)  # mostly bursts
        drawn = rate_limiting.draw(
            buckets,
            rate_limits(SlackPlace(channel=f"#c{channel}"), call, Rates()),
            now,
            is_urgent=is_urgent,
            lease=LEASE,
        )
        if drawn is not None:
            buckets |= drawn
            assert tiers.refuse(METHOD[call], f"#c{channel}") is None


def test_a_minute_at_full_speed():
    """At full load for ten minutes edits stay at nine tenths of Slack's tier, and posts at one a second."""
    for call, most in ((SinkCall.EDIT, 45 * 10 + 8), (SinkCall.POST, 60 * 10 + 5), (SinkCall.RECONCILE, 25 * 10 + 5)):
        now, buckets, granted = NOON, {}, 0
        for _ in range(6_000):
            now += timedelta(seconds=0.1)
            drawn = rate_limiting.draw(
                buckets, rate_limits(SlackPlace(channel="#a"), call, Rates()), now, is_urgent=True, lease=LEASE
            )
            granted += drawn is not None
            buckets |= drawn or {}
        assert most - 2 <= granted <= most


@pytest.mark.parametrize("call", SinkCall)
def test_channels_and_methods_are_apart(call):
    """Each call draws on the workspace, which has the breaker, then on its method, then on its channel."""
    first, second = (rate_limits(SlackPlace(channel=channel), call, Rates()) for channel in ("#a", "#b"))
    assert [b.key for b in first if b.is_breaker] == [first[0].key] == ["slack:default"]
    shared = {b.key for b in first} & {b.key for b in second}
    assert shared == {"slack:default", f"slack:default:{METHOD[call]}"}
    for other, rate_limit in itertools.product(SinkCall, first):
        same = [b for b in rate_limits(SlackPlace(channel="#a"), other, Rates()) if b.key == rate_limit.key]
        assert all(b == rate_limit for b in same)  # a key means one thing
