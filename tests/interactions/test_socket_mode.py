"""Interactions by Socket Mode, with `local-slack`: buttons, dialogues, replies, and authorization."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from spanpost.model.interventions import Verb
from spanpost.model.readings import Approval
from spanpost.runtime.interactions import InteractionsRuntime
from spanpost.settings import load
from spanpost.testing.nouns import a_task
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import (
    ALICE,
    APP_TOKEN,
    BOB,
    BOT,
    BOT_TOKEN,
    CHANNEL,
    NEXT_APP_TOKEN,
    OTHER,
    LocalSlack,
    run_local_slack,
)
from tests.interactions.store import InteractionStore

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("local-slack")]

RULES = [
    {"actions": ["decide", "cancel", "mute", "unmute", "retry"], "users": [ALICE]},
    {"actions": ["message", "view"], "channels": ["here"]},
]


@pytest.fixture(scope="module")
def slack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_local_slack(tmp_path_factory.mktemp("slack")) as url:
        yield url


class App:
    """A Slack, a store, and processes that receive its interactions."""

    def __init__(
        self, slack: LocalSlack, interaction_store: InteractionStore, runtimes: list[InteractionsRuntime]
    ) -> None:
        self.slack, self.interaction_store, self.runtimes = slack, interaction_store, runtimes

    async def question(self, *options: str, thread: str = "") -> tuple[Any, str]:
        """Post a question in a message; return its key and the message's timestamp."""
        ts = await self.slack.post(thread=thread)
        approval = Approval(id="a1", question="Deploy <!channel>?", options=options)
        return self.interaction_store.ask(a_task("asks"), CHANNEL, ts, approval), ts

    async def task(self, **fields: Any) -> tuple[Any, str]:
        ts = await self.slack.post()
        return self.interaction_store.ask(a_task("runs", **fields), CHANNEL, ts), ts


@asynccontextmanager
async def opened(
    url: str, interaction_store: InteractionStore, processes: int = 1, **interactions: Any
) -> AsyncIterator[App]:
    settings = load(
        slack={"token": BOT_TOKEN, "base_url": f"{url}/api/"},
        interactions={"app_token": APP_TOKEN, "rules": RULES} | interactions,
    )
    slack = LocalSlack(url)
    await slack.reset()
    runtimes = [InteractionsRuntime(settings, interaction_store, lambda recorded: None) for _ in range(processes)]
    for interactions_runtime in runtimes:
        interactions_runtime.start()
    try:
        for interactions_runtime in runtimes:
            await eventually_async(interactions_runtime.sockets.open[0].is_connected, bool)
        yield App(slack, interaction_store, runtimes)
    finally:
        for interactions_runtime in runtimes:
            await interactions_runtime.close()
        await slack.close()


@pytest.fixture
async def app(slack_url: str, clean_environment: Path) -> AsyncIterator[App]:
    async with opened(slack_url, InteractionStore()) as made:
        yield made


async def test_a_click_is_recorded_with_who_did_it(app: App) -> None:
    """Approve is one row, granted, with the person as Slack knows them, before Slack is answered."""
    key, ts = await app.question()
    await app.slack.press(ts, "spanpost:approve", str(key))
    (row,) = app.interaction_store.rows
    assert (row.verb, row.key, row.refusal, row.source) == (Verb.APPROVE, key, "", "slack")
    assert (row.actor.id, row.actor.team, row.actor.name, row.actor.email) == (
        ALICE,
        "T01ACME",
        "alice",
        "alice@acme.example",
    )
    assert await app.slack.whispers() == []


async def test_an_app_token_is_replaced_while_people_press(slack_url: str, clean_environment: Path) -> None:
    """The connection of a new app token takes over from the old one, which ends: each press is recorded once."""
    interaction_store = InteractionStore()
    async with opened(slack_url, interaction_store) as app:
        (interactions_runtime,) = app.runtimes
        sockets = interactions_runtime.sockets
        (old,) = sockets.open

        async def press(number: int) -> None:
            ts = await app.slack.post()
            key = interaction_store.ask(a_task(f"runs-{number}"), CHANNEL, ts)
            await app.slack.press(ts, "spanpost:cancel", str(key))

        await press(0)
        changed = {"app_token": NEXT_APP_TOKEN, "rules": RULES}
        base = {"token": BOT_TOKEN, "base_url": f"{slack_url}/api/"}
        interactions_runtime.reloading(load(slack=base, interactions=changed))()
        for number in range(1, 6):
            await press(number)
        await eventually_async(old.is_connected, lambda is_connected: not is_connected)
        await press(6)
        assert [socket.token for socket in sockets.open] == [NEXT_APP_TOKEN]
        assert Counter(row.key for row in interaction_store.rows).most_common(1)[0][1] == 1
        assert len(interaction_store.rows) == 7


async def test_a_command_by_socket(app: App) -> None:
    """A slash command by Socket Mode cancels a task for authorized people, like Cancel in its message."""
    task = a_task("deploy-77")
    app.interaction_store.known[task.uid] = (task, None, {(CHANNEL, await app.slack.post())})
    await app.slack.command("cancel deploy-77", channel=OTHER)
    texts = await eventually_async(lambda: app.slack.whispers(channel=OTHER), bool)
    assert texts == ["Asked to stop: Quarterly report. It goes on until its agent stops."]
    assert [(row.verb, row.key, row.refusal) for row in app.interaction_store.rows] == [(Verb.CANCEL, task.uid, "")]


async def test_an_option_of_the_agent(app: App) -> None:
    """The number in the action id is the agent's option; one that was not offered is refused, and recorded."""
    key, ts = await app.question("canary", "all at once")
    await app.slack.press(ts, "spanpost:choose:7", str(key))
    assert [row.refusal != "" for row in app.interaction_store.rows] == [True]
    await app.slack.press(ts, "spanpost:choose:1", key.hex)
    assert app.interaction_store.granted[0].option == "all at once"


async def test_deny_asks_for_a_comment(app: App) -> None:
    """Deny opens a dialogue that shows the question literally; sent off, the comment goes with the decision."""
    key, ts = await app.question()
    await app.slack.press(ts, "spanpost:deny", str(key))
    view = await app.slack.dialogue()
    assert view is not None
    assert "Deploy <!channel>?" in str(view["blocks"])
    assert app.interaction_store.rows == []
    await app.slack.send_dialogue(comment={"text": {"type": "plain_text_input", "value": "not on a Friday"}})
    (row,) = app.interaction_store.granted
    assert (row.verb, row.text) == (Verb.DENY, "not on a Friday")
    assert await app.slack.dialogue() is None


async def test_an_unauthorized_person_learns_who_may(app: App) -> None:
    """Bob is refused: an ephemeral message names the authorized people, and the click is recorded."""
    key, ts = await app.question()
    for action in ("spanpost:approve", "spanpost:deny"):
        await app.slack.press(ts, action, str(key), BOB)
    texts = await app.slack.whispered(BOB, 2)
    assert all(f"<@{ALICE}>" in text for text in texts)
    assert [row.refusal != "" for row in app.interaction_store.rows] == [True, True]
    assert await app.slack.dialogue() is None


@pytest.mark.proves("by-the-rules", "foreign-action")
async def test_bots_may_nothing(app: App) -> None:
    """A bot in the channel is refused even where everybody in the channel may."""
    key, ts = await app.task()
    await app.slack.say("go on", ts, "U03ROBOT")
    await eventually_async(_rows(app), lambda rows: len(rows) == 1)
    assert app.interaction_store.rows[0].refusal == "bots may not do this"
    assert key == app.interaction_store.rows[0].key


def _calls(app: App) -> Any:
    async def calls() -> int:
        return app.interaction_store.calls["intervene"]

    return calls


def _rows(app: App) -> Any:
    async def rows() -> Any:
        return app.interaction_store.rows

    return rows


@pytest.mark.proves("first-stands", "replay")
async def test_the_first_answer_stands(app: App) -> None:
    """A second answer gets a message with the decision and its person."""
    key, ts = await app.question()
    await app.slack.press(ts, "spanpost:approve", str(key))
    await app.slack.press(ts, "spanpost:approve", str(key))
    (text,) = await app.slack.whispered()
    assert "Already approved by" in text
    assert len(app.interaction_store.decided) == 1


@pytest.mark.proves("by-the-rules", "foreign-action")
async def test_buttons_belong_to_their_message(app: App) -> None:
    """A key from another message, an unknown one, or an invalid one changes nothing, with a message."""
    key, _ = await app.question()
    _, installed_apps = await app.task()
    forged = [
        ("spanpost:approve", str(key)),
        ("spanpost:approve", str(uuid4())),
        ("spanpost:approve", "'; DROP TABLE tasks"),
        ("spanpost:", ""),
    ]
    for action, value in forged:
        await app.slack.press(installed_apps, action, value)
    assert len(await app.slack.whispered(ALICE, len(forged))) == len(forged)
    assert app.interaction_store.granted == []


async def test_a_message_whose_receipt_is_not_here_yet(app: App) -> None:
    """A button of ours counts although the store does not know its message yet; another app's does not."""
    key, _ = await app.question()
    fresh = await app.slack.post()
    await app.slack.press(fresh, "spanpost:deny", str(key))
    await app.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert [row.verb for row in app.interaction_store.granted] == [Verb.DENY]
    key, _ = await app.question()
    await app.slack.say("look at my button")
    ((theirs,),) = [[m["ts"] for m in await app.slack.messages() if m.get("user") == ALICE]]
    await app.slack.press(theirs, "spanpost:approve", str(key))
    assert len(app.interaction_store.granted) == 1


async def test_cancel_mute_and_a_menu(app: App) -> None:
    """Buttons of a task, and entries of its menu, whose value names the act, are acts."""
    key, ts = await app.task()
    await app.slack.press(ts, "spanpost:cancel", str(key))
    menu = {
        "type": "overflow",
        "selected_option": {"value": f"mute:{key.hex}", "text": {"type": "plain_text", "text": "Mute"}},
    }
    await app.slack.press(ts, "spanpost:menu", "", **menu)
    assert [row.verb for row in app.interaction_store.granted] == [Verb.CANCEL, Verb.MUTE]


async def test_nothing_retries_where_nothing_could(app: App) -> None:
    """Without a launcher, a retry is refused with the reason, and recorded."""
    key, ts = await app.task()
    await app.slack.press(ts, "spanpost:retry", str(key))
    assert "can start this task again" in (await app.slack.whispered())[0]
    assert app.interaction_store.rows[0].refusal != ""


async def test_show_more(app: App) -> None:
    """Further details of the task are shown literally, in a dialogue, without an intervention."""
    key, ts = await app.task(action="<!everyone> *bold*", requested_by="alice@acme.example")
    await app.slack.press(ts, "spanpost:view", str(key))
    view = await app.slack.dialogue()
    assert view is not None
    elements = [e for block in view["blocks"] for part in block["elements"] for e in part["elements"]]
    assert {e["type"] for e in elements} == {"text"}
    assert "<!everyone> *bold*" in "".join(e["text"] for e in elements)
    assert app.interaction_store.rows == []


async def test_a_reply_reaches_the_agent(app: App) -> None:
    """A reply in the task's thread is a message to it, as it was typed; messages elsewhere are ignored."""
    key, ts = await app.task()
    await app.slack.say("use &lt;b&gt; and see <https://x.example|this>", ts)
    await app.slack.say("hello everybody")
    await app.slack.say("another thread", await app.slack.post())
    await app.slack.say("an answer of our own", ts, BOT)
    await app.slack.say("and that is all", ts)
    rows = await eventually_async(_rows(app), lambda rows: len(rows) >= 2)
    assert [(row.verb, row.key, row.text) for row in rows] == [
        (Verb.MESSAGE, key, "use <b> and see this (https://x.example)"),
        (Verb.MESSAGE, key, "and that is all"),
    ]


async def test_a_reply_of_a_stranger_to_the_channel_is_refused_once(app: App) -> None:
    """A person outside of the channel may not write to the agent; one message says so, and each reply is
    recorded.
    """
    _, ts = await app.task()
    for text in ("one", "two", "three"):
        await app.slack.say(text, ts, BOB)
    await eventually_async(_rows(app), lambda rows: len(rows) == 3)
    assert len(await app.slack.whispered(BOB)) == 1
    assert app.interaction_store.granted == []


async def test_without_the_database_the_person_gets_a_message(app: App) -> None:
    """Nothing is recorded, and the person is asked to try again; a dialogue stays open; then it works."""
    key, ts = await app.question()
    app.interaction_store.is_away = True
    await app.slack.press(ts, "spanpost:approve", str(key))
    assert "could not be recorded" in (await app.slack.whispered())[0]
    app.interaction_store.is_away = False
    await app.slack.press(ts, "spanpost:deny", str(key))
    app.interaction_store.is_away = True
    await app.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert await app.slack.dialogue() is not None
    app.interaction_store.is_away = False
    await app.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert [row.verb for row in app.interaction_store.granted] == [Verb.DENY]


async def test_a_slow_database_is_waited_for_after_the_answer(app: App) -> None:
    """Slack is answered in time; the person learns that the result is open; the click is recorded later."""
    key, ts = await app.question()
    app.interaction_store.gate.clear()
    await app.slack.press(ts, "spanpost:approve", str(key))
    assert "takes longer" in (await app.slack.whispered())[0]
    app.interaction_store.gate.set()
    await eventually_async(_rows(app), lambda rows: len(rows) == 1)


@pytest.mark.proves("first-stands", "socket-mode")
async def test_three_processes_receive_one_click(slack_url: str, clean_environment: Path) -> None:
    """Every process receives each of twenty clicks; each counts once, and the person gets each message once."""
    async with opened(slack_url, InteractionStore(), processes=3) as app:
        key, ts = await app.question()
        for _ in range(20):
            await app.slack.press(ts, "spanpost:approve", str(key))
        await eventually_async(_rows(app), lambda rows: len(rows) == 20)
        await app.slack.whispered(ALICE, 19)
        assert list(app.interaction_store.decided.values()) == [f"approve {ALICE}"]
        await eventually_async(_calls(app), lambda calls: calls == 60)
        assert len(await app.slack.whispers()) == 19


@pytest.mark.proves("no-token-shown")
async def test_what_slack_is_answered_is_never_in_a_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Neither tokens nor people's words are logged, by us, slack_sdk or Bolt, at any level."""
    caplog.set_level("DEBUG")
    key, ts = await app.question()
    await app.slack.press(ts, "spanpost:approve", str(key))
    await app.slack.press(ts, "spanpost:nonsense", "a-value-that-is-none")
    await app.slack.say("a private remark", ts)
    await app.slack.whispered()
    for secret in (BOT_TOKEN, APP_TOKEN, "a private remark", "_hooks/response", "/socket/"):
        assert secret not in caplog.text


@pytest.mark.proves("signed", "socket-mode")
async def test_slack_goes_and_comes_back(clean_environment: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broken connection is made again, and a missing Slack is awaited at the start; each is logged once."""
    caplog.set_level("INFO", logger="spanpost.interactions")
    port, interaction_store = free_port(), InteractionStore()
    url = f"http://127.0.0.1:{port}"
    settings = load(
        slack={"token": BOT_TOKEN, "base_url": f"{url}/api/"}, interactions={"app_token": APP_TOKEN, "rules": RULES}
    )
    interactions_runtime = InteractionsRuntime(settings, interaction_store, lambda recorded: None, ping=0.2)
    interactions_runtime.start()

    async def said() -> int:
        return caplog.text.count("cannot be reached")

    for expected in (1, 2):
        await eventually_async(said, lambda times, expected=expected: times >= expected)
        with run_local_slack(clean_environment, port=port):
            slack = LocalSlack(url)
            await eventually_async(interactions_runtime.sockets.open[0].is_connected, bool)
            ts = await slack.post()
            await slack.press(ts, "spanpost:cancel", str(interaction_store.ask(a_task(), CHANNEL, ts)))
            assert len(interaction_store.granted) == expected
            await slack.close()
        await eventually_async(interactions_runtime.sockets.open[0].is_connected, lambda is_connected: not is_connected)
    await interactions_runtime.close()
    assert await said() <= 6  # for each reason once
    assert caplog.text.count("connected again") == 2
    assert logging.getLogger("spanpost").level == logging.NOTSET  # Bolt sets the level of a logger of its own


async def test_the_channel_matters(app: App) -> None:
    """A message of the same timestamp in another channel is another message."""
    key, ts = await app.question()
    await app.slack.press(ts, "spanpost:approve", str(key), channel=OTHER)
    assert app.interaction_store.granted == []
