"""An agent asks and a person answers in Slack: agent, gateway, PostgreSQL and an independent fake of Slack.

The gateway is killed at each point in between. In every case there is one answer, and Slack shows it. About a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.asking_agent import AskingAgent, WaitingAgent
from tests.acceptance.gateways import Gateway
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import (
    ALICE,
    APP_TOKEN,
    BOB,
    BOT_TOKEN,
    CHANNEL,
    SECRET,
    LocalSlack,
    run_local_slack,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "local-slack")]

RULES = f"""
[[interactions.rules]]
actions = ["decide", "cancel"]
users = ["{ALICE}"]

[[interactions.rules]]
actions = ["message", "view", "mute"]
channels = ["here"]
"""


class Street:
    """Gateways, a Slack, and the database between them."""

    def __init__(
        self, gateways: list[Gateway], slack: LocalSlack, database: asyncpg.Connection, directory: Path
    ) -> None:
        self.gateways, self.slack, self.database, self.directory = gateways, slack, database, directory
        self.agents: list[WaitingAgent] = []

    @property
    def gateway(self) -> Gateway:
        return self.gateways[0]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.database.fetch(sql)]

    async def acts(self) -> list[tuple[Any, ...]]:
        """Return the acts of people and their results, in order."""
        return await self.rows(
            "SELECT verb, result, actor FROM human_interventions WHERE idempotency_key IS NOT NULL ORDER BY number"
        )

    async def question(self) -> tuple[WaitingAgent, str]:
        """Let an agent ask and wait; return it, and the question's message in the thread."""
        agent = WaitingAgent(self.gateway.url, self.directory)
        self.agents.append(agent)
        return agent, await self.asks("Shall I deploy?")

    async def asked_and_posted(self, question: str, **more: Any) -> tuple[AskingAgent, str]:
        """Let an agent of another language ask; return it, and the question's message in the thread."""
        agent = AskingAgent(self.gateway.url).start().ask(question, **more)
        return agent, await self.asks(question)

    async def asks(self, question: str) -> str:
        return await self.slack.question(question)

    async def root(self) -> str:
        """Return the task's message."""
        return str(next(m["ts"] for m in await self.slack.messages() if not m.get("thread_ts")))

    async def press(self, ts: str, label: str, user: str = ALICE) -> None:
        await self.slack.choose(ts, label, user)

    async def decided(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT state, decision, by, comment FROM approvals")

    async def shows(self, word: str) -> None:
        await self.slack.shows(word)

    async def rest(self) -> None:
        """Wait until no delivery is under way: that of a killed process waits until its lease is over."""
        await eventually_async(
            lambda: self.rows("SELECT 1 FROM deliveries WHERE state = 'sending'"), lambda rows: not rows
        )


@asynccontextmanager
async def street(
    dsn: str, directory: Path, *, gateways: int = 1, is_http: bool = False, rules: str = RULES, http: int = 0
) -> AsyncIterator[Street]:
    (directory / "spanpost.toml").write_text(rules)
    port = free_port()
    environment = {
        "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
        "SPANPOST_SLACK__CHANNEL": CHANNEL,
        "SPANPOST_SLACK__RECONCILE_TIMEOUT": "1",
        "SPANPOST_SLACK__BASE_URL": f"http://127.0.0.1:{port}/api/",
        **(
            {"SPANPOST_INTERACTIONS__SIGNING_SECRET": SECRET}
            if is_http
            else {"SPANPOST_INTERACTIONS__APP_TOKEN": APP_TOKEN}
        ),
    }
    made = [Gateway(dsn, directory, http=0 if i else http, **environment) for i in range(gateways)]
    database = await asyncpg.connect(dsn)
    try:
        with run_local_slack(directory, f"{made[0].url}/slack/events" if is_http else "", port) as url:
            slack = LocalSlack(url)
            opened = Street(made, slack, database, directory)
            if not is_http:
                await slack.connected(gateways)
            try:
                yield opened
            finally:
                for agent in opened.agents:
                    agent.kill()
                await slack.close()
    finally:
        await database.close()
        for gateway in made:
            gateway.stop()


@pytest.mark.parametrize("is_http", [False, True], ids=["socket mode", "http"])
async def test_a_question_is_answered_in_slack(dsn: str, tmp_path: Path, is_http: bool) -> None:
    """Bob is refused, Alice approves, the agent continues; both acts are rows and Slack names the decider."""
    async with street(dsn, tmp_path, is_http=is_http) as on:
        agent, reply = await on.question()
        await on.press(reply, "Approve", BOB)
        assert f"<@{ALICE}>" in (await on.slack.whispered(BOB))[0]
        await on.slack.say("and tell me when it is done", await on.root())
        await eventually_async(on.acts, lambda acts: len(acts) == 2)
        await on.press(reply, "Approve")
        assert await asyncio.to_thread(agent.goes_on) == "approve alice"
        assert await on.acts() == [
            ("approve", "refused", "bob"),
            ("message", "done", "alice"),
            ("approve", "done", "alice"),
        ]
        await on.shows("Approved by")
        await eventually_async(
            on.slack.messages, lambda shown: not any("spanpost:approve" in str(m.get("blocks")) for m in shown)
        )
        page = on.gateway.log
        for secret in (BOT_TOKEN, APP_TOKEN, SECRET, "tell me when"):
            assert secret not in page


async def test_options_comments_cancel_and_the_menu(dsn: str, tmp_path: Path) -> None:
    """An option is chosen by its button, a denial carries its comment, a task is muted, shown in detail, and
    cancelled.
    """
    async with street(dsn, tmp_path) as on:
        agent, reply = await on.asked_and_posted("How shall I deploy?", options=["canary", "all at once"])
        await on.press(reply, "all at once")
        assert await on.decided() == [("decided", "all at once", "alice", "")]
        agent.ask("Really?", "really")
        await on.press(await on.asks("Really?"), "Deny")
        assert "Really?" in str(await on.slack.dialogue())
        await on.slack.send_dialogue(comment={"text": {"value": "not today"}})
        assert ("decided", "deny", "alice", "not today") in await on.decided()
        root = await on.root()
        await on.press(root, "Show more")
        assert "Deploy the shop" in str(await on.slack.dialogue())
        await on.press(root, "Mute")
        await on.press(root, "Stop")
        assert [act[:2] for act in await on.acts()] == [
            ("choose", "done"),
            ("deny", "done"),
            ("mute", "done"),
            ("cancel", "done"),
        ]


async def test_a_long_question_is_read_whole_and_then_decided(dsn: str, tmp_path: Path) -> None:
    """A forged Approve opens a long question whole; a reworded question voids the dialogue, a read one counts."""
    async with street(dsn, tmp_path) as on:
        plan = "\n".join(f"{n}. drain host-{n}" for n in range(200)) + "\nand DROP-ALL-DATABASES"
        agent, reply = await on.asked_and_posted("Roll it out?", detail=plan)
        ((key,),) = await on.rows("SELECT key::text FROM approvals")
        for message in (reply, await on.root()):
            await on.slack.press(message, "spanpost:approve", key)
            assert "DROP-ALL-DATABASES" in str(await on.slack.dialogue())
        assert await on.acts() == []
        agent.ask("Roll it out now?", detail=plan)
        await eventually_async(
            lambda: on.rows("SELECT 1 FROM approvals WHERE state = 'void'"), lambda rows: len(rows) == 1
        )
        chosen = {"selected_option": {"value": "approve"}}
        await on.slack.send_dialogue(choice={"choice": chosen}, comment={"text": {"value": ""}})
        assert [act[:2] for act in await on.acts()] == [("approve", "void")]
        assert "other words" in str(await on.slack.dialogue())
        await on.press(await on.asks("Roll it out now?"), "Read it whole and decide")
        assert "host-199" in str(await on.slack.dialogue())
        await on.slack.send_dialogue(choice={"choice": chosen}, comment={"text": {"value": "slowly"}})
        assert ("decided", "approve", "alice", "slowly") in await on.decided()


async def test_what_is_hidden_is_denied(dsn: str, tmp_path: Path) -> None:
    """A question whose part imitates a redacted secret has no Approve, and a forged one decides nothing."""
    async with street(dsn, tmp_path) as on:
        key = "-----BEGIN PRIVATE KEY----- DROP-ALL-TABLES -----END PRIVATE KEY-----"
        _, reply = await on.asked_and_posted("Rotate the key?", detail=key)
        ((row,),) = await on.rows("SELECT key::text FROM approvals")
        await on.shows("Part of this question is hidden")
        await on.slack.press(reply, "spanpost:approve", row)
        assert "Part of this question is hidden" in str(await on.slack.dialogue())
        await on.slack.send_dialogue(
            choice={"choice": {"selected_option": {"value": "approve"}}}, comment={"text": {"value": "no"}}
        )
        assert [row[:3] for row in await on.decided()] == [("decided", "deny", "alice")]


@pytest.mark.proves("bound-to-words", "foreign-action")
async def test_asked_in_other_words_old_buttons_are_void(dsn: str, tmp_path: Path) -> None:
    """A press on the old wording's button decides nothing, with a message."""
    async with street(dsn, tmp_path) as on:
        agent, reply = await on.asked_and_posted("Shall I deploy?")
        ((key,),) = await on.rows("SELECT key::text FROM approvals")
        agent.ask("Shall I deploy and drop the tables?")
        await eventually_async(
            lambda: on.rows("SELECT 1 FROM approvals WHERE state = 'void'"), lambda rows: len(rows) == 1
        )
        await on.slack.press(reply, "spanpost:approve", key)
        assert "other words" in (await on.slack.whispered())[0]
        assert [act[:2] for act in await on.acts()] == [("approve", "void")]


@pytest.mark.proves("stored-first", "gateway-killed")
async def test_killed_before_the_click(dsn: str, tmp_path: Path) -> None:
    """A click while the gateway is down has no effect and Slack shows it; clicked again after the start it counts."""
    async with street(dsn, tmp_path) as on:
        agent, reply = await on.question()
        await on.rest()
        on.gateway.kill()
        await on.press(reply, "Approve")
        assert await on.acts() == []
        on.gateway.start()
        await on.slack.connected(2)
        await on.press(reply, "Approve")
        assert await asyncio.to_thread(agent.goes_on) == "approve alice"
        await on.shows("Approved by")


@pytest.mark.proves("stored-first", "gateway-killed")
async def test_killed_before_the_commit(dsn: str, tmp_path: Path) -> None:
    """A click whose process is killed before the commit changes nothing; clicked again it counts once."""
    async with street(dsn, tmp_path) as on:
        agent, reply = await on.question()
        await on.rest()
        holder = await asyncpg.connect(dsn)
        hold = holder.transaction()
        await hold.start()
        await holder.execute("SELECT FROM approvals FOR UPDATE")
        pressing = asyncio.create_task(on.press(reply, "Approve"))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await eventually_async(lambda: on.rows(waits), lambda rows: len(rows) > 0)
        on.gateway.kill()
        await pressing
        await hold.rollback()
        await holder.close()
        on.gateway.start()
        await on.slack.connected(2)
        await on.press(reply, "Approve")
        assert await asyncio.to_thread(agent.goes_on) == "approve alice"
        assert [act[1] for act in await on.acts()].count("done") == 1
        await on.shows("Approved by")


@pytest.mark.proves("stored-first", "gateway-killed")
async def test_killed_after_the_commit(dsn: str, tmp_path: Path) -> None:
    """A committed click counts although Slack got no answer: the next process answers the agent and Slack."""
    async with street(dsn, tmp_path) as on:
        agent, reply = await on.question()
        await on.rest()
        ((key,),) = await on.rows("SELECT key::text FROM approvals")
        pressing = asyncio.create_task(on.press(reply, "Approve"))
        while not [row for row in await on.decided() if row[0] == "decided"]:
            pass
        on.gateway.kill()
        await pressing
        # A delivery may have been under way already; its lease is another test's.
        await on.database.execute(
            "UPDATE ordering_keys SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL"
        )
        on.gateway.start()
        await on.slack.connected(2)
        assert await asyncio.to_thread(agent.goes_on) == "approve alice"
        await on.shows("Approved by")
        await on.slack.press(reply, "spanpost:approve", key)
        assert "Already approved by alice" in (await on.slack.whispered())[0]
        assert [act[:2] for act in await on.acts()] == [("approve", "done"), ("approve", "decided")]


@pytest.mark.proves("first-stands", "socket-mode")
async def test_twenty_clicks_and_three_gateways(dsn: str, tmp_path: Path) -> None:
    """Each of three processes receives each of twenty clicks: twenty rows, one decision, one checkpoint of
    it.
    """
    async with street(dsn, tmp_path, gateways=3) as on:
        _, reply = await on.asked_and_posted("Shall I deploy?")
        ((key,),) = await on.rows("SELECT key::text FROM approvals")
        for _ in range(20):
            await on.slack.press(reply, "spanpost:approve", key)
        acts = await eventually_async(on.acts, lambda acts: len(acts) == 20)
        assert sorted(act[1] for act in acts) == ["decided"] * 19 + ["done"]
        assert await on.rows("SELECT count(*) FROM agent_checkpoints WHERE kind = 'approval_resolved'") == [(1,)]
