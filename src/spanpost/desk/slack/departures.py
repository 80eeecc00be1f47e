"""An app leaves a workspace: somebody removed it there, or revoked its token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spanpost.desk.slack.answering import Answered
from spanpost.desk.slack.guard import Refused
from spanpost.desk.slack.installations import App, Everywhere
from spanpost.desk.slack.payloads import team_of


async def departed(candidates: Sequence[App], body: dict[str, Any], why: str, at: float | None) -> Answered:
    """Let go of what was installed. Raises `Refused`, `Trouble` and `LedgerUnavailable`: Slack brings it again."""
    meant = [one for one in candidates if one.is_app_of(body)]
    if not meant:
        raise Refused(401, "app")
    team, _ = team_of(body)
    for one in meant:
        if team and isinstance(one, Everywhere) and await one.finds.gone(team, why, at):
            return Answered(status=200, word="departure")
    return Answered(status=200, word="ignored")
