"""The app's Home lists what needs the person who opens it, and a press in it is judged as in the task's message."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import AuthorizationRules, Found, Lookup, MembersOf, Person, Rule, Ruling
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack import payloads
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.homes import MOST, Homes
from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.responses import SlackAnswered
from spanpost.model.interventions import Verb
from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, Routes
from spanpost.sinks.slack.questions import reader
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.nouns import a_task
from spanpost.text.locales import ENGLISH, Locale, locale
from tests.interactions.store import InteractionStore
from tests.interactions.test_unfurls import Calls
from tests.sinks.slack_limits import validator

URL = "https://agents.example.com"
NOW = datetime.now(UTC)
ALICE = Rule(actions=frozenset({"decide"}), users=("UALICE",))


class Members:
    """Everybody is a member, but the guest; Alice and Bob are in the channel C1, nobody in any other."""

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        if isinstance(lookup, MembersOf):
            return frozenset({"UALICE", "UBOB"} if lookup.id == "C1" else ())
        id = getattr(lookup, "id", "UALICE")
        return Person(id=id, team="T1", name="alice", email=f"{id[1:].lower()}@e.example", is_guest=id == "UGUEST")

    async def forget(self, ruling: Ruling, user: str) -> bool:
        return False


class Place:
    """A workspace. The store has what a test asks in it."""

    def __init__(
        self, *rules: Rule, tenant: str = "default", url: str = URL, style: SlackStyle | None = None,
        words: Locale = ENGLISH, comments: Any = "never",
        routes: tuple[Route, ...] = (),
    ) -> None:  # fmt: skip
        self.store, self.web = InteractionStore(), Calls()
        style = style or SlackStyle()
        table = Routes(sinks=("slack",), routes=routes) if routes else Routes()
        self.interactions = Interactions(
            self.store.reader, self.store.interventions, Members(), AuthorizationRules(rules=rules),
            take=lambda recorded: None, source="slack", tenant=tenant, is_bound=True, reads=reader(style, table),
            speaks=lambda task, channels: words,
        )  # fmt: skip
        self.installation = Installation(
            self.interactions, self.web, "xoxb-1", me=Self(team="T1", bot_user="UBOT", bot="B1")
        )
        conceal: Callable[[Task], Task] = style.of_task
        self.app = SlackApp([self.installation], comments=comments, homes=Homes(url, conceal), conceal=conceal)

    async def send(self, body: dict[str, Any]) -> SlackAnswered:
        answered = await self.app.handle([self.installation], body)
        await self.app.close()
        return answered

    async def open(self, user: str = "UALICE", **more: Any) -> str:
        """Open a Home; return what it shows, as JSON."""
        event = {"type": "app_home_opened", "user": user, "channel": "D1", "tab": "home", "event_ts": "1.5"} | more
        answered = await self.send({"type": "event_callback", "team_id": "T1", "event": event})
        assert answered.word == "home"
        return self.shown(user)

    def shown(self, user: str = "UALICE") -> str:
        method, arguments = next(made for made in reversed(self.web.made) if made[0] == "views.publish")
        assert (method, arguments["user_id"], arguments["view"]["type"]) == ("views.publish", user, "home")
        blocks = arguments["view"]["blocks"]
        validator("Blocks").validate(blocks)
        ids = [block["block_id"] for block in blocks if "block_id" in block]
        assert len(blocks) <= 100
        assert len(set(ids)) == len(ids)
        return json.dumps(blocks, ensure_ascii=False)

    async def press(self, action: str, key: Any, user: str = "UALICE", bot: str = "B1", ts: str = "7.5") -> None:
        await self.send(pressed(action, key, user, bot, ts))


def pressed(action: str, key: Any, user: str = "UALICE", bot: str = "B1", ts: str = "7.5") -> dict[str, Any]:
    return {
        "type": "block_actions",
        "team": {"id": "T1"},
        "user": {"id": user, "team_id": "T1"},
        "container": {"type": "view", "view_id": "V1"},
        "view": {"id": "V1", "type": "home", "bot_id": bot, "team_id": "T1"},
        "trigger_id": "1.2.x",
        "actions": [{"action_id": f"spanpost:{action}", "value": str(key), "action_ts": ts}],
    }


def asks(question: str = "Deploy?", **more: Any) -> Approval:
    return Approval(id="a1", question=question, is_asked=True, **more)


async def test_the_home_lists_what_needs_the_person() -> None:
    """Questions with their buttons, running tasks and failures of the last day of the person, with links to the board;
    nothing of other people, of other days and of ended tasks.
    """
    place = Place(ALICE)
    waiting = a_task("t1", name="Move the shop", status="waiting_for_human")
    key = place.store.ask(waiting, "C1", "1.5", asks())
    ended = a_task("t9", status="complete")
    place.store.ask(ended, "C1", "1.9", asks("Too late?"))
    for n, (id, who, name) in enumerate(
        [("t2", "UALICE", "Mine"), ("t3", "<@UBOB>", "Bob's"), ("t4", "alice@E.example", "By mail")]
    ):
        place.store.ask(a_task(id, name=name, requested_by=who), "C1", f"2.{n}")
    for n, (id, who, name, ago) in enumerate(
        [("t5", "slack:UALICE", "Broken", 1), ("t6", "UALICE", "Old", 30), ("t7", "UBOB", "His", 1)]
    ):
        at = NOW - timedelta(hours=ago)
        failed = a_task(id, name=name, requested_by=who, status="error", ended_at=at)
        place.store.ask(msgspec.structs.replace(failed, error=Failure(type="OSError", message="disk")), "C1", f"3.{n}")
    said = await place.open()
    for word in (
        "Deploy?",
        str(key),
        "Move the shop",
        "Mine",
        "By mail",
        "Broken",
        "OSError: disk",
        "spanpost:approve",
    ):
        assert word in said, word
    for word in ("Too late?", "Bob's", "Old", "His"):
        assert word not in said, word
    assert f"{URL}/board/tasks/{waiting.uid}" in said
    others = await place.open("UBOB")
    assert "Bob's" in others
    assert "His" in others
    assert "Deploy?" not in others
    assert "No question waits for you." in others


async def test_who_may_not_look_gets_the_refusal_alone() -> None:
    """A guest, a person of another workspace, another tenant's question and a `view` rule: nothing is shown."""
    place = Place(ALICE, Rule(actions=frozenset({"decide"}), users=("UGUEST",)))
    place.store.ask(a_task("t1", name="Move the shop", requested_by="UGUEST"), "C1", "1.5", asks())
    for said in (await place.open("UGUEST"), await place.open(user_team="T2")):
        assert "Deploy?" not in said
        assert "Move the shop" not in said
        assert "header" not in said
    elsewhere = Place(ALICE, tenant="other")
    elsewhere.store.ask(a_task("t1", requested_by="UALICE"), "C1", "1.5", asks())
    assert "Deploy?" not in await elsewhere.open()
    ruled = Place(ALICE, Rule(actions=frozenset({"view"}), users=("UBOB",)))
    ruled.store.ask(a_task("t1"), "C1", "1.5", asks())
    assert "Deploy?" not in await ruled.open()
    assert "Deploy?" not in await Place().open()


async def test_here_is_the_channel_of_the_tasks_message() -> None:
    """A rule for `here` lists and grants in the Home what it grants in the task's own message, and no more."""
    place = Place(Rule(actions=frozenset({"decide"}), channels=("here",)))
    one = place.store.ask(a_task("t1"), "C1", "1.5", asks())
    two = place.store.ask(a_task("t2"), "C2", "1.6", asks("Delete?"))
    said = await place.open()
    assert "Deploy?" in said
    assert "Delete?" not in said
    await place.press("approve", one)
    await place.press("approve", two, ts="8.5")
    assert [(row.verb, row.key, row.actor.id) for row in place.store.granted] == [(Verb.APPROVE, one, "UALICE")]
    assert len(place.store.rows) == 2


async def test_a_press_decides_and_shows_the_home_again() -> None:
    """The question is gone from the Home that was just pressed; a repeat of the press decides nothing more."""
    place = Place(ALICE)
    key = place.store.ask(a_task("t1"), "C1", "1.5", asks())
    assert "Deploy?" in await place.open()
    await place.press("approve", key)
    await place.press("approve", key)
    assert [row.verb for row in place.store.rows] == [Verb.APPROVE]
    assert "Deploy?" not in place.shown()
    assert {method for method, _ in place.web.made} == {"views.publish"}


async def test_a_refused_press_is_said_in_the_home() -> None:
    """Without a channel for an ephemeral message, the refusal is the Home's first line, and a row."""
    place = Place(ALICE)
    key = place.store.ask(a_task("t1"), "C1", "1.5", asks())
    await place.press("approve", key, "UBOB")
    [row] = place.store.rows
    assert row.refusal
    first = json.loads(place.shown("UBOB"))[0]
    assert first["text"]["type"] == "mrkdwn"
    assert "UALICE" in first["text"]["text"]
    place.store.is_away = True
    await place.press("approve", key, ts="9.5")
    assert "could not be recorded" in json.loads(place.shown())[0]["text"]["text"]


async def test_a_press_that_is_not_from_our_home_decides_nothing() -> None:
    """Another bot's view, a dialogue, another verb and another tenant's question are refused or not read."""
    place = Place(ALICE, Rule(actions=frozenset({"cancel"}), users=("UALICE",)))
    key = place.store.ask(a_task("t1"), "C1", "1.5", asks())
    await place.press("approve", key, bot="B2")
    await place.press("approve", key, bot="", ts="8.5")
    assert place.store.granted == []
    body = pressed("approve", key)
    assert payloads.click(body, "T1") is not None
    assert payloads.click(body | {"view": body["view"] | {"type": "modal"}}, "T1") is None
    assert payloads.click(body | {"channel": {"id": "C1"}}, "T1") is None
    assert payloads.click(pressed("cancel", key), "T1") is None
    assert payloads.click(pressed("view", key), "T1") is None
    other = Place(ALICE, tenant="other")
    theirs = other.store.ask(a_task("t1"), "C1", "1.5", asks())
    await other.press("approve", theirs)
    assert other.store.granted == []


async def test_a_dialogue_of_the_home_decides_in_the_tasks_place() -> None:
    """A longer question is read in a dialogue that a press opens; its submission decides, and shows the Home."""
    place = Place(Rule(actions=frozenset({"decide"}), channels=("here",)))
    key = place.store.ask(a_task("t1"), "C1", "1.5", asks("Why? " * 300))
    await place.press("read", key)
    method, arguments = place.web.made[-1]
    assert method == "views.open"
    meta = arguments["view"]["private_metadata"]
    assert (json.loads(meta)["c"], json.loads(meta)["h"]) == ("C1", True)
    values = {"choice": {"choice": {"selected_option": {"value": "approve"}}}}
    view = {"id": "V2", "callback_id": arguments["view"]["callback_id"], "private_metadata": meta, "hash": "1"}
    await place.send(
        {
            "type": "view_submission",
            "team": {"id": "T1"},
            "user": {"id": "UALICE", "team_id": "T1"},
            "view": view | {"state": {"values": values}, "type": "modal"},
        }
    )
    assert [row.verb for row in place.store.granted] == [Verb.APPROVE]
    assert place.web.made[-1][0] == "views.publish"


async def test_the_lists_are_bounded() -> None:
    """Ten of each, the newest, with a line that there may be more; without a public address, links to messages."""
    place = Place(ALICE, url="")
    for n in range(3 * MOST):
        at = NOW - timedelta(minutes=n)
        place.store.ask(a_task(f"q{n}"), "C1", f"1.{n}", asks(f"Deploy {n}?"))
        place.store.ask(a_task(f"r{n}", name=f"Runs {n}", requested_by="UALICE", started_at=at), "C1", f"2.{n}")
        failed = a_task(f"f{n}", name=f"Fails {n}", requested_by="UALICE", status="error", ended_at=at)
        place.store.ask(failed, "C1", f"3.{n}")
    said = await place.open()
    assert said.count("spanpost:approve") == said.count("Runs ") == said.count("Fails ") == MOST
    assert "Runs 0" in said
    assert said.count("There may be more.") == 3


async def test_the_home_hides_what_slack_hides() -> None:
    """Without `content`, the arguments of a tool are not in the Home, and the question can only be denied."""
    place = Place(ALICE, style=SlackStyle(shows_content=False))
    place.store.ask(a_task("t1", ask="a secret prompt"), "C1", "1.5", asks(detail='{"card": "4111"}'))
    said = await place.open()
    assert "Deploy?" in said
    assert "4111" not in said
    assert "a secret prompt" not in said
    assert "spanpost:approve" not in said
    assert "spanpost:deny" in said


async def test_the_strictest_route_of_a_task_counts() -> None:
    """What one of two channels hides is not in the Home, although the task's message there is of the other."""
    shows = Route(sink="slack", address="T1/C1", cost_usd=Decimal(0))
    place = Place(ALICE, routes=(shows, Route(sink="slack", address="T1/C2", content=False)))
    place.store.ask(a_task("t1"), "C1", "1.5", asks(detail='{"card": "4111"}', has_id=False))
    said = await place.open()
    assert "Deploy?" in said
    assert "4111" not in said


async def test_the_home_speaks_the_workspaces_language() -> None:
    """Headers and buttons are Korean where the settings say so."""
    place = Place(ALICE, words=locale("ko"))
    place.store.ask(a_task("t1"), "C1", "1.5", asks())
    said = await place.open()
    assert "답할 수 있는 질문" in said
    assert "Questions" not in said


async def test_the_event_is_acknowledged_whatever_becomes_of_it() -> None:
    """A failure of the call is logged; a store that is away is said; the tab *Messages* is nothing to do."""
    place = Place(ALICE)
    place.web.refuses = ["not_enabled"]
    await place.open()
    away = Place(ALICE)
    away.store.is_away = True
    assert "database does not answer" in await away.open()
    event = {"type": "app_home_opened", "user": "UALICE", "tab": "messages"}
    answered = await place.send({"type": "event_callback", "team_id": "T1", "event": event})
    assert (answered.status, answered.word) == (200, "ignored")


@pytest.mark.slow
@pytest.mark.parametrize("read", [payloads.opened_home, payloads.click])
@given(st.recursive(st.none() | st.booleans() | st.text() | st.floats(), lambda v: st.lists(v) | st.dictionaries(
    st.sampled_from(["type", "user", "id", "tab", "event", "view", "container", "actions", "bot_id"]), v)))  # fmt: skip
def test_any_payload_is_read(read: Callable[..., Any], body: Any) -> None:
    """A payload of any shape is read or not, and raises nothing."""
    read({"event": body}, "T1")
    read(pressed("approve", "x") | {"view": body, "container": {"type": "view"}}, "T1")
    read(body if isinstance(body, dict) else {}, "T1")
