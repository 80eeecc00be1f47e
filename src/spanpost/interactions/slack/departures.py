"""Removal of the app from a workspace, or revocation of its token there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spanpost.interactions.slack.guard import SlackRefused
from spanpost.interactions.slack.installations import App, Everywhere, is_meant
from spanpost.interactions.slack.payloads import team_of
from spanpost.interactions.slack.responses import SlackAnswered


async def departed(candidates: Sequence[App], body: dict[str, Any], why: str, at: float | None) -> SlackAnswered:
    """Delete the installation.

    Raises `SlackRefused`, `Trouble` and `StoreUnavailable`: Slack sends the event again.
    """
    meant = [one for one in candidates if is_meant(one, body)]
    if not meant:
        raise SlackRefused(401, "app")
    team, _ = team_of(body)
    for one in meant:
        if team and isinstance(one, Everywhere) and await one.finds.gone(team, why, at):
            return SlackAnswered(status=200, word="departure")
    return SlackAnswered(status=200, word="ignored")
