"""People according to Slack's Web API: cached for a while, read anew after a refusal, and never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from spanpost.interactions.authorization import (
    Ask,
    AuthorizationRules,
    Failed,
    MembersOf,
    Person,
    PersonOf,
    Rule,
    Ruling,
)
from spanpost.interactions.protocols import Answer, Asked, PersonMessage, Question
from spanpost.interactions.slack.check import of_rules, wanted
from spanpost.interactions.slack.people import ANEW, SlackPeople
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.testing.nouns import a_task

PLACE = PersonMessage(team="T1", channel="C1", ts="1.2")
QUESTION = ("approve", Asked(key=uuid4(), task=a_task()))
ALICE = {
    "id": "UALICE",
    "team_id": "T1",
    "name": "alice",
    "profile": {"email": "alice@acme.example", "display_name": "Alice"},
}


class Api:
    """A Web API with scripted answers by method; a list is answered page by page. `asked` counts."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.url = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.asked.append(method)
        self.tokens.append(request.headers["authorization"])
        await self.gate.wait()
        answer = self.answers.get(method, {"ok": False, "error": "missing_scope", "needed": "users:read"})
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        return web.json_response(answer)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made, app = Api(), web.Application()
    app.router.add_route("*", "/api/{method}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/api/"
    yield made
    made.gate.set()
    await runner.cleanup()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def people(api: Api) -> AsyncIterator[tuple[SlackPeople, Clock]]:
    clock, calls = Clock(), Web("xoxb-secret-1", base_url=api.url)
    yield SlackPeople(calls, clock=clock, resolvers=RESOLVERS), clock
    await calls.close()


async def _never(question: Question) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


async def _raises(question: Question) -> Answer:
    raise RuntimeError("xoxb-secret-1 of the provider")


async def _odd(question: Question) -> Any:
    return True


async def _alice(question: Question) -> Answer:
    return Answer(is_allowed=question.actor.email == "alice@acme.example" and question.action == "approve")


RESOLVERS = {"never": _never, "raises": _raises, "odd": _odd, "alice": _alice}


async def test_a_person_is_asked_for_once(api: Api, people: tuple[SlackPeople, Clock]) -> None:
    """For any number of concurrent requests Slack is asked once, and again after five minutes."""
    them, clock = people
    api.answers["users.info"] = {"ok": True, "user": ALICE}
    found = await asyncio.gather(*(them.lookup(PersonOf("UALICE"), PLACE, QUESTION) for _ in range(10)))
    assert found == [Person(id="UALICE", team="T1", name="Alice", email="alice@acme.example")] * 10
    clock.now += 299
    await them.lookup(PersonOf("UALICE"), PLACE, QUESTION)
    assert api.asked == ["users.info"]
    clock.now += 2
    await them.lookup(PersonOf("UALICE"), PLACE, QUESTION)
    assert api.asked == ["users.info"] * 2


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ({"deleted": True}, "is_gone"),
        ({"is_bot": True}, "is_bot"),
        ({"is_workflow_bot": True}, "is_bot"),
        ({"is_restricted": True}, "is_guest"),
        ({"is_ultra_restricted": True}, "is_guest"),
        ({"is_stranger": True}, "is_stranger"),
    ],
)
async def test_what_slack_says_of_people(
    api: Api, people: tuple[SlackPeople, Clock], field: dict[str, Any], flag: str
) -> None:
    """Each of Slack's words for an unauthorized person is read."""
    api.answers["users.info"] = {"ok": True, "user": ALICE | field}
    found = await people[0].lookup(PersonOf("UALICE"), PLACE, QUESTION)
    assert isinstance(found, Person)
    assert getattr(found, flag) is True


async def test_an_address_must_be_confirmed_and_a_home_must_be_here(
    api: Api, people: tuple[SlackPeople, Clock]
) -> None:
    """An unconfirmed address does not count; organisation members of this workspace belong to it."""
    api.answers["users.info"] = [
        {"ok": True, "user": ALICE | {"is_email_confirmed": False}},
        {"ok": True, "user": ALICE | {"id": "U2", "team_id": "T2"}},
        {"ok": True, "user": ALICE | {"id": "U3", "team_id": "T2", "enterprise_user": {"teams": ["T2", "T1"]}}},
    ]
    found = [await people[0].lookup(PersonOf(user), PLACE, QUESTION) for user in ("UALICE", "U2", "U3")]
    assert [(one.email, one.team) for one in found if isinstance(one, Person)] == [
        ("", "T1"),
        ("alice@acme.example", "T2"),
        ("alice@acme.example", "T1"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": False, "error": "missing_scope", "needed": "users:read"},
        {"ok": True},
        {"ok": True, "user": None},
        {"ok": True, "user": ALICE | {"id": "UMALLORY"}},
        {"ok": True, "user": {"id": "UALICE", "profile": 5}},
        b"<html>",
        b"[]",
        b"\xff",
    ],
)
async def test_an_answer_that_is_none_lets_nobody_through(
    api: Api, people: tuple[SlackPeople, Clock], answer: Any
) -> None:
    """Errors and nonsense are failures, and never a person; no error has the token."""
    api.answers["users.info"] = answer
    found = await people[0].lookup(PersonOf("UALICE"), PLACE, QUESTION)
    assert isinstance(found, Failed)
    assert "xoxb" not in found.reason


async def test_groups_and_channels(api: Api, people: tuple[SlackPeople, Clock]) -> None:
    """User groups need one call, channels are read page by page."""
    api.answers["usergroups.users.list"] = {"ok": True, "users": ["U1", "U2"]}
    api.answers["conversations.members"] = [
        {"ok": True, "members": ["U1"], "response_metadata": {"next_cursor": "more"}},
        {"ok": True, "members": ["U3"], "response_metadata": {"next_cursor": ""}},
    ]
    assert await people[0].lookup(MembersOf("S1", True), PLACE, QUESTION) == {"U1", "U2"}
    assert await people[0].lookup(MembersOf("C1", False), PLACE, QUESTION) == {"U1", "U3"}
    assert isinstance(await people[0].lookup(MembersOf("C2", False), PLACE, QUESTION), Failed)


async def test_a_refusal_is_looked_up_again(api: Api, people: tuple[SlackPeople, Clock]) -> None:
    """A new group member is known before five minutes pass; a fresh refusal is not looked up at once."""
    them, clock = people
    api.answers["usergroups.users.list"] = {"ok": True, "users": []}
    await them.lookup(MembersOf("S1", True), PLACE, QUESTION)
    refusal = Ruling(refusal="no", who=(("group", "S1"),))
    assert not await them.forget(refusal, "UALICE")
    clock.now += ANEW + 1
    assert await them.forget(refusal, "UALICE")
    api.answers["usergroups.users.list"] = {"ok": True, "users": ["UALICE"]}
    assert await them.lookup(MembersOf("S1", True), PLACE, QUESTION) == {"UALICE"}


@pytest.mark.slow
async def test_a_slack_that_does_not_answer(api: Api, people: tuple[SlackPeople, Clock]) -> None:
    """A Slack that does not answer within the time for a click is a failure, with the reason."""
    api.gate.clear()
    found = await people[0].lookup(PersonOf("UALICE"), PLACE, QUESTION)
    assert isinstance(found, Failed)
    assert "no answer" in found.reason


@pytest.mark.slow
async def test_resolvers(people: tuple[SlackPeople, Clock]) -> None:
    """A plugin's answer counts; a plugin that raises, hangs, answers badly or is missing admits nobody."""
    alice = Person(id="UALICE", team="T1", email="alice@acme.example")

    async def ask(name: str) -> Any:
        return await people[0].lookup(Ask(name, alice), PLACE, QUESTION)

    assert await ask("alice") == Answer(is_allowed=True)
    failures = await asyncio.gather(*(ask(name) for name in ("never", "raises", "odd", "missing")))
    assert all(isinstance(found, Failed) and "xoxb" not in found.reason for found in failures)


async def test_each_call_bears_its_token(api: Api) -> None:
    """Each call has the bot's token, unless another is needed."""
    api.answers = {"auth.test": {"ok": True}, "apps.connections.open": {"ok": True}}
    calls = Web("xoxb-1", base_url=api.url)
    await calls.call("auth.test")
    await calls.call("apps.connections.open", token="xapp-1")
    assert api.tokens == ["Bearer xoxb-1", "Bearer xapp-1"]
    await calls.close()


async def test_nothing_of_a_call_is_in_its_trouble() -> None:
    """An error of an unreachable server, and of a redirect, has neither address nor token."""
    calls = Web("xoxb-secret-1", base_url="http://127.0.0.1:9/secret-path/")
    with pytest.raises(Trouble) as caught:
        await calls.call("users.info", user="U1")
    assert "secret" not in str(caught.value)
    assert not await calls.respond("http://127.0.0.1:9/secret-path/", "told")
    await calls.close()


def test_scopes_follow_from_what_is_set() -> None:
    """Each scope is wanted for what needs it, and for nothing else."""
    least = wanted(
        AuthorizationRules(rules=(Rule(actions=frozenset({"cancel"}), users=("U1",)),)),
        hears_replies=False,
        joins=False,
        unfurls=False,
    )
    assert set(least) == {"chat:write", "users:read", "commands", "app_mentions:read"}
    rule = Rule(actions=frozenset({"cancel"}), groups=("S1",), channels=("here",), emails=("a@b.example",))
    most = set(wanted(AuthorizationRules(rules=(rule,)), hears_replies=True, joins=True, unfurls=True))
    assert most - set(least) == {
        *(
            "usergroups:read",
            "users:read.email",
            "channels:read",
            "groups:read",
            "channels:history",
            "groups:history",
            "channels:join",
            "links:read",
            "links:write",
        ),
    }


def test_rules_are_checked() -> None:
    """A set without rules is a fault; an action that nobody may do, and a rule without people, are reported."""
    assert [seen.ok for seen in of_rules(AuthorizationRules())] == [False]
    (lacks, nobody) = of_rules(AuthorizationRules(rules=(Rule(actions=frozenset({"decide"})),)))
    assert "cancel" in lacks.found
    assert "approve" not in lacks.found
    assert "rule 1 names no people" in nobody.found
