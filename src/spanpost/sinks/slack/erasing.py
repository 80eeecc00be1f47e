"""Delete a message of an erased task: its replies that no receipt names, the files in them, and the message itself.

What Slack no longer has counts as deleted. People's own replies in the thread are not the app's to delete: the
receipt says how many are left.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any, Final

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import Throttled
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.errors import GONE, meaning
from spanpost.sinks.slack.rates import DELETE

REPLIES, FILE = "conversations.replies", "files.delete"
#: Messages without a receipt that one turn deletes: a turn has the time of one call to a sink.
_AT_ONCE: Final = 10
#: Pages of a thread that are read.
_PAGES: Final = 20
_NO_FILE: Final = frozenset({"file_not_found", "file_deleted"})


def erase(delivery: Delivery, place: SlackPlace) -> Talk[Receipt]:
    """Delete the message that the receipt names. Raises a `DeliveryError` for what Slack refuses."""
    ref: dict[str, Any] = delivery.receipt.ref if delivery.receipt is not None else {}
    channel, ts = str(ref.get("channel", "")), str(ref.get("ts", ""))
    left = 0
    if ref.get("is_root"):
        own, left = yield from _thread(channel, ts)
        for message in own[:_AT_ONCE]:
            yield from _delete(message, channel, place)
        if len(own) > _AT_ONCE:
            raise Throttled(
                "the thread has more messages",
                retry_after=timedelta(seconds=10),
                reason="long_thread",
                closes=place.method(DELETE),
            )
    yield from _delete({"ts": ts}, channel, place)
    return Receipt(ref={"people": left} if left else {})


def _thread(channel: str, ts: str) -> Generator[SlackRequest, Response, tuple[list[dict[str, Any]], int]]:
    """Return the app's replies in a thread, and how many are other people's.

    Without the right to read the channel there are none: the receipts name the replies that were posted.
    """
    own, others, cursor = list[dict[str, Any]](), 0, ""
    bot: Any = None
    for _ in range(_PAGES):
        arguments = {"channel": channel, "ts": ts, "limit": 200} | ({"cursor": cursor} if cursor else {})
        answer = yield SlackRequest(method=REPLIES, arguments=arguments, is_optional=True)
        messages = answer.body.get("messages")
        if answer.body.get("ok") is not True or not isinstance(messages, list):
            break
        for message in messages:
            if not isinstance(message, dict):
                continue
            if str(message.get("ts")) == ts:
                bot = message.get("bot_id")
            elif bot is not None and message.get("bot_id") == bot:
                own.append(message)
            else:
                others += 1
        cursor = str((answer.body.get("response_metadata") or {}).get("next_cursor") or "")
        if not cursor:
            break
    return own, others


def _delete(message: dict[str, Any], channel: str, place: SlackPlace) -> Generator[SlackRequest, Response, None]:
    for file in message.get("files") or ():
        if isinstance(file, dict) and file.get("id"):
            request = SlackRequest(method=FILE, arguments={"file": str(file["id"])})
            answer = yield request
            if answer.error not in _NO_FILE and (error := meaning(answer, request, place)) is not None:
                raise error
    request = SlackRequest(method=DELETE, arguments={"channel": channel, "ts": str(message["ts"])})
    answer = yield request
    if answer.error not in GONE and (error := meaning(answer, request, place)) is not None:
        raise error
