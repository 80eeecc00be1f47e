"""An agent asks, a person presses, the answer stands: agent, gateway, PostgreSQL and a Slack that others wrote, as processes.

The gateway is killed at each point between; whatever point that is, there is one answer, and Slack shows it. About a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.asking_agent import AskingAgent
from tests.acceptance.gateways import Gateway
from tests.conftest import find, fresh_database, made_server
from tests.desk.local_slack import ALICE, APP_TOKEN, BOB, BOT_TOKEN, CHANNEL, SECRET, LocalSlack, free_port, run_local_slack, until

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "local-slack")]

RULES = f"""
[[desk.rules]]
actions = ["decide", "cancel"]
users = ["{ALICE}"]

[[desk.rules]]
actions = ["message", "view", "mute"]
channels = ["here"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with made_server(Path(find("postgres"))) as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    with fresh_database(server) as made:
        yield made


class Street:
    """Gateways, a Slack, and the database between them."""

    def __init__(self, gateways: list[Gateway], slack: LocalSlack, database: asyncpg.Connection) -> None:
        self.gateways, self.slack, self.database = gateways, slack, database

    @property
    def gateway(self) -> Gateway:
        return self.gateways[0]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.database.fetch(sql)]

    async def acts(self) -> list[tuple[Any, ...]]:
        """Return what people did and what became of it, in order."""
        return await self.rows("SELECT verb, result, actor FROM human_interventions WHERE once IS NOT NULL ORDER BY number")

    async def question(self, **more: Any) -> tuple[AskingAgent, str, str]:
        """Have an agent ask; return it, the question's key, and the task's message once Slack shows the question."""
        agent = AskingAgent(self.gateway.url).start().ask("Shall I deploy?", **more)
        ((key,),) = await until(
            lambda: self.rows("SELECT key::text FROM approvals WHERE state = 'open'"), lambda rows: len(rows) == 1
        )
        shown = await until(self.slack.messages, lambda messages: any(m.get("thread_ts") and "deploy?" in str(m) for m in messages))
        return agent, key, shown[0]["ts"]

    async def decided(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT state, decision, by, comment FROM approvals")

    async def shows(self, word: str) -> None:
        """Wait until a message says it."""
        await until(self.slack.messages, lambda messages: any(word in str(m) for m in messages if "ephemeral_to" not in m))

    async def rest(self) -> None:
        """Wait until no letter is under way: one that is when its process is killed waits for a minute."""
        await until(lambda: self.rows("SELECT 1 FROM deliveries WHERE state = 'sending'"), lambda rows: not rows)

    async def connected(self, count: int = 1) -> None:
        """Wait until so many processes are connected to Slack, over its life."""

        async def log() -> int:
            async with self.slack._session.get(f"{self.slack.url}/_control/log") as answer:
                return sum("hello" in one["summary"] for one in (await answer.json())["log"])

        await until(log, lambda seen: seen >= count)


@asynccontextmanager
async def street(dsn: str, directory: Path, *, gateways: int = 1, is_http: bool = False, port: int = 0) -> AsyncIterator[Street]:
    (directory / "spanpost.toml").write_text(RULES)
    port = free_port()
    environment = {
        "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
        "SPANPOST_SLACK__CHANNEL": CHANNEL,
        "SPANPOST_SLACK__SETTLE": "1",
        "SPANPOST_SLACK__BASE_URL": f"http://127.0.0.1:{port}/api/",
        **({"SPANPOST_DESK__SIGNING_SECRET": SECRET} if is_http else {"SPANPOST_DESK__APP_TOKEN": APP_TOKEN}),
    }
    made = [Gateway(dsn, directory, **environment) for _ in range(gateways)]
    database = await asyncpg.connect(dsn)
    try:
        with run_local_slack(directory, f"{made[0].url}/slack/events" if is_http else "", port) as url:
            slack = LocalSlack(url)
            opened = Street(made, slack, database)
            if not is_http:
                await opened.connected(gateways)
            yield opened
            await slack.close()
    finally:
        await database.close()
        for gateway in made:
            gateway.stop()


@pytest.mark.parametrize("is_http", [False, True], ids=["socket mode", "http"])
async def test_a_question_is_answered_in_slack(dsn: str, tmp_path: Path, is_http: bool) -> None:
    """Bob is refused and Alice decides; both are rows; Slack shows who decided; a reply in the thread is a message to the agent."""
    async with street(dsn, tmp_path, is_http=is_http) as on:
        _, key, root = await on.question()
        news = next(m for m in await on.slack.messages() if m.get("thread_ts"))
        await on.slack.press(news["ts"], "spanpost:approve", key, BOB)
        assert f"<@{ALICE}>" in (await on.slack.whispered(BOB))[0]
        await on.slack.press(root, "spanpost:approve", key)
        assert await on.decided() == [("decided", "approve", "alice", "")]
        await on.slack.press(root, "spanpost:deny", key)
        assert await on.slack.dialogue() is not None  # it may be answered late, and is then told that it is
        await on.slack.say("and tell me when it is done", root)
        await until(on.acts, lambda acts: len(acts) == 3)
        assert await on.acts() == [("approve", "refused", "bob"), ("approve", "done", "alice"), ("message", "done", "alice")]
        await on.shows("alice")
        page = on.gateway.log
        for secret in (BOT_TOKEN, APP_TOKEN, SECRET, "tell me when"):
            assert secret not in page


async def test_options_comments_and_cancel(dsn: str, tmp_path: Path) -> None:
    """An option of the agent is taken by its number; a task is cancelled; a denial carries its comment."""
    async with street(dsn, tmp_path) as on:
        agent, key, root = await on.question(options=["canary", "all at once"])
        await on.slack.press(root, "spanpost:choose:1", key)
        assert await on.decided() == [("decided", "all at once", "alice", "")]
        ((uid,),) = await on.rows("SELECT uid::text FROM agent_tasks")
        await on.slack.press(root, "spanpost:cancel", uid)
        agent.ask("Really?", "really")
        ((again,),) = await until(
            lambda: on.rows("SELECT key::text FROM approvals WHERE state = 'open'"), lambda rows: len(rows) == 1
        )
        await on.slack.press(root, "spanpost:deny", again)
        await on.slack.send_dialogue(comment={"text": {"value": "not today"}})
        assert ("decided", "deny", "alice", "not today") in await on.decided()
        assert [act[:2] for act in await on.acts()] == [("choose", "done"), ("cancel", "done"), ("deny", "done")]


async def test_asked_in_other_words_old_buttons_are_void(dsn: str, tmp_path: Path) -> None:
    """A press on the old wording's button decides nothing and says so."""
    async with street(dsn, tmp_path) as on:
        agent, key, root = await on.question()
        agent.ask("Shall I deploy and drop the tables?")
        await until(lambda: on.rows("SELECT 1 FROM approvals WHERE state = 'void'"), lambda rows: len(rows) == 1)
        await on.slack.press(root, "spanpost:approve", key)
        assert "other words" in (await on.slack.whispered())[0]
        assert [act[:2] for act in await on.acts()] == [("approve", "void")]


async def test_killed_before_it_could_hear(dsn: str, tmp_path: Path) -> None:
    """A click while nobody listens is lost, as Slack shows; pressed again after the start it counts."""
    async with street(dsn, tmp_path) as on:
        _, key, root = await on.question()
        await on.rest()
        on.gateway.kill()
        await on.slack.press(root, "spanpost:approve", key)
        assert await on.acts() == []
        on.gateway.start()
        await on.connected(2)
        await on.slack.press(root, "spanpost:approve", key)
        assert await on.acts() == [("approve", "done", "alice")]
        await on.shows("alice")


async def test_killed_before_the_commit(dsn: str, tmp_path: Path) -> None:
    """A click that waited for the database when its process was killed changed nothing; pressed again it counts, once."""
    async with street(dsn, tmp_path) as on:
        _, key, root = await on.question()
        await on.rest()
        holder = await asyncpg.connect(dsn)
        hold = holder.transaction()
        await hold.start()
        await holder.execute("SELECT FROM approvals FOR UPDATE")
        pressing = asyncio.create_task(on.slack.press(root, "spanpost:approve", key))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await until(lambda: on.rows(waits), lambda rows: len(rows) > 0)
        on.gateway.kill()
        await pressing
        await hold.rollback()
        await holder.close()
        on.gateway.start()
        await on.connected(2)
        await on.slack.press(root, "spanpost:approve", key)
        acts = await on.acts()
        assert [act[1] for act in acts].count("done") == 1
        assert (await on.decided())[0][:3] == ("decided", "approve", "alice")
        await on.shows("alice")


async def test_killed_after_the_commit(dsn: str, tmp_path: Path) -> None:
    """What was committed stands though Slack was not answered: the next process shows it, and another answer is too late."""
    async with street(dsn, tmp_path) as on:
        _, key, root = await on.question()
        await on.rest()
        pressing = asyncio.create_task(on.slack.press(root, "spanpost:approve", key))
        while not [row for row in await on.decided() if row[0] == "decided"]:
            pass
        on.gateway.kill()
        await pressing
        # A letter may have been under way already; what it holds until then is another test's.
        await on.database.execute("UPDATE lanes SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL")
        on.gateway.start()
        await on.connected(2)
        await on.shows("alice")
        await on.slack.press(root, "spanpost:approve", key)
        assert "Already approved by alice" in (await on.slack.whispered())[0]
        assert [act[:2] for act in await on.acts()] == [("approve", "done"), ("approve", "decided")]


async def test_twenty_clicks_and_three_gateways(dsn: str, tmp_path: Path) -> None:
    """Each of three processes hears each of twenty clicks: twenty rows, one decision, one news of it."""
    async with street(dsn, tmp_path, gateways=3) as on:
        _, key, root = await on.question()
        for _ in range(20):
            await on.slack.press(root, "spanpost:approve", key)
        acts = await until(on.acts, lambda acts: len(acts) == 20)
        assert sorted(act[1] for act in acts) == ["decided"] * 19 + ["done"]
        told = await on.rows("SELECT count(*) FROM agent_checkpoints WHERE kind = 'approval_resolved'")
        assert told == [(1,)]
