"""Every act from every endpoint: a gateway, PostgreSQL, local-slack, Chromium, an MCP client and the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from mcp import ClientSession

from spanpost.text.locales import ENGLISH
from tests.acceptance.everywhere import ACTS, FEW, RECORDED, Site, impossible, settings, token_of, try_all
from tests.acceptance.gateways import Gateway
from tests.conftest import find
from tests.eventually import free_port
from tests.interactions.api.assistant import with_session
from tests.interactions.board.conftest import ARGUMENTS
from tests.interactions.local_slack import APP_TOKEN, BOT_TOKEN, CHANNEL, LocalSlack, run_local_slack

pytestmark = [
    pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "local-slack", "chromium"),
]  # fmt: skip


async def test_every_act_works_from_every_endpoint(dsn: str, tmp_path: Path) -> None:
    """Each act takes effect from each endpoint: the agent sees it, and one row names the person and the source. What
    is impossible has the same words with the next step everywhere.

    The results are those of the page docs/reference/acts.md. SPANPOST_TEST_ACTS=1 tries all acts, not `FEW` of them;
    SPANPOST_RECORD_ACTS=1 records the results of all anew.
    """
    from playwright.async_api import async_playwright

    acts = ACTS if os.environ.get("SPANPOST_TEST_ACTS") or os.environ.get("SPANPOST_RECORD_ACTS") else FEW
    (tmp_path / "spanpost.toml").write_text(settings(tmp_path))
    port = free_port()
    environment = {
        "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
        "SPANPOST_SLACK__CHANNEL": CHANNEL,
        "SPANPOST_SLACK__BASE_URL": f"http://127.0.0.1:{port}/api/",
        "SPANPOST_INTERACTIONS__APP_TOKEN": APP_TOKEN,
    }
    with run_local_slack(tmp_path, "", port) as url:
        gateway = Gateway(dsn, tmp_path, **environment)
        slack = LocalSlack(url)
        try:
            await slack.connected()
            async with (
                async_playwright() as player,
                asyncpg.create_pool(dsn, min_size=1, max_size=4) as database,
                httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
            ):
                browser = await player.chromium.launch(executable_path=find("chromium"), args=ARGUMENTS)
                context = await browser.new_context(base_url=gateway.url)
                context.set_default_timeout(60_000)
                await context.add_init_script(f"sessionStorage.setItem('spanpost.token', '{token_of('board')}')")

                async def talk(session: ClientSession) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
                    site = Site(gateway.url, dsn, tmp_path, database, slack, context, session, client)
                    return await try_all(site, acts), await impossible(site)

                command = (sys.executable, "-c", "import sys; from spanpost.cli import main; sys.exit(main())")
                found, refused = await with_session(command, gateway.url, token_of("mcp"), talk, "--allow-acts")
                await browser.close()
        finally:
            await slack.close()
            gateway.stop()
    if os.environ.get("SPANPOST_RECORD_ACTS"):
        RECORDED.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())
    assert found == {act: recorded[act] for act in acts}
    assert set(recorded) == set(ACTS)
    assert {result for row in found.values() for result in row.values()} == {"yes"}
    for act, key in (("cancel", "interactions.too_late"), ("retry", "interactions.nobody_listens")):
        sentence = ENGLISH.say(key)
        assert {name for name, words in refused[act].items() if sentence not in " ".join(words.split())} == set()
        assert len(refused[act]) == 5
