"""Faults of Slack: down, throttling, losing answers."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.world import World


class OfSlack(Fault):
    """A share of Slack's calls that fail; no gateway's answers are touched."""

    part, lasts = "slack", (3.0, 12.0)
    odds: ClassVar[dict[str, float]]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []

    @classmethod
    def why_not(cls, world: World) -> str:
        return "Slack is down from the start" if world.slack_down else ""

    def strike(self, world: World) -> None:
        world.tell_slack(do="odds", odds=dict.fromkeys(("posts", "updates", "lookups"), self.odds))

    def lift(self, world: World) -> None:
        world.tell_slack(do="clear_faults")


@dealt
class SlackDown(OfSlack):
    """Each call is reset before it acts."""

    name, tries, odds = "Slack down", ("delivered", "slack-down"), {"reset before": 1.0}


@dealt
class SlackThrottles(OfSlack):
    """Half of the calls are answered 429 with `Retry-After`."""

    name, tries, odds = "Slack throttles", ("one-message", "slack-throttles"), {"throttle": 0.5}


@dealt
class SlackAnswersLost(OfSlack):
    """Calls act, and their answer is a reset, a 500 or none at all."""

    name, tries = "Slack loses answers", ("one-message", "slack-answer-lost")
    odds: ClassVar[dict[str, float]] = {"reset after": 0.2, "500 after": 0.2, "hang after": 0.1}


@dealt
class SlackLies(OfSlack):
    """Calls act, and the answer is `internal_error`, a page of HTML, half a JSON or a list; posts are found late."""

    name, tries = "Slack lies", ("one-message", "slack-answer-lost")
    odds: ClassVar[dict[str, float]] = {
        "internal_error after": 0.15,
        "HTML after": 0.15,
        "torn JSON after": 0.1,
        "list after": 0.1,
    }
