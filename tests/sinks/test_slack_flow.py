"""The rules of posting: driven without a network, as the sink drives them."""

from __future__ import annotations

import io
import json

import pytest
from msgspec.structs import replace

from spanpost.domain.checkpoints import Kind
from spanpost.domain.deliveries import Receipt
from spanpost.domain.errors import Rejected, Throttled, Unavailable, Unknown
from spanpost.sinks.slack import flow
from spanpost.sinks.slack.flow import Request, Response
from spanpost.sinks.slack.sink import Preview, SlackSink
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task

POSTED = Response(body={"ok": True, "channel": "C1", "ts": "1.1"})
ROOT = Receipt(ref={"channel": "C1", "ts": "1.1", "mark": "old"})


def drive(delivery, *answers: Response) -> tuple[list[Request], Receipt]:
    """Play Slack: answer each request with the next answer."""
    asked: list[Request] = []
    steps = flow.deliver(delivery, channel="#agents")
    try:
        asked.append(next(steps))
        for answer in answers:
            asked.append(steps.send(answer))
    except StopIteration as done:
        return asked, done.value
    raise AssertionError("the flow wants more answers")


def test_a_state_is_posted_first_and_edited_then():
    """Without a receipt it is posted to the channel; with one, edited where the receipt says, in the channel's id."""
    asked, receipt = drive(a_delivery(), POSTED)
    assert [(r.method, r.arguments["channel"], r.arguments["unfurl_links"]) for r in asked] == [
        ("chat.postMessage", "#agents", False)
    ]
    assert (receipt.ref["channel"], receipt.ref["ts"]) == ("C1", "1.1")
    asked, receipt = drive(a_delivery(a_task(status="complete"), lane_receipt=receipt), POSTED)
    assert [(r.method, r.arguments["channel"], r.arguments["ts"]) for r in asked] == [("chat.update", "C1", "1.1")]
    assert "unfurl_links" not in asked[0].arguments  # chat.update has no such argument


def test_an_unchanged_state_is_not_sent_unless_in_doubt():
    """The same rendering costs no call; after doubt it is sent again, because the visible text may be old."""
    _, receipt = drive(a_delivery(), POSTED)
    asked, again = drive(a_delivery(lane_receipt=receipt))
    assert (asked, again.ref, again.skipped) == ([], receipt.ref, "unchanged")
    asked, _ = drive(a_delivery(lane_receipt=receipt, is_unknown=True), POSTED)
    assert [r.method for r in asked] == ["chat.update"]


def test_news_is_a_reply_in_the_thread():
    """News goes beneath the root message, marked with its own key."""
    checkpoint = a_checkpoint()
    asked, receipt = drive(
        a_delivery(a_task(), checkpoint, lane_receipt=ROOT), Response(body={"ok": True, "channel": "C1", "ts": "2.2"})
    )
    arguments = asked[0].arguments
    assert (arguments["channel"], arguments["thread_ts"]) == ("C1", "1.1")
    assert arguments["metadata"]["event_payload"] == {"k": str(checkpoint.id)}
    assert receipt.ref["ts"] == "2.2"


def test_news_without_a_message_waits():
    """There is no thread before the root message: nothing is posted, later it is tried again."""
    with pytest.raises(Unavailable) as caught:
        drive(a_delivery(a_task(), a_checkpoint()))
    assert caught.value.reason == "no_root"


def test_the_start_of_a_root_needs_no_reply():
    """A root task's start is its message; a sub-agent's start is news."""
    start = a_checkpoint(kind=Kind.START)
    asked, receipt = drive(a_delivery(a_task(), start, lane_receipt=ROOT))
    assert asked == []
    assert receipt.skipped
    child = a_task("c", root_uid=a_task().uid)
    asked, _ = drive(a_delivery(child, start, lane_receipt=ROOT), POSTED)
    assert [r.method for r in asked] == ["chat.postMessage"]


@pytest.mark.parametrize("delivery", [a_delivery(), a_delivery(a_task(), a_checkpoint(), lane_receipt=ROOT)], ids=["state", "news"])
def test_refused_blocks_are_tried_plain(delivery):
    """invalid_blocks is answered by the same message in plain sections, once, with the same marker and place."""
    asked, _ = drive(delivery, Response(body={"ok": False, "error": "invalid_blocks"}), POSTED)
    rich, plain = (r.arguments for r in asked)
    assert {b["type"] for b in plain["blocks"]} <= {"section", "context"}
    for same in ("channel", "metadata", "text"):
        assert rich[same] == plain[same]
    with pytest.raises(Rejected):
        drive(delivery, *[Response(body={"ok": False, "error": "invalid_blocks"})] * 2)


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (Response(status=429, retry_after=7), Throttled, "ratelimited"),
        (Response(body={"ok": False, "error": "ratelimited"}), Throttled, "ratelimited"),
        (Response(status=500), Unknown, "http_500"),
        (Response(status=503, body={"ok": False, "error": "service_unavailable"}), Unknown, "service_unavailable"),
        (Response(body={"ok": False, "error": "internal_error"}), Unknown, "internal_error"),
        (Response(body={}), Unknown, "bad_answer"),
        (Response(body={"ok": True}), Unknown, "bad_answer"),
        (Response(body={"ok": False, "error": "token_revoked"}), Unavailable, "token_revoked"),
        (Response(body={"ok": False, "error": "is_archived"}), Rejected, "is_archived"),
    ],
)
def test_answers_become_what_to_do_next(answer, error, reason):
    """Each kind of answer is the error that says what to do next, with Slack's own word as reason."""
    with pytest.raises(error) as caught:
        drive(a_delivery(), answer)
    assert caught.value.reason == reason


def test_patience_is_what_was_asked():
    """Retry-After is carried to the pump as it was given."""
    with pytest.raises(Throttled) as caught:
        drive(a_delivery(), Response(status=429, retry_after=7))
    assert caught.value.retry_after.total_seconds() == 7


async def test_a_preview_writes_what_it_would_post():
    """Without a token each call is a line of ASCII JSON with method and arguments; edits go to the post's ts."""
    out = io.StringIO()
    sink = SlackSink(channel="#reports", transport=Preview(out))
    task = a_task(name="Bericht für \x1b[31m<!channel>")
    root = await sink.deliver(a_delivery(task, sink="slack"))
    await sink.deliver(a_delivery(replace(task, status="complete"), sink="slack", lane_receipt=root))
    await sink.deliver(a_delivery(task, a_checkpoint(task), sink="slack", lane_receipt=root))
    calls = [json.loads(line) for line in out.getvalue().splitlines()]
    assert out.getvalue().isascii()
    assert [(c["method"], c["arguments"]["channel"]) for c in calls] == [
        ("chat.postMessage", "#reports"),
        ("chat.update", "#reports"),
        ("chat.postMessage", "#reports"),
    ]
    assert calls[1]["arguments"]["ts"] == calls[2]["arguments"]["thread_ts"] == root.ref["ts"]


async def test_an_address_names_the_channel():
    """workspace/#channel posts to #channel; none posts to the sink's own."""
    out = io.StringIO()
    sink = SlackSink(channel="#own", transport=Preview(out))
    await sink.deliver(a_delivery(sink="slack", address="acme/#legal"))
    await sink.deliver(a_delivery(sink="slack"))
    assert [json.loads(x)["arguments"]["channel"] for x in out.getvalue().splitlines()] == ["#legal", "#own"]


async def test_a_closed_preview_is_unavailable():
    """A file that was closed loses nothing: the letter is tried again."""
    out = io.StringIO()
    out.close()
    with pytest.raises(Unavailable):
        await SlackSink(transport=Preview(out)).deliver(a_delivery(sink="slack"))
