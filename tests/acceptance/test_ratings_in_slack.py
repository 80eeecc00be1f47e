"""A person rates a finished task in Slack: gateway, PostgreSQL and an independent fake of Slack."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.test_answers_from_slack import street
from tests.eventually import eventually_async
from tests.interactions.local_slack import ALICE, BOB

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "local-slack")]

RULES = f"""
[[interactions.rules]]
actions = ["rate", "view"]
users = ["{ALICE}"]
"""


def a_finished_task() -> dict[str, Any]:
    """Return an export request with one task that ended well."""
    end = time.time_ns()
    said = {"agent.task.name": "Tidy up", "agent.task.id": "tidy-1", "agent.status": "complete"}
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "agent",
        "kind": 1,
        "startTimeUnixNano": str(end - 1_000_000_000),
        "endTimeUnixNano": str(end),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items()],
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


async def test_a_finished_task_is_rated_in_slack(dsn: str, tmp_path: Path) -> None:
    """Bob is refused, Alice rates down with a comment and then up: the rows and the details say so."""
    async with street(dsn, tmp_path, rules=RULES) as on:
        async with aiohttp.ClientSession() as sender:
            answer = await sender.post(f"{on.gateway.url}/v1/traces", json=a_finished_task())
            assert answer.status == 200
        await on.shows("Tidy up")
        root = await on.root()
        await on.press(root, "👎", BOB)
        assert "rate" in (await on.slack.whispered(BOB))[0]
        await on.press(root, "👎")
        assert "Rate this 👎" in str(await on.slack.dialogue())
        await on.slack.send_dialogue(comment={"text": {"type": "plain_text_input", "value": "the wrong file"}})
        await on.press(root, "👍")
        # This Slack shows no change of attachments: that the message was edited is all that can be seen.
        await eventually_async(on.slack.messages, lambda shown: any(m["ts"] == root and m.get("edited") for m in shown))
        await on.press(root, "Show more")
        await eventually_async(on.slack.dialogue, lambda view: "👍 alice" in str(view))
        rows = await eventually_async(
            lambda: on.rows('SELECT source, label, explanation, "by" FROM evaluations ORDER BY at'),
            lambda r: len(r) == 2,
        )
        assert rows == [("person", "down", "the wrong file", "alice"), ("person", "up", "", "alice")]
        assert await on.acts() == [("rate", "refused", "bob"), ("rate", "done", "alice"), ("rate", "done", "alice")]
