"""The rules of posting: driven without a network, as the sink drives them."""

from __future__ import annotations

import io
import json

import pytest
from msgspec.structs import replace

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import DeliveryRefused, DeliveryUncertain, Rejected, Unavailable
from spanpost.model.readings import Approval
from spanpost.routing.message_owner import last
from spanpost.sinks.slack import flow
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest
from spanpost.sinks.slack.flow import CLOSED_FOR_EDITS, DELETED, MOVED, WHY
from spanpost.sinks.slack.preview import Preview
from spanpost.sinks.slack.sink import SlackSink, Space
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task

POSTED = Response(body={"ok": True, "channel": "C1", "ts": "1.1"})
ANEW = Response(body={"ok": True, "channel": "C1", "ts": "7.7"})
ROOT = Receipt(ref={"channel": "C1", "ts": "1.1", "mark": "old"})
REPLIED = Response(body={"ok": True, "channel": "C1", "ts": "2.2", "message": {"thread_ts": "1.1"}})
PLACE = SlackPlace(channel="#agents")
ASKING = a_task(status="waiting", approvals=(Approval(id="a", question="Deploy?"),))
FAILED = a_task(status="error")


def refusal(error: str, **more) -> Response:
    return Response(body={"ok": False, "error": error} | more)


def drive(delivery, *answers: Response) -> tuple[list[SlackRequest], Receipt]:
    """Play Slack: answer each request with the next answer."""
    asked: list[SlackRequest] = []
    steps = flow.deliver(delivery, PLACE)
    try:
        asked.append(next(steps))
        for answer in answers:
            asked.append(steps.send(answer))
    except StopIteration as done:
        return asked, done.value
    raise AssertionError(f"the flow wants more answers: {[r.method for r in asked]}")


def methods(asked: list[SlackRequest]) -> list[str]:
    return [request.method for request in asked]


def test_a_state_is_posted_first_and_edited_then():
    """Without a receipt a state is posted to the channel; with one, edited at the receipt's ts and channel
    id.
    """
    asked, receipt = drive(a_delivery(), POSTED)
    assert [(r.method, r.arguments["channel"], r.arguments["unfurl_links"]) for r in asked] == [
        ("chat.postMessage", "#agents", False)
    ]
    assert (receipt.ref["channel"], receipt.ref["ts"]) == ("C1", "1.1")
    asked, receipt = drive(a_delivery(a_task(status="complete"), message_receipt=receipt), POSTED)
    assert [(r.method, r.arguments["channel"], r.arguments["ts"]) for r in asked] == [("chat.update", "C1", "1.1")]
    for of_posts_alone in ("unfurl_links", "client_msg_id", "thread_ts"):
        assert of_posts_alone not in asked[0].arguments


def test_a_posted_message_mentions_no_person_and_an_edit_shows_who_asked():
    """A start notifies nobody: the post has no mention, the same state needs no edit, and the first edit has one."""
    task = a_task(requested_by="U012AB3CD")
    asked, receipt = drive(a_delivery(task), POSTED)
    assert "U012AB3CD" not in json.dumps(asked[0].arguments)
    asked, _ = drive(a_delivery(task, message_receipt=receipt))
    assert asked == []
    asked, _ = drive(a_delivery(replace(task, status="complete"), message_receipt=receipt), POSTED)
    assert "<@U012AB3CD>" in json.dumps(asked[0].arguments)


def test_an_unchanged_state_is_not_sent_unless_in_doubt():
    """An equal rendering costs no call; after an unknown outcome it is sent again, because the visible text
    may be old.
    """
    _, receipt = drive(a_delivery(), POSTED)
    asked, again = drive(a_delivery(message_receipt=receipt))
    assert (asked, again.ref, again.skipped) == ([], receipt.ref, "unchanged")
    asked, _ = drive(a_delivery(message_receipt=receipt, is_unknown=True), POSTED)
    assert methods(asked) == ["chat.update"]
    found = Receipt(ref={k: v for k, v in receipt.ref.items() if k != "mark"})
    asked, edited = drive(a_delivery(message_receipt=found), POSTED)
    assert methods(asked) == ["chat.update"]
    assert edited.ref == receipt.ref


def test_a_checkpoint_is_a_reply_in_the_thread():
    """A checkpoint is posted below the root message, marked with its own key."""
    checkpoint = a_checkpoint()
    asked, receipt = drive(a_delivery(a_task(), checkpoint, message_receipt=ROOT), REPLIED)
    arguments = asked[0].arguments
    assert (arguments["channel"], arguments["thread_ts"]) == ("C1", "1.1")
    assert arguments["metadata"]["event_payload"] == {"k": str(checkpoint.id), "g": 0}
    assert receipt.ref["ts"] == "2.2"


def test_each_attempt_has_the_same_id_of_its_own():
    """client_msg_id is the same for every attempt of one message, and another for another message or
    generation.
    """
    first, again = (drive(a_delivery(attempt=n), POSTED)[0][0].arguments["client_msg_id"] for n in (1, 2))
    assert first == again
    calls, _ = drive(a_delivery(a_task(), a_checkpoint(), message_receipt=ROOT), REPLIED)
    anew, _ = drive(a_delivery(ASKING, message_receipt=ROOT), refusal("message_not_found"), ANEW)
    assert len({first, calls[0].arguments["client_msg_id"], anew[1].arguments["client_msg_id"]}) == 3


def test_a_checkpoint_without_a_message_is_given_up():
    """Without a root message there is no thread: the checkpoint is given up, which is no failure of Slack's."""
    with pytest.raises(Rejected) as caught:
        drive(a_delivery(a_task(), a_checkpoint()))
    assert caught.value.reason == "no_root"


def test_the_start_of_a_root_needs_no_reply():
    """A root task's start is its message; a sub-agent's start is a reply."""
    start = a_checkpoint(kind=Kind.START)
    asked, receipt = drive(a_delivery(a_task(), start, message_receipt=ROOT))
    assert asked == []
    assert receipt.skipped
    child = a_task("c", root_uid=a_task().uid)
    asked, _ = drive(a_delivery(child, start, message_receipt=ROOT), REPLIED)
    assert methods(asked) == ["chat.postMessage"]


@pytest.mark.proves("literal", "long-text")
@pytest.mark.parametrize(
    "delivery",
    [a_delivery(), a_delivery(message_receipt=ROOT), a_delivery(a_task(), a_checkpoint(), message_receipt=ROOT)],
    ids=["post", "edit", "reply"],
)
def test_refused_blocks_are_tried_plain(delivery):
    """After invalid_blocks the same message is sent in plain sections, once, with the same marker and place."""
    asked, _ = drive(delivery, refusal("invalid_blocks"), REPLIED)
    rich, plain = (r.arguments for r in asked)
    assert {b["type"] for b in plain["blocks"]} <= {"section", "context"}
    for same in ("channel", "metadata", "text"):
        assert rich[same] == plain[same]
    with pytest.raises(Rejected):
        drive(delivery, *[refusal("invalid_blocks")] * 2)


def test_a_message_that_had_to_be_plain_stays_plain():
    """After that, its edits and replies are plain at once, and an unchanged one is known by its plain
    rendering.
    """
    _, receipt = drive(a_delivery(), refusal("invalid_blocks"), POSTED)
    assert receipt.ref["style"] == "plain"
    assert drive(a_delivery(message_receipt=receipt))[1].skipped == "unchanged"
    for delivery in (
        a_delivery(FAILED, message_receipt=receipt),
        a_delivery(a_task(), a_checkpoint(), message_receipt=receipt),
    ):
        asked, _ = drive(delivery, REPLIED)
        assert {b["type"] for b in asked[0].arguments["blocks"]} <= {"section", "context"}


def test_a_deleted_message_stays_deleted():
    """A state whose message a person deleted is skipped, and so is all that follows, without a call."""
    asked, receipt = drive(a_delivery(message_receipt=ROOT), refusal("message_not_found"))
    assert methods(asked) == ["chat.update"]
    assert (receipt.ref["ended"], receipt.skipped) == (DELETED, "")  # a call was made
    for later in (
        a_delivery(a_task(status="complete"), message_receipt=receipt),
        a_delivery(a_task(), a_checkpoint(kind=Kind.END), message_receipt=receipt),
    ):
        asked, skipped = drive(later)
        assert (asked, skipped.skipped) == ([], WHY[DELETED])


@pytest.mark.parametrize("task", [ASKING, FAILED], ids=["open question", "failed"])
def test_what_needs_a_person_is_posted_anew_once(task):
    """With an open question or failure a deleted message is posted again once, in its own generation."""
    asked, receipt = drive(a_delivery(task, message_receipt=ROOT), refusal("message_not_found"), ANEW)
    assert methods(asked) == ["chat.update", "chat.postMessage"]
    assert asked[1].arguments["metadata"]["event_payload"]["g"] == 1
    assert (receipt.ref["ts"], receipt.ref["g"]) == ("7.7", 1)
    calls, _ = drive(a_delivery(task, a_checkpoint(), message_receipt=receipt), REPLIED)
    assert calls[0].arguments["thread_ts"] == "7.7"
    edited, again = drive(
        a_delivery(replace(task, name="Another name"), message_receipt=receipt), refusal("message_not_found")
    )
    assert methods(edited) == ["chat.update"]
    assert again.ref["ended"] == DELETED
    assert drive(a_delivery(task, message_receipt=again))[0] == []


def test_what_was_deleted_quietly_comes_back_for_a_question():
    """A message that stayed deleted is posted anew when a question comes up later."""
    _, gone = drive(a_delivery(message_receipt=ROOT), refusal("message_not_found"))
    asked, receipt = drive(a_delivery(ASKING, message_receipt=gone), ANEW)
    assert methods(asked) == ["chat.postMessage"]
    assert receipt.ref["ts"] == "7.7"
    assert "ended" not in receipt.ref


@pytest.mark.parametrize("error", ["edit_window_closed", "cant_update_message"])
def test_where_no_edits_are_allowed_the_thread_goes_on(error):
    """Where edits are forbidden the message stays, nothing is posted anew, and checkpoints and the end go to
    its thread.
    """
    asked, receipt = drive(a_delivery(ASKING, message_receipt=ROOT), refusal(error))
    assert methods(asked) == ["chat.update"]
    assert receipt.ref["ended"] == CLOSED_FOR_EDITS
    assert drive(a_delivery(ASKING, message_receipt=receipt))[0] == []
    asked, receipt_of_end = drive(a_delivery(a_task(), a_checkpoint(kind=Kind.END), message_receipt=receipt), REPLIED)
    assert asked[0].arguments["thread_ts"] == "1.1"
    assert not receipt_of_end.skipped


def test_a_reply_that_landed_in_the_channel_is_taken_back():
    """Slack posts a reply to a deleted message in the channel; it is deleted there, and a failure of that is
    ignored.
    """
    stray = Response(body={"ok": True, "channel": "C1", "ts": "3.3", "message": {"text": "x"}})
    for answer in (POSTED, refusal("cant_delete_message"), Response(status=500)):
        asked, receipt = drive(a_delivery(a_task(), a_checkpoint(), message_receipt=ROOT), stray, answer)
        assert methods(asked) == ["chat.postMessage", "chat.delete"]
        assert asked[1].arguments == {"channel": "C1", "ts": "3.3"}
        assert receipt.ref == {"ended": DELETED}


def test_a_ts_that_is_missing_is_doubt():
    """An answer without a ts is an unknown outcome."""
    with pytest.raises(DeliveryUncertain):
        drive(a_delivery(), Response(body={"ok": True}))


def test_a_refusal_closes_the_channel_as_it_was_addressed():
    """A refusal that needs a person carries the remedy, and the key of the same address's rate limit."""
    with pytest.raises(DeliveryRefused) as caught:
        drive(a_delivery(), refusal("not_in_channel"))
    assert caught.value.closes == PLACE.address
    assert "/invite" in caught.value.cure
    assert "#agents" in caught.value.cure


async def test_a_preview_writes_what_it_would_post():
    """Without a token each call is a line of ASCII JSON with method and arguments; edits go to the post's
    ts.
    """
    out = io.StringIO()
    sink = SlackSink(channel="#reports", transport=Preview(out))
    task = a_task(name="Bericht für \x1b[31m<!channel>")
    root = await sink.deliver(a_delivery(task, sink="slack"))
    await sink.deliver(a_delivery(replace(task, status="complete"), sink="slack", message_receipt=root))
    await sink.deliver(a_delivery(task, a_checkpoint(task), sink="slack", message_receipt=root))
    calls = [json.loads(line) for line in out.getvalue().splitlines()]
    assert out.getvalue().isascii()
    assert [(c["method"], c["arguments"]["channel"]) for c in calls] == [
        ("chat.postMessage", "#reports"),
        ("chat.update", "#reports"),
        ("chat.postMessage", "#reports"),
    ]
    assert calls[1]["arguments"]["ts"] == calls[2]["arguments"]["thread_ts"] == root.ref["ts"]


async def test_an_address_names_the_channel():
    """workspace/#channel posts there, none to the sink's channel, and an unknown workspace is refused."""
    out, other = io.StringIO(), io.StringIO()
    acme = Space("acme", Preview(other), "#general")
    sink = SlackSink(channel="#own", transport=Preview(out), others=[acme])
    for address in ("acme/#legal", "#sales", "", "acme/"):
        await sink.deliver(a_delivery(sink="slack", address=address))
    assert [json.loads(x)["arguments"]["channel"] for x in out.getvalue().splitlines()] == ["#sales", "#own"]
    assert [json.loads(x)["arguments"]["channel"] for x in other.getvalue().splitlines()] == ["#legal", "#general"]
    with pytest.raises(DeliveryRefused) as caught:
        await sink.deliver(a_delivery(sink="slack", address="gone/#legal"))
    assert caught.value.closes == "slack:gone"


async def test_a_closed_preview_is_unavailable():
    """With a closed preview file the delivery is tried again."""
    out = io.StringIO()
    out.close()
    with pytest.raises(Unavailable):
        await SlackSink(transport=Preview(out)).deliver(a_delivery(sink="slack"))


def _moved(installed_apps: Receipt | None = None, **fields) -> Delivery:
    """Return the last delivery of a message whose task was merged into the failed task, as a store hands it
    out.
    """
    successor = replace(FAILED, root_uid=FAILED.uid, message_uid=FAILED.uid, approvals=ASKING.approvals)
    return last(
        a_delivery(successor, ordering_key=f"slack||{a_task('other').uid}", **fields), successor, installed_apps
    )


def test_a_message_that_goes_on_in_another_is_edited_once_and_never_posted():
    """A message that continues elsewhere is edited once to say so, and never posted for it."""
    asked, receipt = drive(_moved(message_receipt=ROOT), POSTED)
    assert methods(asked) == ["chat.update"]
    assert asked[0].arguments["text"] == "↪ This went on as part of Quarterly report"
    assert drive(_moved(message_receipt=receipt))[0] == []
    asked, none = drive(_moved())
    assert (asked, none.ref, none.skipped) == ([], {}, MOVED)
    asked, gone = drive(_moved(message_receipt=ROOT), refusal("message_not_found"))
    assert (methods(asked), gone.ref["ended"]) == (["chat.update"], DELETED)


@pytest.mark.parametrize("answer", ["https://acme.slack.com/archives/C2/p99", "javascript:alert(1)", None, 7])
def test_its_end_leads_to_the_message_in_which_it_goes_on(answer):
    """Slack is asked once for the other message's link; without a valid one the end has no link."""
    there = Receipt(ref={"channel": "C2", "ts": "9.9"})
    permalink = Response(body={"ok": True, "permalink": answer}) if answer is not None else refusal("message_not_found")
    asked, receipt = drive(_moved(there, message_receipt=ROOT), permalink, POSTED)
    assert [(one.method, one.is_optional) for one in asked] == [("chat.getPermalink", True), ("chat.update", False)]
    assert asked[0].arguments == {"channel": "C2", "message_ts": "9.9"}
    [block] = asked[1].arguments["blocks"]
    named = block["elements"][0]["elements"][-1]
    assert (named["text"], named.get("url")) == (
        "Quarterly report",
        answer if str(answer).startswith("https") else None,
    )
    assert drive(_moved(there, message_receipt=receipt))[0] == []
    installed_apps = replace(there, ref={"channel": "C2", "ts": "10.1"})
    assert methods(drive(_moved(installed_apps, message_receipt=receipt), permalink, POSTED)[0]) == [
        "chat.getPermalink",
        "chat.update",
    ]
