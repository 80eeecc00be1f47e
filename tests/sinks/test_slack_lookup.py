"""Reconciling of unknown deliveries with a fake Slack before anything is posted again."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import DeliveryRefused, DeliveryUncertain, Throttled, Unavailable, Unverifiable
from spanpost.model.readings import Approval
from spanpost.sinks.slack.flow import DELETED
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack, Fault
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task

#: Longer than the settling time.
LONG = timedelta(seconds=70)
ASKING = a_task(status="waiting", approvals=(Approval(id="a", question="Deploy?"),))


@pytest.fixture
async def slack():
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def sink(slack):
    made = sink_of(slack)
    yield made
    await made.close()


def sink_of(slack: FakeSlack, **fields) -> SlackSink:
    return SlackSink(transport=WebApi(slack.token, base_url=slack.url, timeout=timedelta(seconds=2)), **fields)


def unsure(
    task=None,
    checkpoint=None,
    *,
    sent: timedelta = timedelta(seconds=3),
    lookups: int = 0,
    ahead: float = 0.0,
    **fields,
) -> Delivery:
    """Return a delivery that was sent so long ago; the store's clock is `ahead` by so many seconds."""
    now = datetime.now(UTC) + timedelta(seconds=ahead)
    doubt = {"is_unknown": True, "claimed_at": now, "sent_at": now - sent, "lookups": lookups}
    return a_delivery(task, checkpoint, sink="slack", **(doubt | fields))


async def lose_answer(slack: FakeSlack, sink: SlackSink, delivery: Delivery, fault: Fault = Fault.RESET_AFTER) -> None:
    """Post a delivery whose answer the sink never receives."""
    slack.faults.script("chat.postMessage", [fault])
    with pytest.raises(DeliveryUncertain):
        await sink.deliver(delivery)


async def test_what_arrived_is_found(slack, sink):
    """The root message is found by its marker; the receipt has its place and no fingerprint, so that an edit
    follows.
    """
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    [message] = slack.messages()
    answers = await sink.reconcile([unsure()])
    assert answers == {1: Receipt(ref={"channel": slack.workspace.channel("agents").id, "ts": message["ts"]})}
    edited = await sink.deliver(a_delivery(sink="slack", message_receipt=answers[1]))
    assert edited.ref["ts"] == message["ts"]
    assert slack.messages()[0]["edits"] == 1


async def test_a_reply_is_found_in_its_thread(slack, sink):
    """A reply is looked up in the thread of its task's message."""
    root = await sink.deliver(a_delivery(sink="slack"))
    reply_delivery = a_delivery(a_task(), a_checkpoint(), sink="slack", message_receipt=root)
    await lose_answer(slack, sink, reply_delivery)
    [reply] = slack.thread(root.ref["ts"])
    answers = await sink.reconcile([unsure(a_task(), a_checkpoint(), message_receipt=root)])
    assert answers[1].ref["ts"] == reply["ts"]


@pytest.mark.proves("in-doubt", "lookup-fails")
async def test_an_absent_message_is_posted_only_after_the_settling_time(slack, sink):
    """An absent message stays unknown until the settling time is over and an earlier lookup missed it too,
    then None.
    """
    assert await sink.reconcile([unsure()]) == {}
    assert await sink.reconcile([unsure(sent=LONG, lookups=0)]) == {}
    assert await sink.reconcile([unsure(sent=timedelta(seconds=49), lookups=5)]) == {}
    assert await sink.reconcile([unsure(sent=LONG, lookups=1)]) == {1: None}


@pytest.mark.proves("in-doubt", "lookup-fails")
async def test_a_history_that_lags_is_waited_for(slack, sink):
    """A post that the history does not show yet stays unknown, and is found once it does."""
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    slack.workspace.stale = 3600
    assert await sink.reconcile([unsure(lookups=1)]) == {}
    slack.workspace.stale = 0
    assert (await sink.reconcile([unsure(lookups=2)]))[1].ref["ts"] == slack.messages()[0]["ts"]


@pytest.mark.proves("clocks", "clock-jumps")
@pytest.mark.parametrize("slack_ahead", [-86_400.0, 0.0, 86_400.0])
@pytest.mark.parametrize("store_ahead", [-7_200.0, 7_200.0])
async def test_clocks_may_differ(slack_ahead, store_ahead):
    """With clocks of Slack, the store and us hours apart, arrived messages are found, and others are not."""
    async with FakeSlack(clock_ahead=slack_ahead) as slack:
        sink = sink_of(slack)
        await lose_answer(slack, sink, a_delivery(sink="slack"))
        fresh = sink_of(slack)  # another process, which knows nothing yet
        asked = [
            unsure(ahead=store_ahead, lookups=1),
            unsure(a_task("other"), id=2, sent=LONG, lookups=1, ahead=store_ahead),
        ]
        answers = await fresh.reconcile(asked)
        await sink.close()
        await fresh.close()
    assert answers[1].ref["ts"] == slack.messages()[0]["ts"]
    assert answers[2] is None


async def test_one_lookup_answers_for_a_channel(slack, sink):
    """Many unknown deliveries of one channel cost one page of its history."""
    tasks = [a_task(f"t{i}") for i in range(20)]
    for task in tasks[:12]:
        await lose_answer(slack, sink, a_delivery(task, sink="slack"))
    answers = await sink.reconcile([unsure(task, id=i, sent=LONG, lookups=1) for i, task in enumerate(tasks)])
    assert len(slack.calls("conversations.history")) == 1
    by_task = {message["metadata"]["event_payload"]["k"]: message["ts"] for message in slack.messages()}
    for i, task in enumerate(tasks):
        expected = by_task.get(f"slack||{task.uid}")
        assert (answers[i].ref["ts"] if answers[i] is not None else None) == expected


async def test_pages_are_turned(slack, sink):
    """A message many pages back is found."""
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    for i in range(950):
        slack.workspace.say("#agents", f"chatter {i}")
    answers = await sink.reconcile([unsure()])
    assert answers[1].ref["ts"] == slack.messages()[0]["ts"]
    assert len(slack.calls("conversations.history")) == 5


@pytest.mark.proves("in-doubt", "slack-answer-lost")
async def test_a_message_on_two_pages_is_one(slack, sink, monkeypatch):
    """Somebody posts while the pages are read, so that a message stands on two of them: it is not deleted as its own
    duplicate.
    """
    slack.workspace.say("agents", "before")
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    slack.workspace.say("agents", "after")
    slack.workspace.page = 2
    call = WebApi.call

    async def call_among_others(self, request):
        answer = await call(self, request)
        if request.method == "conversations.history":
            slack.workspace.say("agents", "meanwhile")
        return answer

    monkeypatch.setattr(WebApi, "call", call_among_others)
    answers = await sink.reconcile([unsure()])
    assert len(slack.calls("conversations.history")) > 1
    assert answers[1].ref["ts"] in [message["ts"] for message in slack.messages()]
    assert sink.duplicates == 0


@pytest.mark.proves("one-message", "sender-frozen")
async def test_duplicates_are_removed(slack, sink, caplog):
    """Of a message posted twice the oldest stays, the others are deleted and counted."""
    for _ in range(3):
        await lose_answer(slack, sink, a_delivery(sink="slack"))
    oldest = slack.messages()[0]["ts"]
    answers = await sink.reconcile([unsure()])
    assert answers[1].ref["ts"] == oldest
    assert [message["ts"] for message in slack.messages()] == [oldest]
    assert sink.duplicates == 2
    assert "2 duplicate messages" in caplog.text


async def test_nobody_elses_message_is_taken_for_ours(slack, sink):
    """Every app can read and copy the marker: only messages of our app count."""
    marker = {"event_type": "spanpost_message", "event_payload": {"k": f"slack||{a_task().uid}", "g": 0}}
    slack.workspace.say("#agents", "me too", metadata=marker)
    assert await sink.reconcile([unsure(sent=LONG, lookups=1)]) == {1: None}


async def test_an_edit_needs_no_lookup(slack, sink):
    """An unknown edit returns the known message without its fingerprint, without a call."""
    root = Receipt(ref={"channel": "C1", "ts": "1.1", "mark": "m", "style": "plain"})
    assert await sink.reconcile([unsure(message_receipt=root)]) == {
        1: Receipt(ref={"channel": "C1", "ts": "1.1", "style": "plain"})
    }
    assert slack.asked == []


async def test_an_edit_that_may_have_been_posted_anew(slack, sink):
    """With a question open the old message is looked for first, then the one that may replace it."""
    root = await sink.deliver(a_delivery(sink="slack"))
    answers = await sink.reconcile([unsure(ASKING, message_receipt=root)])
    assert answers[1].ref["ts"] == root.ref["ts"]  # it still exists: no waiting
    slack.delete(root.ref["ts"])
    assert await sink.reconcile([unsure(ASKING, message_receipt=root)]) == {}
    assert await sink.reconcile([unsure(ASKING, message_receipt=root, sent=LONG, lookups=1)]) == {1: None}
    await lose_answer(slack, sink, a_delivery(ASKING, sink="slack", message_receipt=root))
    [anew] = slack.messages()
    found = (await sink.reconcile([unsure(ASKING, message_receipt=root)]))[1]
    assert (found.ref["ts"], found.ref["g"]) == (anew["ts"], 1)


async def test_what_was_posted_anew_is_found_when_the_question_is_answered(slack, sink):
    """A message posted again for a question answered meanwhile is found and not left behind."""
    root = await sink.deliver(a_delivery(sink="slack"))
    slack.delete(root.ref["ts"])
    await lose_answer(slack, sink, a_delivery(ASKING, sink="slack", message_receipt=root))
    answered = replace(ASKING, status="working", approvals=(Approval(id="a", question="Deploy?", decision="yes"),))
    found = (await sink.reconcile([unsure(answered, message_receipt=root)]))[1]
    assert found.ref["ts"] == slack.messages()[0]["ts"]


async def test_a_reply_that_landed_in_the_channel_is_taken_back(slack, sink):
    """An unknown reply to a deleted message is in the channel: it is deleted, and the delivery is done."""
    root = await sink.deliver(a_delivery(sink="slack"))
    slack.delete(root.ref["ts"])
    await lose_answer(slack, sink, a_delivery(a_task(), a_checkpoint(), sink="slack", message_receipt=root))
    assert len(slack.messages()) == 1
    answers = await sink.reconcile([unsure(a_task(), a_checkpoint(), message_receipt=root)])
    assert answers == {1: Receipt(ref={"ended": DELETED})}
    assert slack.messages() == []


async def test_a_name_is_resolved(slack):
    """A channel known by name is looked up in the list once, also without the scope for private ones."""
    slack.remove_scope("groups:read")
    sink = sink_of(slack, channel="#agents")
    for _ in range(2):
        assert await sink.reconcile([unsure()]) == {}
    await sink.close()
    assert [asked.became for asked in slack.calls("conversations.list")] == ["missing_scope", "ok"]


async def test_a_name_is_known_from_earlier_posts(slack, sink):
    """After a post in the channel no list of channels is needed."""
    await sink.deliver(a_delivery(a_task("before"), sink="slack"))
    assert await sink.reconcile([unsure()]) == {}
    assert slack.calls("conversations.list") == []


@pytest.mark.proves("in-doubt", "lookup-fails")
@pytest.mark.parametrize("scopes", [["channels:history"], ["channels:read", "groups:read"]])
async def test_where_looking_is_impossible_a_person_decides(slack, scopes, caplog):
    """Without the scope to read history or channels a delivery becomes a dead letter, not posted again; one
    log line.
    """
    sink = sink_of(slack)
    for scope in scopes:
        slack.remove_scope(scope)
    for number in (1, 2):
        answers = await sink.reconcile([unsure(id=number, sent=LONG, lookups=1)])
        assert isinstance(answers[number], Unverifiable)
        assert answers[number].reason == "unverifiable"
        assert scopes[0] in str(answers[number])
    await sink.close()
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    assert slack.messages() == []


async def test_a_name_that_nobody_has(slack):
    """A channel that is in no list cannot be read; the error asks for its id."""
    sink = sink_of(slack, channel="#nowhere")
    answers = await sink.reconcile([unsure()])
    await sink.close()
    assert isinstance(answers[1], Unverifiable)
    assert "id" in str(answers[1])


@pytest.mark.proves("in-doubt", "lookup-fails")
async def test_throttled_lookups(slack, sink):
    """A throttled lookup waits for all channels; deliveries that wait above a quarter hour are parked."""
    slack.workspace.add_channel("other")
    slack.faults.script("conversations.history", [Fault.THROTTLE])
    asked = [
        unsure(id=1),
        unsure(a_task("b"), id=2, sent=timedelta(minutes=16)),
        unsure(a_task("c"), id=3, address="#other"),
    ]
    edit = Receipt(ref={"channel": "C1", "ts": "1.1"})
    asked.append(unsure(a_task("d"), id=4, message_receipt=edit))  # needs no lookup
    answers = await sink.reconcile(asked)
    assert len(slack.calls("conversations.history")) == 1
    assert [type(answers[n]) for n in (1, 2, 3)] == [Throttled, Unverifiable, Throttled]
    for number in (1, 2, 3):
        assert answers[number].closes == "slack:default:conversations.history"
        assert answers[number].retry_after >= timedelta(seconds=1)
    assert answers[4] == edit
    assert slack.tiers.early == []


async def test_what_one_channel_refuses_holds_for_that_channel(slack, sink):
    """An app removed from one channel still reads the others."""
    slack.workspace.add_channel("other")
    slack.kick("#other")
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    answers = await sink.reconcile([unsure(a_task("b"), id=2, address="#other"), unsure(id=1)])
    assert isinstance(answers[2], DeliveryRefused)
    assert answers[2].closes == "slack:default/#other"
    assert answers[1].ref["ts"] == slack.messages()[0]["ts"]


async def test_a_revoked_token_is_asked_once(slack, sink):
    """A revoked token is tried once, not for each channel."""
    slack.workspace.add_channel("other")
    slack.refuse("token_revoked")
    answers = await sink.reconcile([unsure(a_task("b"), id=2, address="#other"), unsure(id=1)])
    assert {type(answer) for answer in answers.values()} == {DeliveryRefused}
    assert len(slack.asked) == 1


@pytest.mark.parametrize("fault", [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.TORN_AFTER, Fault.INTERNAL_AFTER])
async def test_a_lookup_that_fails_changes_nothing(slack, sink, fault):
    """A lookup that Slack does not answer is tried again later; its delivery stays unknown."""
    slack.faults.script("conversations.history", [fault])
    answers = await sink.reconcile([unsure(sent=LONG, lookups=3)])
    assert isinstance(answers[1], Unavailable)


async def test_a_history_that_is_too_long(slack, sink):
    """A delivery beyond a lookup's pages stays unknown, and becomes a dead letter after 15 minutes, never
    absent.
    """
    slack.workspace.page = 10
    for i in range(300):
        slack.workspace.say("#agents", f"chatter {i}")
    assert await sink.reconcile([unsure(sent=LONG, lookups=3)]) == {}
    late = await sink.reconcile([unsure(sent=timedelta(minutes=16), lookups=3)])
    assert isinstance(late[1], Unverifiable)


async def test_a_checkpoint_of_no_message_was_never_sent(slack, sink):
    """A delivery that was cut off before its task had a message was not sent."""
    assert await sink.reconcile([unsure(a_task(), a_checkpoint())]) == {1: None}
    assert slack.asked == []


async def test_generations_are_distinguished(slack, sink):
    """The marker of the first message is not taken for that of the one posted anew."""
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    gone = Receipt(ref={"channel": slack.workspace.channel("agents").id, "ts": "1.000000", "ended": DELETED})
    assert await sink.reconcile([replace(unsure(ASKING, lookups=1), message_receipt=gone)]) == {}


async def test_a_post_that_slack_has_already_is_edited(slack, sink):
    """When Slack answers a repeat with the earlier message, its old text is replaced at once."""
    slack.workspace.dedupes = True
    await lose_answer(slack, sink, a_delivery(sink="slack"))
    slack.ahead += 60
    receipt = await sink.deliver(a_delivery(a_task(status="complete"), sink="slack"))
    [message] = slack.messages()
    assert (message["ts"], message["edits"]) == (receipt.ref["ts"], 1)
    assert (
        await sink.deliver(a_delivery(a_task(status="complete"), sink="slack", message_receipt=receipt))
    ).skipped == "unchanged"


async def test_a_preview_is_no_message(slack, sink):
    """A delivery that was previewed before there was a token is posted once there is one."""
    previewed = Receipt(ref={"channel": "#agents", "ts": "0.000001", "mark": "m"})
    receipt = await sink.deliver(a_delivery(sink="slack", message_receipt=previewed))
    assert receipt.ref["ts"] == slack.messages()[0]["ts"]
    assert await sink.reconcile([unsure(a_task("b"), message_receipt=previewed)]) == {}
