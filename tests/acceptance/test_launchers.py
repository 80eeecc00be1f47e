"""Work is launched from Slack and by webhooks: agents, gateways, PostgreSQL and an independent fake of Slack.

However often and through however many processes work is requested, and whichever is killed, it starts once.
About a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.asking_agent import AskingAgent
from tests.acceptance.gateway_process import request
from tests.acceptance.gateways import run_gateway
from tests.acceptance.test_answers_from_slack import Street, street
from tests.conftest import ROOT
from tests.eventually import eventually_async, free_port
from tests.interactions.local_slack import ALICE, BOB, BOT

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]

#: An agent that a launcher starts: it writes down its order, and runs as a separate task.
AGENT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
with open(sys.argv[2], "a") as runs:
    runs.write(os.environ["SPANPOST_ORDER"] + "\\n")
import spanpost
from spanpost.agent import agent_task
spanpost.attach(endpoint=sys.argv[3])
with agent_task(sys.argv[4], agent="fixer") as task:
    task.checkpoint("at it again")
spanpost.flush(10)
"""


class Shop:
    """A place where agents start and write down their orders."""

    def __init__(self, directory: Path) -> None:
        self.runs = directory / "runs"
        self.runs.touch()
        self._agent = directory / "agent.py"
        self._agent.write_text(AGENT)

    def launcher(self, url: str) -> str:
        """Return the settings of a launcher whose agents report there."""
        command = [sys.executable, str(self._agent), str(ROOT / "src"), str(self.runs), url, "{text}"]
        return f"""
[launchers.named.fix]
kind = "command"
command = {json.dumps(command)}
pass_environment = ["PYTHONPATH"]
background = true
timeout = 60

[[launchers.retries]]
launcher = "fix"
agent = "deployer"
"""

    def orders(self) -> list[dict[str, Any]]:
        """Return the orders of started agents, in order."""
        return [json.loads(line) for line in self.runs.read_text().splitlines()]

    async def started(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many were."""
        return await eventually_async(self.orders, lambda orders: len(orders) >= count)


RULES = f"""
[[interactions.rules]]
actions = ["retry", "cancel"]
users = ["{ALICE}"]
"""


async def _failed(on: Street, name: str = "Deploy the shop") -> str:
    """Let a task fail; return its message when that shows it. (This Slack shows a message's first buttons
    for ever.)
    """
    agent = AskingAgent(on.gateway.url, name, **{"agent.name": "deployer"}).start()
    agent.tell("agent.checkpoint", agent__checkpoint__message="no", agent__status="error")

    async def found() -> list[str]:
        roots = [m for m in await on.slack.messages() if not m.get("thread_ts")]
        return [m["ts"] for m in roots if ": failed" in m["text"]]

    return str((await eventually_async(found, bool))[0])


@pytest.mark.needs("local-slack")
async def test_a_retry_is_started_once(dsn: str, tmp_path: Path) -> None:
    """Twenty clicks on Retry in three processes make one order, one agent and one task that names its original."""
    shop = Shop(tmp_path)
    port = free_port()
    rules = RULES + shop.launcher(f"http://127.0.0.1:{port}")
    async with street(dsn, tmp_path, gateways=3, rules=rules, http=port) as on:
        ts = await _failed(on)
        ((key, failed),) = await on.rows("SELECT uid::text, task_id FROM agent_tasks")
        await on.slack.press(ts, "spanpost:retry", key, BOB)
        assert f"<@{ALICE}>" in (await on.slack.whispered(BOB))[0]
        for _ in range(20):
            await on.slack.press(ts, "spanpost:retry", key)
        acts = await eventually_async(on.acts, lambda acts: len(acts) == 21)
        assert sorted(act[1] for act in acts) == [*["decided"] * 19, "done", "refused"]
        assert "tried again already" in (await on.slack.whispered())[0]
        [order] = await shop.started()
        assert (order["retry_of"], order["text"], order["requested_by"]) == (failed, "Deploy the shop", "alice")
        rows = "SELECT retry_of, order_id, status FROM agent_tasks WHERE agent_name = 'fixer'"
        assert await eventually_async(
            lambda: on.rows(rows), lambda found: [row[2] for row in found] == ["complete"]
        ) == [(failed, order["id"], "complete")]
        assert await on.rows("SELECT id::text, source FROM launch_orders") == [(order["id"], "slack")]
        await on.shows("etry of")
        assert len(shop.orders()) == 1


@pytest.mark.needs("local-slack")
async def test_a_command_and_a_mention_start_work(dsn: str, tmp_path: Path) -> None:
    """`/agents start` and a mention each start work once if the rule for `start` allows the person."""
    shop = Shop(tmp_path)
    port = free_port()
    rules = f'[[interactions.rules]]\nactions = ["start"]\nlauncher = "fix"\nusers = ["{ALICE}"]\n' + shop.launcher(
        f"http://127.0.0.1:{port}"
    )
    async with street(dsn, tmp_path, rules=rules, http=port) as on:
        await on.slack.command("start fix Mend the till", BOB)
        assert f"<@{ALICE}>" in (await on.slack.whispered(BOB))[0]
        await on.slack.command("start fix Mend the till")
        await on.slack.say(f"<@{BOT}> start fix Oil the door")
        orders = await shop.started(2)
        assert sorted((one["text"], one["requested_by"], one["source"]) for one in orders) == [
            ("Mend the till", "alice", "slack"), ("Oil the door", "alice", "slack"),
        ]  # fmt: skip
        rows = "SELECT name, order_id FROM agent_tasks WHERE status = 'complete' ORDER BY name"
        found = await eventually_async(lambda: on.rows(rows), lambda rows: len(rows) == 2)
        assert found == sorted((one["text"], one["id"]) for one in orders)
        assert sorted(act[:2] for act in await on.acts()) == [
            ("start", "done"),
            ("start", "done"),
            ("start", "refused"),
        ]
        await on.shows("Oil the door")
        assert len(shop.orders()) == 2


@pytest.mark.needs("local-slack")
async def test_killed_after_the_commit(dsn: str, tmp_path: Path) -> None:
    """A committed order starts although its process was killed: the next process uses the same order id."""
    shop = Shop(tmp_path)
    async with street(dsn, tmp_path, rules=RULES + shop.launcher("http://127.0.0.1:9")) as on:
        ts = await _failed(on)
        ((key,),) = await on.rows("SELECT uid::text FROM agent_tasks")
        await on.rest()
        pressing = asyncio.create_task(on.slack.press(ts, "spanpost:retry", key))
        while not await on.rows("SELECT 1 FROM launch_orders"):
            pass
        on.gateway.kill()
        await pressing
        # It may have been under way already; its lease is another test's.
        await on.database.execute(
            "UPDATE ordering_keys SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL"
        )
        on.gateway.start()
        await on.slack.connected(2)
        await shop.started()
        delivered = "SELECT state FROM deliveries WHERE sink = 'launch:fix'"
        assert await eventually_async(lambda: on.rows(delivered), lambda rows: rows == [("delivered",)])
        assert {order["id"] for order in shop.orders()} == {
            row[0] for row in await on.rows("SELECT id::text FROM launch_orders")
        }
        assert len({order["id"] for order in shop.orders()}) == 1


async def test_a_request_starts_an_agent(dsn: str, tmp_path: Path) -> None:
    """GitHub's signed request starts one agent, whose end starts the next by a rule; a replay starts none."""
    shop = Shop(tmp_path)
    port = free_port()
    hooks = """
[webhooks.providers.github]
scheme = "github"
secret = "hush, hush, hush"

[[webhooks.providers.github.does]]
when = {action = "labeled"}
start = "fix"
text = "Fix {issue.title}"

[[launchers.rules]]
name = "after"
agent = "fixer"
start = ["fix"]
text = "After {name}"
"""
    (tmp_path / "spanpost.toml").write_text(
        "[launchers]\nmax_depth = 2\n" + shop.launcher(f"http://127.0.0.1:{port}") + hooks
    )
    with run_gateway(dsn, tmp_path, http=port) as gateway:
        body = json.dumps({"action": "labeled", "issue": {"title": "the till"}, "at": time.time()}).encode()
        signature = "sha256=" + hmac.new(b"hush, hush, hush", body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-hub-signature-256": signature}
        url = f"http://127.0.0.1:{port}/hooks/github"
        assert request(url, body, **headers)[0] == 202
        assert request(url, body, **headers)[0] == 409
        assert request(url, body + b" ", **headers)[0] == 401
        orders = await shop.started(3)
        assert [order["text"] for order in orders] == ["Fix the till", "After Fix the till", "After After Fix the till"]
        assert [order["depth"] for order in orders] == [0, 1, 2]
        assert "a loop?" in await eventually_async(_log(gateway), lambda log: "a loop?" in log)
        assert len(shop.orders()) == 3


def _log(gateway: Any) -> Any:
    async def found() -> str:
        return str(gateway.log)

    return found
