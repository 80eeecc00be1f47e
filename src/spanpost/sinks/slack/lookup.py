"""Looks up doubtful deliveries in the channel by their marker, before anything is posted again.

Without a network, like `flow`. One lookup answers for all doubtful deliveries of a channel or a thread:

- An edit needs no lookup. Editing again is harmless, so the known message is the answer, without its mark.
- Found: the answer is where. Found more than once: the oldest stays, the others are deleted.
- Not found, `wait` after it was sent and after an earlier lookup: it did not arrive. Before that: left out, and asked
  again.
- A lookup is impossible (no scope, no id, allowed too rarely): `Unverifiable`. A person decides whether to post it.

The store's clock only measures how long ago it was sent; positions in Slack's history follow Slack's clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec

from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.errors import DeliveryError, DeliveryRefused, Throttled, Unavailable, Unverifiable
from spanpost.routing.planned import mark_of
from spanpost.sinks.slack import flow
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.errors import GONE, meaning
from spanpost.sinks.slack.render import marked

#: A lookup starts this long before the delivery was sent: by less may Slack's clock leap meanwhile.
BEFORE: Final = timedelta(seconds=60)
#: Messages per page (Slack recommends at most 200), and pages per lookup.
PAGE, PAGES = 200, 20
#: A lookup that is throttled for longer than this is impossible.
LONGEST_THROTTLE: Final = timedelta(minutes=15)
#: Pages of a thousand channels that are searched for a name.
CHANNEL_PAGES: Final = 10

#: By delivery number: the receipt, None if it did not arrive, or an error if that is unknown.
Answers: TypeAlias = dict[int, Receipt | DeliveryError | None]
_ID: Final = re.compile(r"[CGD][A-Z0-9]{6,}")


@dataclass
class Memory:
    """What one process has learned of a workspace."""

    #: User id and bot id of our messages.
    me: tuple[str, str] | None = None
    #: Channel ids by the addressed name.
    ids: dict[str, str] = field(default_factory=dict)
    #: Seconds by which Slack's clock is ahead of ours.
    ahead: float = 0.0
    #: Duplicate messages that were deleted.
    duplicates: int = 0


class DoubtfulDeliveries(msgspec.Struct, frozen=True, kw_only=True):
    """Doubtful deliveries that one lookup answers for."""

    place: SlackPlace
    #: Channel id, if a receipt has it.
    channel: str = ""
    #: Thread of the deliveries; empty: the channel itself.
    thread: str = ""
    deliveries: tuple[Delivery, ...]


def groups(asked: Iterable[tuple[Delivery, SlackPlace]]) -> list[DoubtfulDeliveries]:
    """Group deliveries by the lookup that answers for them."""
    found: dict[tuple[str, str, str], list[tuple[Delivery, SlackPlace]]] = {}
    for delivery, place in asked:
        known = flow.known_of(delivery)
        thread = str(known.get("ts", "")) if delivery.mode is Mode.CHECKPOINT else ""
        found.setdefault((place.address, str(known.get("channel", "")), thread), []).append((delivery, place))
    return [
        DoubtfulDeliveries(place=members[0][1], channel=channel, thread=thread, deliveries=tuple(d for d, _ in members))
        for (_, channel, thread), members in found.items()
    ]


def unanswered(group: DoubtfulDeliveries, error: DeliveryError, now: datetime) -> Answers:
    """Return answers for deliveries that could not be looked up."""
    answers: Answers = {}
    for delivery in group.deliveries:
        answers[delivery.id] = error
        if isinstance(error, DeliveryRefused) and error.reason == "missing_scope":
            answers[delivery.id] = _impossible(group, "looking is not allowed", error.cure)
        elif isinstance(error, Throttled) and _elapsed(delivery, now) > LONGEST_THROTTLE:
            cure = "install the app as an internal one: other apps may look up messages once a minute"
            answer = _impossible(group, f"looking was not allowed for {LONGEST_THROTTLE}", cure)
            answer.closes, answer.retry_after = error.closes, error.retry_after
            answers[delivery.id] = answer
    return answers


def _impossible(group: DoubtfulDeliveries, why: str, cure: str) -> Unverifiable:
    where = group.place.channel
    return Unverifiable(f"it may have arrived in {where}, {why}: {cure}; retry it when it is not there")


def reconcile(group: DoubtfulDeliveries, memory: Memory, *, wait: timedelta, now: datetime) -> Talk[Answers]:
    """Look up a group. Raises a `DeliveryError` if the lookup failed and nothing is known."""
    answers: Answers = {}
    doubtful: list[tuple[Delivery, int]] = []
    for delivery in group.deliveries:
        known = flow.known_of(delivery)
        if delivery.mode is Mode.CHECKPOINT and delivery.receipt is not None and "ts" in delivery.receipt.ref:
            answers[delivery.id] = Receipt(ref={k: v for k, v in delivery.receipt.ref.items() if k != "mark"})
        elif delivery.mode is Mode.CHECKPOINT:
            # Without a thread it was never sent.
            doubtful += [(delivery, 0)] if "ts" in known else []
            if "ts" not in known:
                answers[delivery.id] = None
        elif "ts" not in known:
            doubtful.append((delivery, 0))
        elif not flow.may_have_revived(delivery, known) or (
            not known.get("ended") and (yield from _stands(group.place, known))
        ):
            answers[delivery.id] = Receipt(ref={k: v for k, v in known.items() if k != "mark"})
        else:
            doubtful.append((delivery, int(known.get("g", 0)) + 1))
    if not doubtful:
        return answers
    # This call also learns Slack's clock, before it is needed.
    mine = memory.me or (yield from _me(group.place, memory))
    channel = group.channel or (yield from channel_id(group.place, memory))
    if not channel:
        raise _impossible(
            group, "and no channel of that name is known", "set the channel by its id (C...) in place of its name"
        )
    oldest = (
        now.timestamp()
        + memory.ahead
        - max(_elapsed(d, now) for d, _ in doubtful).total_seconds()
        - BEFORE.total_seconds()
    )
    messages, is_whole = yield from _messages(group.place, channel, group.thread, oldest)
    seen: dict[tuple[str, int], dict[Any, dict[str, Any]]] = {}
    for message in messages:
        mark = marked(message.get("metadata"))
        if mark is not None and (message.get("user") in mine or message.get("bot_id") in mine):
            seen.setdefault(mark, {})[message.get("ts")] = message  # once: pages overlap while others post
    for delivery, generation in doubtful:
        found = sorted(seen.get((_mark_of(delivery), generation), {}).values(), key=lambda m: _seconds(m.get("ts")))
        if found:
            answers[delivery.id] = yield from _keep_one(group, channel, generation, found, memory)
        elif not is_whole:
            if _elapsed(delivery, now) > LONGEST_THROTTLE:
                answers[delivery.id] = _impossible(
                    group, "and too many messages were posted there since", f"look in {group.place.channel} yourself"
                )
        elif _elapsed(delivery, now) >= wait and delivery.lookups >= 1:
            answers[delivery.id] = None
    return answers


def _keep_one(
    group: DoubtfulDeliveries,
    channel: str,
    generation: int,
    found: Sequence[dict[str, Any]],
    memory: Memory,
) -> Talk[Receipt]:
    kept, *duplicates = found
    is_stray = bool(group.thread) and kept.get("thread_ts") in (None, "", kept["ts"])
    for message in [*duplicates, *([kept] if is_stray else [])]:
        request = SlackRequest(method="chat.delete", arguments={"channel": channel, "ts": message["ts"]})
        response = yield request
        if response.error not in GONE and response.error != "cant_delete_message":
            error = meaning(response, request, group.place)
            if error is not None:
                raise error
        memory.duplicates += message is not kept
    if is_stray:
        return Receipt(ref={"ended": flow.DELETED})
    ref = {"channel": channel, "ts": str(kept["ts"])}
    return Receipt(ref=ref | {"g": generation} if generation else ref)


def _stands(place: SlackPlace, known: dict[str, Any]) -> Talk[bool]:
    """Tell whether a message still exists."""
    one = {"latest": known["ts"], "oldest": known["ts"], "inclusive": True, "limit": 1}
    body = yield from _ask(
        SlackRequest(method="conversations.history", arguments={"channel": known["channel"]} | one), place
    )
    return any(m.get("ts") == known["ts"] and m.get("subtype") != "tombstone" for m in _list(body, "messages"))


def _messages(place: SlackPlace, channel: str, thread: str, oldest: float) -> Talk[tuple[list[dict[str, Any]], bool]]:
    """Return the messages since `oldest`, and whether these are all."""
    method = "conversations.replies" if thread else "conversations.history"
    arguments: dict[str, Any] = {
        "channel": channel,
        "oldest": f"{max(oldest, 0):.6f}",
        "limit": PAGE,
        "include_all_metadata": True,
    }
    if thread:
        arguments["ts"] = thread
    found: list[dict[str, Any]] = []
    for _ in range(PAGES):
        request = SlackRequest(method=method, arguments=arguments)
        response = yield request
        if thread and response.error in GONE:
            # The thread is gone: if the reply arrived, it is in the channel.
            return (yield from _messages(place, channel, "", oldest))
        body = _body(response, request, place)
        found += _list(body, "messages")
        cursor = _cursor(body)
        if not cursor:
            return found, not body.get("has_more")
        arguments = arguments | {"cursor": cursor}
    return found, False


def channel_id(place: SlackPlace, memory: Memory) -> Talk[str]:
    """Return the id of a place's channel; empty if no channel of that name is known."""
    name = place.channel
    if is_id(name):
        return name
    if name in memory.ids:
        return memory.ids[name]
    arguments: dict[str, Any] = {"types": "public_channel,private_channel", "exclude_archived": True, "limit": 999}
    for _ in range(CHANNEL_PAGES):
        request = SlackRequest(method="conversations.list", arguments=arguments)
        response = yield request
        if response.error == "missing_scope" and "private_channel" in arguments["types"]:
            arguments = arguments | {"types": "public_channel"}
            continue
        body = _body(response, request, place)
        for channel in _list(body, "channels"):
            if isinstance(channel.get("id"), str):
                memory.ids |= dict.fromkeys((f"#{channel.get('name')}", str(channel.get("name"))), channel["id"])
        if name in memory.ids:
            return memory.ids[name]
        cursor = _cursor(body)
        if not cursor:
            break
        arguments = arguments | {"cursor": cursor}
    return ""


def is_id(channel: str) -> bool:
    """Tell whether a channel is given by its id."""
    return _ID.fullmatch(channel) is not None


def _me(place: SlackPlace, memory: Memory) -> Talk[tuple[str, str]]:
    body = yield from _ask(SlackRequest(method="auth.test"), place)
    me = tuple(value for key in ("user_id", "bot_id") if isinstance(value := body.get(key), str) and value)
    if not me:
        raise Unavailable("auth.test does not identify the app", reason="bad_answer")
    memory.me = (me[0], me[-1])
    return memory.me


def _ask(request: SlackRequest, place: SlackPlace) -> Talk[dict[str, Any]]:
    response = yield request
    return _body(response, request, place)


def _body(response: Response, request: SlackRequest, place: SlackPlace) -> dict[str, Any]:
    error = meaning(response, request, place)
    if error is not None:
        raise error
    return response.body


def _list(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = body.get(name)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _cursor(body: dict[str, Any]) -> str:
    more = body.get("response_metadata")
    cursor = more.get("next_cursor") if isinstance(more, dict) else None
    return cursor if isinstance(cursor, str) else ""


def _mark_of(delivery: Delivery) -> str:
    return mark_of(delivery.key, delivery.checkpoint.id if delivery.checkpoint is not None else None)


def _elapsed(delivery: Delivery, now: datetime) -> timedelta:
    """Return the time since it was sent, by the store's clock alone."""
    return max((delivery.claimed_at or now) - (delivery.sent_at or delivery.born_at), timedelta(0))


def _seconds(ts: Any) -> tuple[int, int]:
    whole, _, rest = str(ts).partition(".")
    return (int(whole), int(rest or 0)) if whole.isdigit() and (not rest or rest.isdigit()) else (0, 0)
