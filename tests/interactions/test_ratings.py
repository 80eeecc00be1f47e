"""A person rates a finished task in Slack: one press, or a press and a comment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from spanpost.interactions.slack.decisions import Comments
from spanpost.interactions.slack.payloads import grammar
from spanpost.model.evaluations import Evaluation
from spanpost.model.interventions import Verb
from spanpost.model.readings import Artifact
from spanpost.model.tasks import Task
from spanpost.sinks.slack.render import Style, root
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.nouns import a_task
from spanpost.text.locales import LOCALES
from tests.interactions.test_decisions import Slack, checked
from tests.sinks.slack_limits import nodes


class RatedSlack(Slack):
    """A finished task in a message, and Alice, who may rate it."""

    def __init__(self, *, comments: Comments = "deny", actions: frozenset[str] = frozenset({"rate"})) -> None:
        super().__init__("Deploy?", comments=comments, actions=actions)
        self.key = self.interaction_store.ask(a_task(status="complete"), "C1", "1.5")

    @property
    def ratings(self) -> list[tuple[str, str]]:
        """Return the granted ratings with their comments."""
        return [(row.option, row.text) for row in self.interaction_store.granted if row.verb is Verb.RATE]


async def test_a_good_rating_is_one_press() -> None:
    """👍 is recorded at once, without a dialogue."""
    slack = RatedSlack()
    assert await slack.press("rate:1") is None
    assert slack.ratings == [("up", "")]


async def test_a_bad_rating_asks_for_a_comment() -> None:
    """👎 opens a dialogue and records nothing; the dialogue records the rating, with or without a comment."""
    slack = RatedSlack()
    for comment in ("the wrong <file>", ""):
        view = await slack.press("rate:0")
        assert view is not None
        assert checked(view)["title"]["text"] == "Rate this 👎"
        assert await slack.send(view, comment=comment) == ""
    assert slack.ratings == [("down", "the wrong <file>"), ("down", "")]


@pytest.mark.parametrize(("comments", "opens"), [("always", [0, 1]), ("never", [])])
async def test_the_setting_decides_which_ratings_ask(comments: Comments, opens: list[int]) -> None:
    """`interactions.comments` decides for ratings as for decisions whether a comment is asked for."""
    slack = RatedSlack(comments=comments)
    assert [n for n in (0, 1) if await slack.press(f"rate:{n}") is not None] == opens


async def test_a_person_without_the_right_is_refused_before_the_dialogue() -> None:
    """A person who may not rate gets no dialogue, and the refusal is recorded."""
    slack = RatedSlack(actions=frozenset({"cancel"}))
    assert await slack.press("rate:0") is None
    assert await slack.press("rate:1") is None
    assert slack.ratings == []
    assert [row.verb for row in slack.interaction_store.rows] == [Verb.RATE, Verb.RATE]


@pytest.mark.parametrize("action", ["rate", "rate:2", "rate:-1", "rate:x", "rate:1:1"])
def test_no_other_button_is_a_rating(action: str) -> None:
    """An action id that names no rating is unreadable."""
    assert grammar(f"spanpost:{action}", "7" * 32) is None


@pytest.mark.parametrize("style", list(Style))
def test_a_finished_message_shows_its_ratings(style: Style) -> None:
    """A finished task offers both ratings, and shows those given and evaluators' results on one line."""
    given: list[Evaluation] = [
        Evaluation(name="person_rating", score=1.0, label="up", is_person=True, by_id="a"),
        Evaluation(name="person_rating", score=0.0, label="down", is_person=True, by_id="b"),
        Evaluation(name="person_rating", score=1.0, label="up", is_person=True, by_id="b"),
        Evaluation(name="faithful\n✅ approved", score=0.25, label="fail", subject="r1"),
        Evaluation(name="person_rating", score=1.0, label="up", subject="r2"),
    ]
    task = a_task(status="complete", evaluations=tuple(given))
    message = root(task, key="k", style=style, slack_style=SlackStyle(is_interactive=True))
    said = str(message.arguments())
    assert "👍 1  👎 1" in said
    assert "faithful ✅ approved 0.25 (fail)" in said
    assert "person_rating 1 (up)" in said
    ids = [node["action_id"] for node in buttons(message.attachments)]
    assert ids == ["spanpost:rate:1", "spanpost:rate:0"]
    assert buttons(root(a_task(status="working"), key="k", slack_style=SlackStyle()).attachments) == []


def buttons(drawn: Any) -> list[dict[str, Any]]:
    """Return the rating buttons."""
    return [node for node in nodes(drawn) if str(node.get("action_id", "")).startswith("spanpost:rate")]


@pytest.mark.parametrize("style", list(Style))
def test_a_finished_message_says_what_its_pull_requests_cost(style: Style) -> None:
    """A finished task shows the cost of its pull requests with its sub-agents' cost; a running one does not."""
    made = tuple(Artifact(name="PR", uri=f"https://x.example/{n}", kind="pr") for n in (1, 2))
    child = a_task("reviewer", cost_usd=Decimal("0.43"), artifacts=made[1:])

    def said(task: Task, children: tuple[Task, ...], language: str = "en") -> str:
        slack_style = SlackStyle(locale=LOCALES[language])
        return str(root(task, children, key="k", style=style, slack_style=slack_style).arguments())

    task = a_task(status="complete", cost_usd=Decimal("1.00"), artifacts=made[:1])
    assert "2 pull requests, $1.43 ($0.72 each)" in said(task, (child,))
    assert "1 pull request, $1.00" in said(task, ())
    assert "풀 리퀘스트 2개, 비용 $1.43 (각 $0.72)" in said(task, (child,), "ko")
    assert "pull request" not in said(replace(task, status="working"), (child,))
    assert "pull request" not in said(replace(task, cost_usd=None), ())
