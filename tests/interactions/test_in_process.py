"""Interactions in an agent's own process, without database or gateway; and the findings of `spanpost check`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.cli.examination import examine
from spanpost.settings import load
from tests.conftest import ROOT
from tests.eventually import eventually_async
from tests.interactions.local_slack import ALICE, APP_TOKEN, BOT_TOKEN, CHANNEL, LocalSlack, run_local_slack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("local-slack")]

AGENT = """
import asyncio, json, sys, spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import approval

async def main():
    async with agent_task("Water the plants", agent="gardener"):
        decision = await approval("Now?", id="now")
        print(decision.decision, decision.by, flush=True)

app = spanpost.attach(**json.loads(sys.argv[1]))
asyncio.run(main())
app.shutdown(10)
"""


@pytest.fixture(scope="module")
def slack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_local_slack(tmp_path_factory.mktemp("slack")) as url:
        yield url


def sections(url: str, **interactions: Any) -> dict[str, Any]:
    rules = [{"actions": ["decide"], "users": [ALICE]}]
    return {
        "slack": {"token": BOT_TOKEN, "base_url": f"{url}/api/", "channel": CHANNEL},
        "interactions": {"app_token": APP_TOKEN, "rules": rules, "comments": "always"} | interactions,
    }


def started(url: str, directory: Path) -> subprocess.Popen[str]:
    """Start the agent."""
    command = [sys.executable, "-c", AGENT, json.dumps(sections(url))]
    environment = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(directory)}
    return subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
async def test_an_agent_alone_gets_its_persons_answer(slack_url: str, clean_environment: Path) -> None:
    """With `attach()` and two tokens a question in Slack is answered with a comment, and the agent continues."""
    slack = LocalSlack(slack_url)
    await slack.reset()
    agent = started(slack_url, clean_environment)
    try:
        shown = await eventually_async(
            slack.messages, lambda found: [m for m in found if m.get("thread_ts") and "spanpost:approve" in str(m)]
        )
        (asks,) = [m for m in shown if m.get("thread_ts") and "spanpost:approve" in str(m)]
        await slack.connected()
        (button,) = [e for b in asks["blocks"] for e in b["elements"] if e.get("action_id") == "spanpost:approve"]
        await slack.press(asks["ts"], button["action_id"], button["value"])
        await slack.send_dialogue(comment={"text": {"value": "gently"}})
        said, _ = await asyncio.to_thread(agent.communicate, timeout=60)
        assert said.strip() == "approve alice"
        assert agent.returncode == 0
    finally:
        agent.kill()
        await slack.close()


def found(**given: Any) -> list[tuple[bool, str]]:
    return [(one.ok, one.finding) for one in examine(load(**given)) if one.name == "interactions"]


def test_check_looks_at_interactions(slack_url: str, clean_environment: Path) -> None:
    """Check reports the token's owner, whether Socket Mode can be used, and missing rules."""
    findings = found(**sections(slack_url))
    assert (True, "the bot token is spanpost of Acme") in findings
    assert (True, "Socket Mode can be used") in findings
    assert any("no rule names cancel" in finding for _, finding in findings)
    assert found(**sections(slack_url, rules=()))[0] == (False, "no rule allows anything, so every act is refused")


def test_check_names_what_is_missing(clean_environment: Path) -> None:
    """No way to receive, no bot token, and an unreachable Slack are findings, not tracebacks."""
    assert found(interactions={"rules": []})[0][0] is False
    assert "SPANPOST_SLACK__TOKEN" in found(interactions={"app_token": APP_TOKEN})[0][1]
    away = found(**sections("http://127.0.0.1:9"))
    assert (False, "the bot token cannot be used: no answer (ClientConnectorError)") in away


def test_without_interactions_there_is_no_finding(clean_environment: Path) -> None:
    """Without settings of interactions check says nothing about them."""
    assert found() == []
