"""The desk by Socket Mode, against `local-slack`: buttons, dialogues, replies, and who may."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from spanpost.domain.interventions import Verb
from spanpost.domain.readings import Approval
from spanpost.reception import Reception
from spanpost.settings import load
from spanpost.testing.nouns import a_task
from tests.desk.hall import Hall
from tests.desk.local_slack import (
    ALICE,
    APP_TOKEN,
    BOB,
    BOT,
    BOT_TOKEN,
    CHANNEL,
    OTHER,
    LocalSlack,
    free_port,
    run_local_slack,
    until,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("local-slack")]

RULES = [
    {"actions": ["decide", "cancel", "mute", "unmute", "retry"], "users": [ALICE]},
    {"actions": ["message", "view"], "channels": ["here"]},
]


@pytest.fixture(scope="module")
def slack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_local_slack(tmp_path_factory.mktemp("slack")) as url:
        yield url


class House:
    """A Slack, a hall, and desks between them."""

    def __init__(self, slack: LocalSlack, hall: Hall) -> None:
        self.slack, self.hall = slack, hall

    async def question(self, *options: str, thread: str = "") -> tuple[Any, str]:
        """Have a question asked in a message; return its key and the message's timestamp."""
        ts = await self.slack.post(thread=thread)
        approval = Approval(id="a1", question="Deploy <!channel>?", options=options)
        return self.hall.ask(a_task("asks"), CHANNEL, ts, approval), ts

    async def task(self, **fields: Any) -> tuple[Any, str]:
        ts = await self.slack.post()
        return self.hall.ask(a_task("runs", **fields), CHANNEL, ts), ts


@asynccontextmanager
async def opened(url: str, hall: Hall, desks: int = 1, **desk: Any) -> AsyncIterator[House]:
    settings = load(slack={"token": BOT_TOKEN, "base_url": f"{url}/api/"}, desk={"app_token": APP_TOKEN, "rules": RULES} | desk)
    slack = LocalSlack(url)
    await slack.reset()
    receptions = [Reception(settings, hall) for _ in range(desks)]
    for reception in receptions:
        reception.start()
    try:
        for reception in receptions:
            await until(reception.sockets[0].is_connected, bool)
        yield House(slack, hall)
    finally:
        for reception in receptions:
            await reception.close()
        await slack.close()


@pytest.fixture
async def house(slack_url: str, clean_environment: Path) -> AsyncIterator[House]:
    async with opened(slack_url, Hall()) as made:
        yield made


async def test_a_click_is_recorded_with_who_did_it(house: House) -> None:
    """Approve: one row, granted, with the person as Slack knows them, before Slack is answered."""
    key, ts = await house.question()
    await house.slack.press(ts, "spanpost:approve", str(key))
    (row,) = house.hall.rows
    assert (row.verb, row.key, row.refusal, row.source) == (Verb.APPROVE, key, "", "slack")
    assert (row.actor.id, row.actor.team, row.actor.name, row.actor.email) == (ALICE, "T01ACME", "alice", "alice@acme.example")
    assert await house.slack.whispers() == []


async def test_a_command_by_socket(house: House) -> None:
    """A slash command by Socket Mode cancels a task for who may, as Cancel in its message would."""
    task = a_task("deploy-77")
    house.hall.known[task.uid] = (task, None, {(CHANNEL, await house.slack.post())})
    await house.slack.command("cancel deploy-77", channel=OTHER)
    told = await until(lambda: house.slack.whispers(channel=OTHER), bool)
    assert told == ["Asked to stop: Quarterly report. It goes on until its agent heeds it."]
    assert [(row.verb, row.key, row.refusal) for row in house.hall.rows] == [(Verb.CANCEL, task.uid, "")]


async def test_an_option_of_the_agent(house: House) -> None:
    """The number in the action id is the agent's option; one that was not offered is refused, and kept."""
    key, ts = await house.question("canary", "all at once")
    await house.slack.press(ts, "spanpost:choose:7", str(key))
    assert [row.refusal != "" for row in house.hall.rows] == [True]
    await house.slack.press(ts, "spanpost:choose:1", key.hex)
    assert house.hall.granted[0].option == "all at once"


async def test_deny_asks_for_a_comment(house: House) -> None:
    """Deny opens a dialogue that shows the question literally; sent off, the comment goes with the decision."""
    key, ts = await house.question()
    await house.slack.press(ts, "spanpost:deny", str(key))
    view = await house.slack.dialogue()
    assert view is not None
    assert "Deploy <!channel>?" in str(view["blocks"])
    assert house.hall.rows == []
    await house.slack.send_dialogue(comment={"text": {"type": "plain_text_input", "value": "not on a Friday"}})
    (row,) = house.hall.granted
    assert (row.verb, row.text) == (Verb.DENY, "not on a Friday")
    assert await house.slack.dialogue() is None


async def test_who_may_not_is_told_who_may(house: House) -> None:
    """Bob is refused: an ephemeral message names who may, and the click is a row."""
    key, ts = await house.question()
    for action in ("spanpost:approve", "spanpost:deny"):
        await house.slack.press(ts, action, str(key), BOB)
    told = await house.slack.whispered(BOB, 2)
    assert all(f"<@{ALICE}>" in text for text in told)
    assert [row.refusal != "" for row in house.hall.rows] == [True, True]
    assert await house.slack.dialogue() is None


async def test_bots_may_nothing(house: House) -> None:
    """A bot that is in the channel is refused where everybody in the channel may."""
    key, ts = await house.task()
    await house.slack.say("go on", ts, "U03ROBOT")
    await until(_rows(house), lambda rows: len(rows) == 1)
    assert house.hall.rows[0].refusal == "bots may not do this"
    assert key == house.hall.rows[0].key


def _calls(house: House) -> Any:
    async def calls() -> int:
        return house.hall.calls["intervene"]

    return calls


def _rows(house: House) -> Any:
    async def rows() -> Any:
        return house.hall.rows

    return rows


async def test_the_first_answer_stands(house: House) -> None:
    """A second answer is told what was decided and by whom."""
    key, ts = await house.question()
    await house.slack.press(ts, "spanpost:approve", str(key))
    await house.slack.press(ts, "spanpost:approve", str(key))
    (told,) = await house.slack.whispered()
    assert "Already approved by" in told
    assert len(house.hall.decided) == 1


async def test_buttons_belong_to_their_message(house: House) -> None:
    """A key that is told in another message, or is nobody's, or is no key, changes nothing and says so."""
    key, _ = await house.question()
    _, elsewhere = await house.task()
    forged = [
        ("spanpost:approve", str(key)),
        ("spanpost:approve", str(uuid4())),
        ("spanpost:approve", "'; DROP TABLE tasks"),
        ("spanpost:", ""),
    ]
    for action, value in forged:
        await house.slack.press(elsewhere, action, value)
    assert len(await house.slack.whispered(ALICE, len(forged))) == len(forged)
    assert house.hall.granted == []


async def test_a_message_whose_receipt_is_not_here_yet(house: House) -> None:
    """A button of ours counts though the ledger does not know the message yet: through the dialogue, too. Not so in another's."""
    key, _ = await house.question()
    fresh = await house.slack.post()
    await house.slack.press(fresh, "spanpost:deny", str(key))
    await house.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert [row.verb for row in house.hall.granted] == [Verb.DENY]
    key, _ = await house.question()
    await house.slack.say("look at my button")
    ((theirs,),) = [[m["ts"] for m in await house.slack.messages() if m.get("user") == ALICE]]
    await house.slack.press(theirs, "spanpost:approve", str(key))
    assert len(house.hall.granted) == 1


async def test_cancel_mute_and_a_menu(house: House) -> None:
    """Buttons of a task, and entries of its menu, whose value says what they ask."""
    key, ts = await house.task()
    await house.slack.press(ts, "spanpost:cancel", str(key))
    menu = {"type": "overflow", "selected_option": {"value": f"mute:{key.hex}", "text": {"type": "plain_text", "text": "Mute"}}}
    await house.slack.press(ts, "spanpost:menu", "", **menu)
    assert [row.verb for row in house.hall.granted] == [Verb.CANCEL, Verb.MUTE]


async def test_nothing_retries_where_nothing_could(house: House) -> None:
    """Without anything that starts tasks, a retry is refused honestly, and kept."""
    key, ts = await house.task()
    await house.slack.press(ts, "spanpost:retry", str(key))
    assert "could start this task again" in (await house.slack.whispered())[0]
    assert house.hall.rows[0].refusal != ""


async def test_show_more(house: House) -> None:
    """What more is known of the task is shown literally, in a dialogue; that is no intervention."""
    key, ts = await house.task(action="<!everyone> *bold*", requested_by="alice@acme.example")
    await house.slack.press(ts, "spanpost:view", str(key))
    view = await house.slack.dialogue()
    assert view is not None
    elements = [e for block in view["blocks"] for part in block["elements"] for e in part["elements"]]
    assert {e["type"] for e in elements} == {"text"}
    assert "<!everyone> *bold*" in "".join(e["text"] for e in elements)
    assert house.hall.rows == []


async def test_a_reply_reaches_the_agent(house: House) -> None:
    """A reply in the task's thread is a message to it, as it was typed; what is said elsewhere is nobody's."""
    key, ts = await house.task()
    await house.slack.say("use &lt;b&gt; and see <https://x.example|this>", ts)
    await house.slack.say("hello everybody")
    await house.slack.say("another thread", await house.slack.post())
    await house.slack.say("an answer of our own", ts, BOT)
    await house.slack.say("and that is all", ts)
    rows = await until(_rows(house), lambda rows: len(rows) >= 2)
    assert [(row.verb, row.key, row.text) for row in rows] == [
        (Verb.MESSAGE, key, "use <b> and see this (https://x.example)"),
        (Verb.MESSAGE, key, "and that is all"),
    ]


async def test_a_reply_of_a_stranger_to_the_channel_is_refused_once(house: House) -> None:
    """Who is not in the channel may not speak to the agent; that is said once in a thread, and each reply is a row."""
    _, ts = await house.task()
    for text in ("one", "two", "three"):
        await house.slack.say(text, ts, BOB)
    await until(_rows(house), lambda rows: len(rows) == 3)
    assert len(await house.slack.whispered(BOB)) == 1
    assert house.hall.granted == []


async def test_while_the_database_is_away_the_person_is_told(house: House) -> None:
    """Nothing is recorded, and whoever pressed is told to try again; a dialogue stays open; then it works."""
    key, ts = await house.question()
    house.hall.is_away = True
    await house.slack.press(ts, "spanpost:approve", str(key))
    assert "could not be recorded" in (await house.slack.whispered())[0]
    house.hall.is_away = False
    await house.slack.press(ts, "spanpost:deny", str(key))
    house.hall.is_away = True
    await house.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert await house.slack.dialogue() is not None
    house.hall.is_away = False
    await house.slack.send_dialogue(comment={"text": {"value": "no"}})
    assert [row.verb for row in house.hall.granted] == [Verb.DENY]


async def test_a_slow_database_is_waited_for_after_the_answer(house: House) -> None:
    """Slack is answered in time; the person is told that it is not certain; the click is recorded when it can be."""
    key, ts = await house.question()
    house.hall.gate.clear()
    await house.slack.press(ts, "spanpost:approve", str(key))
    assert "takes longer" in (await house.slack.whispered())[0]
    house.hall.gate.set()
    await until(_rows(house), lambda rows: len(rows) == 1)


async def test_three_processes_hear_one_click(slack_url: str, clean_environment: Path) -> None:
    """Every process hears every click, of twenty; each counts once, and one person is told each thing once."""
    async with opened(slack_url, Hall(), desks=3) as house:
        key, ts = await house.question()
        for _ in range(20):
            await house.slack.press(ts, "spanpost:approve", str(key))
        await until(_rows(house), lambda rows: len(rows) == 20)
        await house.slack.whispered(ALICE, 19)
        assert list(house.hall.decided.values()) == [f"approve {ALICE}"]
        await until(_calls(house), lambda calls: calls == 60)
        assert len(await house.slack.whispers()) == 19


async def test_what_slack_is_answered_is_never_in_a_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Neither tokens nor what people wrote are logged, by us, slack_sdk or Bolt, however much is asked for."""
    caplog.set_level("DEBUG")
    key, ts = await house.question()
    await house.slack.press(ts, "spanpost:approve", str(key))
    await house.slack.press(ts, "spanpost:nonsense", "a-value-that-is-none")
    await house.slack.say("a private remark", ts)
    await house.slack.whispered()
    for secret in (BOT_TOKEN, APP_TOKEN, "a private remark", "_hooks/response", "/socket/"):
        assert secret not in caplog.text


async def test_slack_goes_and_comes_back(clean_environment: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that breaks is made anew, and a Slack that is not there at the start is waited for; said once each."""
    caplog.set_level("INFO", logger="spanpost.desk")
    port, hall = free_port(), Hall()
    url = f"http://127.0.0.1:{port}"
    settings = load(slack={"token": BOT_TOKEN, "base_url": f"{url}/api/"}, desk={"app_token": APP_TOKEN, "rules": RULES})
    reception = Reception(settings, hall, ping=0.2)
    reception.start()

    async def said() -> int:
        return caplog.text.count("cannot be reached")

    for expected in (1, 2):
        await until(said, lambda times, expected=expected: times >= expected)
        with run_local_slack(clean_environment, port=port):
            slack = LocalSlack(url)
            await until(reception.sockets[0].is_connected, bool)
            ts = await slack.post()
            await slack.press(ts, "spanpost:cancel", str(hall.ask(a_task(), CHANNEL, ts)))
            assert len(hall.granted) == expected
            await slack.close()
        await until(reception.sockets[0].is_connected, lambda is_connected: not is_connected)
    await reception.close()
    assert await said() <= 6  # for each reason once
    assert caplog.text.count("connected again") == 2
    assert logging.getLogger("spanpost").level == logging.NOTSET  # Bolt sets the level of a logger of its own


async def test_the_channel_matters(house: House) -> None:
    """A message of the same time in another channel is another message."""
    key, ts = await house.question()
    await house.slack.press(ts, "spanpost:approve", str(key), channel=OTHER)
    assert house.hall.granted == []
