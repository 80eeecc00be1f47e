"""Links to tasks on the board become cards, for those who may see the task, and nothing else becomes one."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import AuthorizationRules, Found, Lookup, Person, Rule, Ruling
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.unfurls import MOST, Unfurls, shared_links
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.model.tasks import Task
from spanpost.testing.nouns import NOON, a_task
from tests.interactions.store import InteractionStore

URL = "https://agents.example.com"
RUNNING = a_task(
    name="Move the shop", ask="a secret prompt", requested_by="mina", last_checkpoint="Copied 3 of 4 tables"
)


class Members:
    """Everybody is a member of the workspace, but the guest."""

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        id = getattr(lookup, "id", "U1")
        return Person(id=id, team="T1", name="alice", is_guest=id == "UGUEST")

    async def forget(self, ruling: Ruling, user: str) -> bool:
        return False


class Calls(Web):
    """Keeps the calls. `refuses`: errors of the next calls."""

    def __init__(self) -> None:
        super().__init__("xoxb-1", base_url="http://127.0.0.1:9/api/")
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.refuses: list[str] = []

    async def call(self, method: str, *, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        self.made.append((method, arguments))
        if self.refuses:
            raise Trouble(self.refuses.pop(0))
        return {"ok": True}


class Place:
    """A workspace with one task, whose message is in C1."""

    def __init__(self, *rules: Rule, task: Task = RUNNING, unfurls: Unfurls | None = None) -> None:
        self.store, self.web = InteractionStore(), Calls()
        self.store.ask(task, "C1", "1.5")
        interactions = Interactions(
            self.store.reader, self.store.interventions, Members(), AuthorizationRules(rules=rules),
            take=lambda recorded: None, source="slack", tenant="default", is_bound=True,
        )  # fmt: skip
        self.installation = Installation(interactions, self.web, "xoxb-1", me=Self(team="T1", bot_user="UBOT"))
        self.unfurls = unfurls or Unfurls(URL, lambda one: one)
        self.app = SlackApp([self.installation], unfurls=self.unfurls)
        self.posted = 0

    async def post(self, *links: str, channel: str = "C1", user: str = "U01", **more: Any) -> dict[str, Any]:
        """Post links; return the cards by link."""
        event = {"type": "link_shared", "user": user, "channel": channel, "message_ts": f"{self.posted}.5"}
        self.posted += 1
        event |= {"links": [{"domain": "agents.example.com", "url": link} for link in links]}
        await self.unfurls.hear(self.installation, {"event": event} | more, "T1")
        return next((found["unfurls"] for method, found in self.web.made[-1:] if method == "chat.unfurl"), {})


def link(task: Task = RUNNING) -> str:
    return f"{URL}/board/tasks/{task.uid}"


async def test_a_link_to_a_task_becomes_its_card() -> None:
    """The card is what the task's message says: its name, its last words; without content, buttons and mentions."""
    place = Place()
    [(url, card)] = (await place.post(f"{link()}?at=14:03#t")).items()
    said = json.dumps(card, ensure_ascii=False)
    assert url == f"{link()}?at=14:03#t"
    assert "Move the shop" in said
    assert "Copied 3 of 4 tables" in said
    assert "a secret prompt" not in said
    assert "spanpost:" not in said
    assert card["color"].startswith("#")
    method, arguments = place.web.made[-1]
    assert (method, arguments["channel"], arguments["ts"]) == ("chat.unfurl", "C1", "0.5")


@pytest.mark.parametrize(
    "url",
    [
        "https://agents.example.com.evil.example/board/tasks/{uid}", "https://evil.example/board/tasks/{uid}",
        "http://agents.example.com/board/tasks/{uid}", "https://agents.example.com@evil.example/board/tasks/{uid}",
        "https://agents.example.com/api/tasks/{uid}", "https://agents.example.com/board/tasks/{uid}/x",
        "https://agents.example.com/board/tasks/../tasks/{uid}", "https://agents.example.com/board/tasks/",
        "https://agents.example.com/board/tasks/00000000-0000-0000-0000-000000000001", "",
    ],
)  # fmt: skip
async def test_any_other_link_stays_a_link(url: str) -> None:
    """Another host, another page and an unknown task get no call at all."""
    place = Place()
    assert await place.post(url.format(uid=RUNNING.uid)) == {}
    assert place.web.made == []


async def test_only_who_may_see_the_task_gets_a_card() -> None:
    """No card: another tenant's task, a guest, a foreign user, a shared channel, a draft, a rule that refuses."""
    assert await Place(task=msgspec.structs.replace(RUNNING, tenant="other")).post(link()) == {}
    place = Place()
    assert await place.post(link(), user="UGUEST") == {}
    assert await place.post(link(), is_ext_shared_channel=True) == {}
    assert await place.post(link(), channel="COMPOSER") == {}
    assert await place.post(link()) != {}
    ruled = Place(Rule(actions=frozenset({"view"}), users=("U02",)))
    assert await ruled.post(link(), user="U01") == {}
    assert await ruled.post(link(), user="U02", channel="C2") == {}
    assert await ruled.post(link(), user="U02") != {}


async def test_the_links_of_a_message_are_bounded_and_shown_once() -> None:
    """The first five tasks of a message have cards; the same event again has none; blocks that Slack refuses are
    drawn plain.
    """
    place = Place()
    more = [a_task(f"t{i}", started_at=NOON - timedelta(minutes=i)) for i in range(2 * MOST)]
    for one in more:
        place.store.ask(one, "C1", f"{one.task_id[1:]}.7")
    event = {"type": "link_shared", "user": "U01", "channel": "C1", "message_ts": "9.5"}
    body = {"event": event | {"links": [{"url": link(one)} for one in more]}}
    place.web.refuses = ["invalid_blocks"]
    await place.unfurls.hear(place.installation, body, "T1")
    await place.unfurls.hear(place.installation, body, "T1")
    rich, plain = [arguments["unfurls"] for _, arguments in place.web.made]
    assert len(rich) == len(plain) == MOST
    assert "rich_text" in json.dumps(rich)
    assert "rich_text" not in json.dumps(plain)


async def test_the_event_is_acknowledged_whatever_becomes_of_it() -> None:
    """Slack's event is answered at once; a failure of the call or of the store is logged, and no more."""
    place = Place()
    event = {"type": "link_shared", "user": "U01", "channel": "C1", "message_ts": "3.5", "links": [{"url": link()}]}
    body = {"type": "event_callback", "team_id": "T1", "event": event}
    place.web.refuses = ["missing_scope"]
    answered = await place.app.handle([place.installation], body)
    assert (answered.status, answered.word) == (200, "links")
    await place.app.close()
    assert [method for method, _ in place.web.made] == ["chat.unfurl"]
    away = Place()
    away.store.is_away = True
    assert (await away.app.handle([away.installation], body)).status == 200
    await away.app.close()
    assert away.web.made == []


@pytest.mark.slow
@given(st.recursive(st.none() | st.booleans() | st.text() | st.floats(), lambda v: st.lists(v) | st.dictionaries(
    st.sampled_from(["type", "user", "channel", "message_ts", "links", "url", "source"]), v)))  # fmt: skip
def test_any_event_is_read(event: Any) -> None:
    """An event of any shape is links or none, and raises nothing."""
    shared_links({"event": event}, "T1")
    shared_links(
        {"event": {"type": "link_shared", "user": "U01", "channel": "C1", "message_ts": "1.5", "links": event}}, "T1"
    )
