"""`/slack/events`: any bytes get an answer below 500, and only Slack's fresh signed requests act, once."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http.routing import HttpRouter
from spanpost.http.server import HttpServer, listen
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import AuthorizationRules, Found, Lookup, Person, Rule, Ruling
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack import guard
from spanpost.interactions.slack.announcements import Announcements
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.http import SlackHttp
from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.payloads import click, grammar
from spanpost.interactions.slack.web import Web, leads_to_slack
from spanpost.model.readings import Approval
from spanpost.model.standing_approvals import Scope
from spanpost.runtime.interactions import InteractionsRuntime
from spanpost.settings import load
from spanpost.testing.nouns import a_task
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import (
    ALICE,
    BOT,
    BOT_TOKEN,
    CHANNEL,
    SECRET,
    LocalSlack,
    run_local_slack,
)
from tests.interactions.store import InteractionStore

NOW = 1_800_000_000
TEAM = "T1"


class Alice:
    """Knows one person."""

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        return Person(id="UALICE", team=TEAM, name="alice")

    async def forget(self, ruling: Ruling, user: str) -> bool:
        return False


class Knock:
    """An endpoint with two apps, without any network. `counted` has the counts."""

    def __init__(self, announcements: Announcements | None = None) -> None:
        self.interaction_store = InteractionStore()
        self.counted: list[str] = []
        rules = AuthorizationRules(rules=(Rule(actions=frozenset({"decide"}), users=("UALICE",)),))
        self.key: UUID = self.interaction_store.ask(a_task(), "C1", "1.5", Approval(id="a"))
        made = []
        for team, secrets, app in ((TEAM, ("new", "old"), "A1"), ("T2", ("second",), "")):
            interactions = Interactions(
                self.interaction_store.reader,
                self.interaction_store.interventions,
                Alice(),
                rules,
                take=lambda recorded: None,
                source="slack",
                tenant="default",
            )
            one = Installation(
                interactions, Web("xoxb-1", base_url="http://127.0.0.1:9/api/"), "xoxb-1", secrets=secrets, app_id=app
            )
            one._self = Self(team=team, bot_user="UBOT")
            made.append(one)
        self.app = SlackApp(made, announcements=announcements)
        self.http = HttpRouter(SlackHttp(self.app, self.interaction_store, watch=self, clock=lambda: NOW).routes)

    def knocked(self, endpoint: str, answer: str) -> None:
        self.counted.append(answer)

    def intervened(self, verb: str, result: str, source: str) -> None: ...

    async def __call__(
        self, body: bytes, headers: list[tuple[bytes, bytes]], method: str = "POST"
    ) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.http({"type": "http", "method": method, "headers": headers, "path": "/slack/events"}, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def signed(self, body: bytes, secret: str = "new", at: int = NOW, kind: bytes = b"application/json") -> int:
        return (await self(body, sign(body, secret, at, kind)))[0]

    def click(self, **more: Any) -> dict[str, Any]:
        """Return a good click."""
        action = {
            "action_id": "spanpost:approve",
            "value": str(self.key),
            "type": "button",
            "action_ts": "2.5",
            "block_id": "b",
        }
        payload = {
            "type": "block_actions",
            "api_app_id": "A1",
            "team": {"id": TEAM},
            "user": {"id": "UALICE", "team_id": TEAM},
        }
        return (
            payload
            | {"container": {"type": "message", "message_ts": "1.5", "channel_id": "C1"}, "actions": [action]}
            | more
        )


def sign(
    body: bytes, secret: str = "new", at: int = NOW, kind: bytes = b"application/json"
) -> list[tuple[bytes, bytes]]:
    made = hmac.new(secret.encode(), b"v0:%d:" % at + body, sha256).hexdigest().encode()
    stamp = (b"x-slack-request-timestamp", b"%d" % at)
    return [(b"content-type", kind), stamp, (b"x-slack-signature", b"v0=" + made)]


def form(payload: dict[str, Any]) -> bytes:
    return urlencode({"payload": json.dumps(payload)}).encode()


FORM = b"application/x-www-form-urlencoded"


@pytest.mark.proves("signed", "odd-payload")
async def test_a_signed_click_counts_and_a_greeting_is_answered() -> None:
    """Slack's requests are accepted, as a form and as JSON; both secrets are valid while one is replaced."""
    knock = Knock()
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    assert await knock(body, sign(body)) == (200, b'{"challenge": "c1"}')
    assert await knock.signed(form(knock.click()), "old", kind=FORM) == 200
    assert len(knock.interaction_store.granted) == 1
    assert await knock.signed(b"\xff\xfe", "new") == 400


@pytest.mark.proves("signed", "replay")
async def test_a_replay_is_refused_across_replicas_and_restarts() -> None:
    """A replayed request is refused, by another process too; Slack's own repeat is one act."""
    knock, body = Knock(), b""
    body = form(knock.click())
    assert await knock.signed(body, kind=FORM) == 200
    assert await knock.signed(body, kind=FORM) == 401
    other = Knock()
    other.interaction_store = knock.interaction_store
    other.http = HttpRouter(SlackHttp(other.app, knock.interaction_store, watch=other, clock=lambda: NOW).routes)
    assert await other.signed(body, kind=FORM) == 401
    assert await knock.signed(body, at=NOW + 1, kind=FORM) == 200  # sent anew by Slack: signed anew
    assert len(knock.interaction_store.rows) == 1
    assert knock.counted == ["click", "replay", "click"]


@pytest.mark.proves("signed", "bad-signature")
@pytest.mark.parametrize(
    ("at", "status"), [(0, 200), (-299, 200), (299, 200), (-301, 401), (301, 401), (-NOW, 401), (10**11, 401)]
)
async def test_only_just_now(at: int, status: int) -> None:
    """A request counts within five minutes before and after its time."""
    knock = Knock()
    assert await knock.signed(form(knock.click()), at=NOW + at, kind=FORM) == status


@pytest.mark.proves("signed", "bad-signature")
async def test_only_for_us() -> None:
    """Another secret, another app, another workspace, and one app's secret for another's workspace are
    refused.
    """
    knock = Knock()
    assert await knock.signed(form(knock.click()), "not ours", kind=FORM) == 401
    assert await knock.signed(form(knock.click(api_app_id="A2")), kind=FORM) == 401
    for team in ({"id": "T2"}, {"id": "T9"}, None, [], "x", {"id": 5}):
        assert await knock.signed(form(knock.click(team=team, user={"id": "UALICE"})), kind=FORM) == 401
    assert await knock.signed(form(knock.click()), "second", kind=FORM) == 401
    assert knock.interaction_store.rows == []


@pytest.mark.proves("signed", "bad-signature", "odd-payload")
async def test_headers_and_bodies_that_are_wrong() -> None:
    """Missing, doubled and odd headers have one answer; a long body is not read; other methods and types are
    named.
    """
    knock = Knock()
    body = form(knock.click())
    good = sign(body, kind=FORM)
    for bad in (
        good[:1],
        good[:2],
        [good[0], good[2]],
        [*good, good[1]],
        [*good, good[2]],
        [(good[0][0], b"text/plain"), good[1]],
    ):
        assert (await knock(body, bad))[0] == 401
    assert (await knock(body, sign(body, kind=b"text/xml")))[0] == 415
    assert (await knock(body, [*good, (b"content-length", b"9" * 30)]))[0] == 413
    assert (await knock(b"x" * (guard.MOST_BODY + 1), good))[0] == 413
    assert (await knock(b"", [], "GET"))[0] == 405
    assert knock.interaction_store.rows == []


async def test_a_reply_in_a_thread_that_is_not_known_yet_comes_again() -> None:
    """For a reply in a thread that may be a task's, Slack is asked for a while to send the event again."""
    knock, now = Knock(), int(time.time())
    event = {
        "type": "message",
        "channel": "C1",
        "user": "UALICE",
        "text": "stop",
        "ts": f"{now}.9",
        "thread_ts": f"{now}.1",
    }
    body = {"type": "event_callback", "api_app_id": "A1", "team_id": TEAM, "event_id": "Ev1"}
    for more, status in (
        ({"parent_user_id": "UBOT"}, 503),
        ({"parent_user_id": "UBOB"}, 200),
        ({"thread_ts": f"{now - 600}.1"}, 200),
    ):
        sent = json.dumps(body | {"event": {"parent_user_id": "UBOT"} | event | more}).encode()
        assert await knock.signed(sent) == status
    knock.interaction_store.known[knock.key][2].add(("C1", f"{now}.1"))
    again = json.dumps(body | {"event": event | {"parent_user_id": "UBOT"}}).encode()
    assert await knock.signed(again, at=NOW + 1) == 200
    assert [row.text for row in knock.interaction_store.rows] == ["stop"]


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"x-slack-signature",
                b"x-slack-request-timestamp",
                b"content-type",
                b"content-length",
                b"X-Slack-Signature",
            ]
        ),
        st.one_of(
            st.binary(max_size=80), st.sampled_from([b"v0=" + b"a" * 64, b"%d" % NOW, b"application/json", b"\xb2"])
        ),
    ),
    max_size=6,
)


@pytest.mark.proves("signed", "bad-signature")
@given(HEADERS, st.binary(max_size=200))
def test_any_bytes_are_refused(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Anything unsigned is a 401 (or too large), and has no effect."""
    knock = Knock()
    status, said = asyncio.run(knock(body, headers))
    assert status in (401, 413)
    assert json.loads(said)["code"] == {401: 16, 413: 8}[status]
    assert knock.interaction_store.rows == []


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([TEAM, "A1", "UALICE", "1.5"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
TYPES = st.sampled_from(
    ["block_actions", "view_submission", "event_callback", "url_verification", "ssl_check", "shortcut", "x"]
)
FIELDS = (
    "actions",
    "user",
    "container",
    "team",
    "team_id",
    "view",
    "event",
    "message",
    "response_url",
    "trigger_id",
    "channel",
)
MORE = (
    "authorizations",
    "enterprise",
    "type",
    "api_app_id",
    "is_enterprise_install",
    "bot_access_token",
    "function_data",
    "command",
)


@pytest.mark.proves("signed", "odd-payload")
@given(st.dictionaries(st.sampled_from(FIELDS + MORE), JSON, max_size=6), TYPES, st.booleans())
def test_any_signed_payload_is_answered(odd: dict[str, Any], kind: str, is_click: bool) -> None:
    """Anything signed, however oddly shaped: no 500 and no traceback; only the one good click is granted."""
    knock = Knock()
    payload = (knock.click() if is_click else {"api_app_id": "A1", "team": {"id": TEAM}}) | {"type": kind} | odd
    try:
        body = form(payload)
    except ValueError:  # a lone surrogate: no form can hold it
        body = json.dumps(payload).encode()
    status = asyncio.run(knock.signed(body, kind=FORM if body.startswith(b"payload") else b"application/json"))
    assert status in (200, 400, 401)
    assert [row.key for row in knock.interaction_store.granted] in ([], [knock.key])


def test_a_list_of_answers_is_read_and_what_is_nearly_an_id_is_not() -> None:
    """A listed option is its number; an id, key or time with a line feed is invalid, without an exception."""
    key = "0" * 31 + "1"
    assert grammar("spanpost:choice", f"choose:11:{key}") == ("choose", 11, Scope.ONCE, UUID(key))
    assert grammar("spanpost:approve", key) == ("approve", None, Scope.ONCE, UUID(key))
    for action, value in (
        ("spanpost:approve", key + "\n"),
        ("spanpost:choice", f"choose:1\n:{key}"),
        ("spanpost:choice", key),
    ):
        assert grammar(action, value) is None
    knock = Knock()
    good = knock.click()
    for path in (("user", "id"), ("container", "channel_id"), ("container", "message_ts")):
        odd = json.loads(json.dumps(good))
        odd[path[0]][path[1]] += "\n"
        assert click(odd, TEAM) is None, path
    assert click(good, TEAM) is not None


@pytest.mark.proves("signed", "odd-payload")
@given(st.binary(max_size=60), st.sampled_from([FORM, b"application/json"]))
def test_any_signed_bytes_are_answered(body: bytes, kind: bytes) -> None:
    """Signed nonsense is a 400, or a 401 if it is readable and not for us."""
    assert asyncio.run(Knock().signed(body, kind=kind)) in (400, 401)


@pytest.mark.proves("signed", "odd-payload")
async def test_deep_and_long_payloads() -> None:
    """Too deep nesting is a 400; long words are cut or refused."""
    knock = Knock()
    assert await knock.signed(b'{"a":' * 100_000) == 400
    long = knock.click(response_url="x" * 100_000, trigger_id="y" * 100_000)
    long["actions"][0]["value"] = "z" * 100_000
    assert await knock.signed(form(long), kind=FORM) == 200
    assert knock.interaction_store.rows == []


@pytest.mark.proves("signed", "response-url")
@pytest.mark.parametrize(
    ("url", "is_slack"),
    [
        ("https://hooks.slack.com/actions/T1/2/x", True),
        ("https://hooks.slack-gov.com/actions/T1/2/x", True),
        ("http://hooks.slack.com/actions/T1/2/x", False),
        ("https://hooks.slack.com.evil.example/x", False),
        ("https://evil.example/hooks.slack.com", False),
        ("https://hooks.slack.com@evil.example/", False),
        ("https://u:p@hooks.slack.com/", False),
        ("https://hooks.slack.com:8443/x", False),
        ("https://169.254.169.254/latest", False),
        ("file:///etc/passwd", False),
        ("//hooks.slack.com/x", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_response_urls_lead_to_slack(url: str, is_slack: bool) -> None:
    """Only Slack's own hosts over HTTPS are called back."""
    assert leads_to_slack(url, "https://slack.com/api/") is is_slack


def test_a_replaced_slack_is_called_back_there_alone() -> None:
    """With another base URL, only that server is called back."""
    base = "http://127.0.0.1:4210/api/"
    assert leads_to_slack("http://127.0.0.1:4210/_hooks/1", base)
    assert not leads_to_slack("http://127.0.0.1:4211/_hooks/1", base)
    assert not leads_to_slack("https://hooks.slack.com/1", base)


# --- the real thing over HTTP ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def slack_url(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[str]:
    with run_local_slack(tmp_path_factory.mktemp("slack"), f"http://127.0.0.1:{port}/slack/events") as url:
        yield url


@pytest.fixture
async def served(
    slack_url: str, port: int, clean_environment: Path
) -> AsyncIterator[tuple[LocalSlack, InteractionStore]]:
    rules = [{"actions": ["decide", "message"], "users": [ALICE]}]
    settings = load(
        slack={"token": BOT_TOKEN, "base_url": f"{slack_url}/api/"},
        interactions={"signing_secret": "another", "old_signing_secret": SECRET, "rules": rules, "comments": "always"},
    )
    interaction_store, slack = InteractionStore(), LocalSlack(slack_url)
    await slack.reset()
    interactions_runtime = InteractionsRuntime(settings, interaction_store, lambda recorded: None)
    server = HttpServer(HttpRouter(interactions_runtime.http().routes), listen("127.0.0.1", port))
    await server.start()
    yield slack, interaction_store
    await server.stop()
    await interactions_runtime.close()
    await slack.close()


@pytest.mark.acceptance
@pytest.mark.needs("local-slack")
async def test_signed_by_another_slack(served: tuple[LocalSlack, InteractionStore]) -> None:
    """Requests that `local-slack` signs are accepted: a dialogue for a comment, the decision, a reply in the
    thread.
    """
    slack, interaction_store = served
    ts = await slack.post()
    key = interaction_store.ask(a_task(), CHANNEL, ts, Approval(id="a", question="Deploy?"))
    root = interaction_store.ask(a_task(), CHANNEL, ts)
    await slack.press(ts, "spanpost:approve", str(key))
    assert await slack.dialogue() is not None
    await slack.send_dialogue(comment={"text": {"value": "go"}})
    await slack.say("thanks", ts)

    async def rows() -> Any:
        return interaction_store.rows

    found = await eventually_async(rows, lambda rows: len(rows) == 2)
    assert [(row.verb, row.key, row.text) for row in found] == [("approve", key, "go"), ("message", root, "thanks")]
    assert time.time() - found[1].at.timestamp() < 60


@pytest.mark.acceptance
@pytest.mark.needs("local-slack")
async def test_a_command_of_another_slack(served: tuple[LocalSlack, InteractionStore]) -> None:
    """A command signed by `local-slack`, and a mention, are answered to their writer with a link to the message."""
    slack, interaction_store = served
    task = a_task("deploy-77", name="Deploys <!channel>")
    interaction_store.known[task.uid] = (task, None, {(CHANNEL, await slack.post())})
    await slack.command("")
    assert "Deploys &lt;!channel&gt;" in (await slack.whispered())[0]
    await slack.command("cancel deploy-77")
    await slack.say(f"<@{BOT}> show deploy-77")
    whispers = await slack.whispered(count=3)
    assert any("Not done: no rule allows people to cancel here" in one for one in whispers)
    assert any("Status: working" in one for one in whispers)
    [answer] = [m for m in await slack.messages() if m.get("ephemeral_to") == ALICE and "Running tasks" in m["text"]]
    assert [
        e["url"].rpartition("/")[2][:1] for e in answer["blocks"][0]["elements"][0]["elements"] if e["type"] == "link"
    ] == ["p"]


async def test_slacks_own_stop_is_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed stop event is one act of the thread's task by an allowed person, and the session rests.

    Other people are refused, privately, and the session continues. In other threads nothing happens.
    """
    knock, now = Knock(), int(time.time())
    rule = Rule(actions=frozenset({"cancel"}), users=("UALICE",))
    for one in knock.app.installations:
        one.interactions.rules = AuthorizationRules(rules=(rule,))
    key = knock.interaction_store.ask(a_task(), "C1", "1.7")
    calls: list[tuple[str, dict[str, Any]]] = []

    async def call(method: str, **given: Any) -> dict[str, Any]:
        calls.append((method, given))
        return {}

    monkeypatch.setattr(knock.app.installations[0].web, "call", call)

    async def press(at: int = NOW, **event: Any) -> int:
        given = {
            "type": "agent_session_stopped",
            "channel": "C1",
            "thread_ts": "1.7",
            "user": "UALICE",
            "event_ts": "1783536983.783769",
        }
        body = {"type": "event_callback", "api_app_id": "A1", "team_id": TEAM, "event_id": "Ev9", "event_time": at}
        status = await knock.signed(
            json.dumps(body | {"event": given | {"streaming_message_ts": []} | event}).encode(), at=at
        )
        while knock.app._keeper._under_way:
            await asyncio.gather(*knock.app._keeper._under_way)
        return status

    rested = ("agents.sessions.setStatus", {"channel_id": "C1", "thread_ts": "1.7", "status": "active"})
    assert [await press(NOW), await press(NOW + 1)] == [200, 200]
    assert [(row.verb, row.key, row.actor.id, row.refusal) for row in knock.interaction_store.rows] == [
        ("cancel", key, "UALICE", "")
    ]
    assert calls == [rested, rested]
    for one in knock.app.installations:
        one.interactions.rules = AuthorizationRules(rules=(Rule(actions=frozenset({"cancel"}), users=("UBOB",)),))
    assert await press(event_ts="1783536984.1") == 200
    assert knock.interaction_store.rows[-1].refusal
    ((method, arguments),) = calls[2:]
    assert (method, arguments["user"], arguments["thread_ts"]) == ("chat.postEphemeral", "UALICE", "1.7")
    for status, event in (
        (200, {"thread_ts": "1.8"}),
        (503, {"thread_ts": f"{now}.1"}),
        (200, {"thread_ts": ""}),
        (200, {"user": None}),
        (200, {"channel": ["C1"]}),
    ):
        assert await press(NOW + 2, **event) == status
    assert len(knock.interaction_store.rows) == 2
