"""Rate limits of calls to Slack.

Slack limits each method per app and workspace (docs.slack.dev/apis/web-api/rate-limits, 2026-08).
`chat.update` and `conversations.history` are Tier 3, 50 or more a minute. `chat.postMessage` is special:
about one a second per channel with short bursts, and "several hundred" a minute in the workspace. Spanpost
stays below these; each limit is a setting.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanpost.model.deliveries import RateLimit, SinkCall
from spanpost.sinks.slack.calls import SlackPlace

POST, EDIT, RECONCILE = "chat.postMessage", "chat.update", "conversations.history"
DELETE = "chat.delete"


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Allowed calls per minute."""

    #: `chat.update` in the workspace: nine tenths of Tier 3.
    edits_per_minute: float = 45.0
    #: `chat.delete` in the workspace: nine tenths of Tier 3.
    deletions_per_minute: float = 45.0
    #: `chat.postMessage` in the workspace: about half of "several hundred"; Slack gives no exact figure.
    posts_per_minute: float = 180.0
    #: `chat.postMessage` in one channel.
    posts_per_channel_per_minute: float = 60.0
    #: `conversations.history` in the workspace: half of Tier 3, because one lookup may read several pages.
    lookups_per_minute: float = 25.0


def rate_limits(place: SlackPlace, call: SinkCall, rates: Rates) -> tuple[RateLimit, ...]:
    """Return the rate limits of a call, the widest first."""
    whole = RateLimit(key=place.whole, is_breaker=True)
    channel = RateLimit(key=place.address)
    match call:
        case SinkCall.POST:
            return (
                whole,
                RateLimit(key=place.method(POST), rate=rates.posts_per_minute / 60, burst=12, reserve=3),
                channel,
                RateLimit(
                    key=f"{place.address}:{POST}", rate=rates.posts_per_channel_per_minute / 60, burst=5, reserve=2
                ),
            )
        case SinkCall.EDIT:
            return (
                whole,
                RateLimit(key=place.method(EDIT), rate=rates.edits_per_minute / 60, burst=8, reserve=2),
                channel,
            )
        case SinkCall.DELETE:
            return (
                whole,
                RateLimit(key=place.method(DELETE), rate=rates.deletions_per_minute / 60, burst=8),
                channel,
            )
        case SinkCall.RECONCILE:
            return (
                whole,
                RateLimit(key=place.method(RECONCILE), rate=rates.lookups_per_minute / 60, burst=5, reserve=1),
                channel,
            )
