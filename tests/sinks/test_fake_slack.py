"""The fake Slack refuses what Slack refuses, counts calls made too early, and serves other processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from spanpost.sinks.slack.blocks import card, context, plain, plan, rich, section, text
from spanpost.sinks.slack.calls import Response, SlackRequest
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack, Fault, Faults, Tiers
from spanpost.testing.fake_slack.rules import SlackError, content

HELLO = {"channel": "#agents", "text": "hello"}


@pytest.fixture
async def slack():
    async with FakeSlack() as fake:
        fake.api = WebApi(fake.token, base_url=fake.url)
        yield fake
        await fake.api.close()


async def ask(slack: FakeSlack, method: str, **arguments) -> Response:
    return await slack.api.call(SlackRequest(method=method, arguments=arguments))


def a_message(**fields) -> dict:
    return {"text": "x"} | fields


@pytest.mark.parametrize(
    ("method", "given", "error"),
    [
        ("chat.postMessage", {"text": "x"}, "channel_not_found"),
        ("chat.postMessage", {"channel": "#agents"}, "no_text"),
        ("chat.postMessage", {"channel": "#nowhere", "text": "x"}, "channel_not_found"),
        ("chat.postMessage", HELLO | {"colour": "red"}, "invalid_arguments"),
        ("chat.update", {"channel": "#agents", "ts": "1.1", "text": "x", "unfurl_links": False}, "invalid_arguments"),
        ("chat.update", {"channel": "#agents", "text": "x"}, "invalid_arguments"),
        ("chat.update", {"channel": "#agents", "ts": "1.1", "text": "x"}, "message_not_found"),
        ("chat.delete", {"channel": "#agents", "ts": "1.1"}, "message_not_found"),
        ("conversations.replies", {"channel": "C000000001", "ts": "1.1"}, "thread_not_found"),
        ("conversations.history", {"channel": "#agents"}, "channel_not_found"),
        ("chat.whisper", {}, "unknown_method"),
    ],
)
async def test_calls_that_slack_refuses(slack, method, given, error):
    """Missing, unknown or wrong arguments are answered with Slack's error."""
    assert (await ask(slack, method, **given)).error == error


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (a_message(blocks=[plain("x")] * 51), "invalid_blocks"),
        (a_message(blocks=[{"type": "section", "text": {"type": "plain_text", "text": "x" * 3001}}]), "invalid_blocks"),
        (a_message(blocks=[{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]), "invalid_blocks"),
        (a_message(blocks=[{"type": "alert", "text": "x"}]), "invalid_blocks"),
        (a_message(blocks=[{"type": "context", "elements": [plain("x")["text"]] * 11}]), "invalid_blocks"),
        (a_message(blocks=[{"type": "rich_text", "elements": []}]), "invalid_blocks"),
        (a_message(blocks=[rich(section(text("x", link="javascript:alert(1)")))]), "invalid_blocks"),
        (a_message(blocks=[card("t", "a card", "pending")]), "invalid_blocks"),
        (a_message(blocks=[plan("Steps", [card("t", "a card", "cancelled")])]), "invalid_blocks"),
        (a_message(blocks="{"), "invalid_blocks_format"),
        (a_message(blocks=[plain("x" * 2900)] * 5), "msg_blocks_too_long"),
        (a_message(attachments=[{}] * 101), "too_many_attachments"),
        (a_message(metadata={"event_type": "x"}), "invalid_metadata_format"),
        (a_message(metadata={"event_type": "x", "event_payload": {"k": "x" * 9000}}), "metadata_too_large"),
        ({"text": "x" * 4001}, "msg_too_long"),
    ],
)
def test_messages_that_slack_refuses(given, error):
    """Blocks, lengths, counts and metadata are judged by Slack's documented limits."""
    with pytest.raises(SlackError) as caught:
        content("chat.update", given)
    assert caught.value.code == error


def test_messages_that_slack_takes():
    """All parts of our rendering are accepted."""
    blocks = [
        rich(section(text("a", "bold"), text("b", link="https://example.com"))),
        plan("Steps", [card("t", "x", "pending", "y")]),
    ]
    shown = content("chat.update", a_message(blocks=[*blocks, context("x")], attachments=[{"blocks": [plain("y")]}]))
    assert len(shown["blocks"]) == 3


async def test_tokens_scopes_and_channels(slack):
    """No token, a wrong one, a missing scope, a private channel and one without the app each have their own
    error.
    """
    nobody, stranger = WebApi("x", base_url=slack.url), WebApi("xoxb-nobody", base_url=slack.url)
    assert (await stranger.call(SlackRequest(method="auth.test"))).error == "invalid_auth"
    slack.workspace.add_channel("secret", is_private=True, members=())
    slack.workspace.add_channel("open", members=())
    assert (await ask(slack, "chat.postMessage", channel="#secret", text="x")).error == "channel_not_found"
    assert (await ask(slack, "chat.postMessage", channel="#open", text="x")).error == "not_in_channel"
    assert (await ask(slack, "conversations.join", channel="#open")).body["ok"]
    assert (await ask(slack, "chat.postMessage", channel="#open", text="x")).body["ok"]
    slack.remove_scope("chat:write")
    refused = await ask(slack, "chat.postMessage", **HELLO)
    assert (refused.error, refused.body["needed"]) == ("missing_scope", "chat:write")
    assert "chat:write" not in (await ask(slack, "auth.test")).scopes
    for api in (nobody, stranger):
        await api.close()


async def test_people_buttons_and_whispers(slack):
    """A person sees the buttons of the newest messages, is a member, and alone sees a word meant for them."""
    button = {"type": "button", "action_id": "a", "value": "v", "text": {"type": "plain_text", "text": "Do"}}
    shown = [{"type": "actions", "block_id": "b", "elements": [button]}]
    ts = (await ask(slack, "chat.postMessage", **HELLO, blocks=shown)).body["ts"]
    [seen] = slack.workspace.buttons()
    assert (seen["ts"], seen["channel"], seen["action_id"], seen["value"]) == (ts, "C000000001", "a", "v")
    assert (await ask(slack, "users.info", user="U1")).body["user"]["team_id"] == "T0ACME"
    assert (await ask(slack, "chat.postEphemeral", **HELLO, user="U1")).body["ok"]
    assert slack.state()["whispers"] == [("C000000001", "U1", "hello")]
    assert len(slack.messages()) == 1


async def test_threads_and_tombstones(slack):
    """A reply is in its thread; a deleted parent with replies leaves a tombstone, without replies nothing."""
    first, second = [(await ask(slack, "chat.postMessage", **HELLO)).body["ts"] for _ in range(2)]
    reply = await ask(slack, "chat.postMessage", thread_ts=first, **HELLO)
    assert reply.body["message"]["thread_ts"] == first
    for ts in (first, second):
        slack.delete(ts)
        assert (await ask(slack, "chat.update", channel="#agents", ts=ts, text="x")).error == "message_not_found"
    beneath = await ask(slack, "chat.postMessage", thread_ts=first, **HELLO)
    stray = await ask(slack, "chat.postMessage", thread_ts=second, **HELLO)
    assert beneath.body["message"]["thread_ts"] == first
    assert "thread_ts" not in stray.body["message"]
    assert [m["ts"] for m in slack.messages()] == [stray.body["ts"]]
    assert len(slack.thread(first)) == 2


async def test_each_message_has_a_ts_of_its_own(slack):
    """Messages after its clock was set back have rising positions, as Slack's have."""
    places = [(await ask(slack, "chat.postMessage", **HELLO)).body["ts"]]
    slack.ahead = -3600
    places += [(await ask(slack, "chat.postMessage", **HELLO)).body["ts"] for _ in range(60)]
    assert places == sorted(set(places))


async def test_history_is_paged_newest_first(slack):
    """Pages follow one another by cursor, newest first, bounded by time; metadata comes on request."""
    stamps = [slack.workspace.say("#agents", str(i), metadata={"event_type": "x"}) for i in range(5)]
    channel = slack.workspace.channel("agents").id
    seen, cursor = [], ""
    while True:
        body = (
            await ask(slack, "conversations.history", channel=channel, limit=2, oldest=stamps[0], cursor=cursor)
        ).body
        seen += [m["ts"] for m in body["messages"]]
        assert all("metadata" not in m for m in body["messages"])
        cursor = body["response_metadata"]["next_cursor"]
        if not cursor:
            break
    assert seen == stamps[:0:-1]


def test_tiers_keep_account_of_who_did_not_wait():
    """A throttled method refuses calls until its time, notes those made too early, then accepts them."""
    now = [1000.0]
    tiers = Tiers({"chat.update": 60}, lambda: now[0])
    assert [tiers.refuse("chat.update") for _ in range(60)] == [None] * 60
    assert tiers.refuse("chat.update") == 1
    now[0] += 0.4
    assert tiers.refuse("chat.update") == 1
    assert [(e.method, round(e.since, 3), round(e.left, 3)) for e in tiers.early] == [("chat.update", 0.4, 0.6)]
    assert tiers.refuse("chat.postMessage") is None
    now[0] += 0.7
    assert tiers.refuse("chat.update") is None


def test_dice_fall_as_the_seed_says():
    """The same seed gives the same faults, in about the given shares; a script goes first."""
    odds = {"posts": {Fault.RESET_AFTER: 0.2, Fault.THROTTLE: 0.1}}
    dealt = []
    for _ in range(2):
        faults = Faults(odds, seed=5)
        faults.script("chat.postMessage", [None, Fault.HTML_AFTER])
        dealt.append([faults.next("chat.postMessage") for _ in range(1000)])
        assert faults.next("chat.update") is None
    assert dealt[0] == dealt[1]
    assert dealt[0][:2] == [None, Fault.HTML_AFTER]
    assert 150 < dealt[0].count(Fault.RESET_AFTER) < 250


async def test_it_is_served_to_other_processes(tmp_path):
    """As a program it prints its address, does what people do on command, and leaves its state behind."""
    state = tmp_path / "slack.json"
    odds = json.dumps({"updates": {"500 before": 1.0}})
    command = [
        sys.executable,
        "-m",
        "spanpost.testing.fake_slack",
        "--state",
        str(state),
        "--odds",
        odds,
        "--channel",
        "other",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        url = process.stdout.readline().strip()
        api = WebApi("xoxb-fake-000000000000-spanpost", base_url=url)
        posted = await api.call(
            SlackRequest(method="chat.postMessage", arguments={"channel": "#other", "text": "hello"})
        )
        ts = posted.body["ts"]
        edit = SlackRequest(method="chat.update", arguments={"channel": "#other", "ts": ts, "text": "changed"})
        assert (await api.call(edit)).status == 500
        control = WebApi("", base_url=url.removesuffix("api/"))
        for arguments in ({"do": "clear_faults"}, {"do": "set", "stale": 5}, {"do": "archive", "channel": "#agents"}):
            assert (await control.call(SlackRequest(method="_control", arguments=arguments))).body["ok"]
        assert (await api.call(edit)).body["ok"]
        assert (await api.call(SlackRequest(method="chat.postMessage", arguments=HELLO))).error == "is_archived"
        await api.close()
        await control.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    left = json.loads(state.read_text())
    assert [m["text"] for m in left["channels"]["other"]] == ["changed"]
    assert left["faults"] == {"500 before": 1}
    assert [call["became"] for call in left["calls"]] == ["ok", "500 before", "ok", "is_archived"]
