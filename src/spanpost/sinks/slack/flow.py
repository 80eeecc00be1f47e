"""Rules of posting, without a network: a generator that yields requests, is sent responses and returns a
receipt.

The sink, the preview and the tests drive the same generator. Rules:

1. State: the root message. It is edited (`chat.update`) if a receipt says where it is, else posted
   (`chat.postMessage`).
2. An unchanged rendering is not sent, unless the delivery was in doubt: the visible message may then be older.
3. Checkpoint: a reply in the root message's thread. The state goes first; if it was given up there is no thread:
   `Rejected`.
4. The root message itself reports the start of a root task.
5. Refused blocks are sent once more in plain sections. A task whose message had to be plain stays plain.
6. A deleted message stays deleted: a person did it. Only for an open question, or when the task failed, it is posted
   again, once. Later replies go to the new thread.
7. If Slack allows no more edits, the message stays as it is. The thread goes on and reports the end.
8. A checkpoint that is delivered again edits its reply. An alert is shown in its current state.
9. If a channel refuses a message, it goes to the place's fallback. The message says so, and stays there.
10. A change that no person reads causes no edit (`edits`): else every heartbeat and every call would be one.
11. A long log is a file in the thread, uploaded once after its reply. The reply stays without it if that fails.
12. If the app is declared an agent, a message's thread has a session (`sessions`).
13. An alert that is another app's message has that message for its root: it is never edited, and its thread goes on.
    A route that names another channel or workspace has a message of its own there.
14. A message that continues in another (`Delivery.has_moved`) is edited to say so, and is never posted for it.

A receipt's `ref` holds ``channel`` (its id), ``ts``, ``mark`` (a hash of the shown content; missing after
doubt), ``g`` (the generation, from 0), ``style`` if it is plain, ``ended`` (``deleted`` or ``closed``) if
nothing more can be shown in it, ``instead_of`` and ``why`` in a fallback, and ``file``: Slack's error code
if there is no file. ``is_anothers`` says that another app wrote the message.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.errors import DeliveryRefused, DeliveryUncertain, Rejected
from spanpost.readers.channel_alerts import message_of
from spanpost.routing.planned import ON_THE_WAY, mark_of
from spanpost.routing.routes import is_paced
from spanpost.sinks import labels
from spanpost.sinks.slack import alert_blocks, edits, files, render, replies, sessions, summaries
from spanpost.sinks.slack.blocks import fingerprint
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.errors import BLOCKS, CLOSED, GONE, meaning
from spanpost.sinks.slack.rates import EDIT, POST
from spanpost.sinks.slack.render import ANONYMOUS, SlackMessage, Style
from spanpost.sinks.slack.style import SlackStyle

#: Grafana links unfurl into large previews. `chat.update` does not accept these arguments.
_QUIET: Final = {"unfurl_links": False, "unfurl_media": False}
#: Last generation of a task's message: it is posted again once.
LAST: Final = 1
#: Seconds after which an answer's message was not created by the call that it answers.
OLD: Final = 5.0
#: Namespace of `client_msg_id`.
_SPACE: Final = UUID("0c6f9a52-5a0e-4f0e-9d0e-6c1f1d6a2b11")

DELETED, CLOSED_FOR_EDITS = "deleted", "closed"
MOVED: Final = "another message already shows it"
#: Reasons for doing nothing (`Receipt.skipped`), for people.
WHY: Final = {
    DELETED: "its message was deleted in Slack",
    CLOSED_FOR_EDITS: "Slack allows no more edits of its message",
}


def deliver(
    delivery: Delivery, place: SlackPlace, slack_style: SlackStyle = ANONYMOUS, figures: Sequence[str] = ()
) -> Talk[Receipt]:
    """Deliver to a place (a channel's id, or for the first post its name)."""
    if delivery.mode is Mode.STATE:
        receipt = yield from _DeliveryFlow(delivery, place, slack_style).deliver()
        return (yield from sessions.follow(delivery, receipt)) if slack_style.has_sessions else receipt
    return (yield from _checkpoint(delivery, place, slack_style, figures))


class _DeliveryFlow:
    """Delivery of a task's root message."""

    def __init__(self, delivery: Delivery, place: SlackPlace, slack_style: SlackStyle) -> None:
        self.delivery, self.place, self.known = delivery, place, known_of(delivery)
        self.slack_style = _in_place_of(slack_style, self.known)

    def draw(self, generation: int, moved_to: str = "", *, is_new: bool = False) -> Any:
        """Return a function that renders the message in a style."""
        whole = self.delivery.task, self.delivery.children
        if (summary := self.delivery.summary) is not None:
            return lambda style, shown=None: summaries.draw(
                summary, key=self.delivery.key, generation=generation, style=style, slack_style=self.slack_style
            )
        if (alert := self.delivery.alert) is not None:
            return lambda style, shown=whole: alert_blocks.root(
                alert,
                *shown,
                key=self.delivery.key,
                generation=generation,
                style=style,
                slack_style=self.slack_style,
            )
        return lambda style, shown=whole: render.root(
            *shown,
            key=self.delivery.key,
            generation=generation,
            style=style,
            slack_style=self.slack_style,
            moved_to=moved_to,
            is_new=is_new,
        )

    def mark(self, generation: int, style: Style) -> str:
        """Return a hash of what people read in the message (`edits`)."""
        drawn = fingerprint_of(self.draw(generation)(style, edits.read(self.delivery.task, self.delivery.children)))
        moved_to = self.delivery.moved_to
        return fingerprint(drawn, str(moved_to.ref.get("ts"))) if moved_to is not None else drawn

    def deliver(self) -> Talk[Receipt]:
        """Edit the message, or post it."""
        delivery, known = self.delivery, self.known
        if "ts" not in known:
            return Receipt(skipped=MOVED) if delivery.has_moved else (yield from self.post(0))
        generation = int(known.get("g", 0))
        if known.get("ended"):
            if revives(delivery, known):
                return (yield from self.post(generation + 1))
            return Receipt(ref=known, skipped=WHY.get(str(known["ended"]), "nothing more can be shown"))
        style = Style.PLAIN if known.get("style") else Style.RICH
        if known.get("mark") == self.mark(generation, style) and not delivery.is_unknown:
            return Receipt(ref=known, skipped="unchanged")
        where = {"channel": known["channel"], "ts": known["ts"]}
        moved_to = (yield from _link(delivery.moved_to)) if delivery.moved_to is not None else ""
        request, response, drawn = yield from _try(EDIT, where, self.draw(generation, moved_to), style)
        if response.error in GONE and revives(delivery, known):
            return (yield from self.post(generation + 1))
        if response.error in GONE | CLOSED:
            # Not `skipped`: a call was made. The following deliveries are skipped.
            return Receipt(ref=known | {"ended": DELETED if response.error in GONE else CLOSED_FOR_EDITS})
        _demand(response, request, self.place)
        return Receipt(ref=known | self._seen(drawn, generation))

    def post(self, generation: int) -> Talk[Receipt]:
        """Post the message; in the fallback if the channel refuses it."""
        place = self.place
        instead: dict[str, Any] = {name: self.known[name] for name in ("instead_of", "why") if name in self.known}
        channel = place.channel
        if place.fallback and (instead or place.refused):
            instead = instead or {"instead_of": place.channel, "why": place.refused}
            channel = place.fallback
        self.slack_style = _in_place_of(self.slack_style, instead)
        request, response, drawn = yield from self._post(channel, generation)
        error = meaning(response, request, place)
        if place.fallback and not instead and isinstance(error, DeliveryRefused) and error.closes == place.address:
            instead = {"instead_of": place.channel, "why": error.reason}
            self.slack_style = _in_place_of(self.slack_style, instead)
            channel = place.fallback
            request, response, drawn = yield from self._post(channel, generation)
            error = meaning(response, request, place)
        if error is not None:
            raise error
        posted = _posted(response, channel) | ({"g": generation} if generation else {}) | instead
        if _is_old(response):
            # Slack knew the `client_msg_id` and answers with the earlier message, whose text may be old.
            place_of = {"channel": posted["channel"], "ts": posted["ts"]}
            request, response, drawn = yield from _try(EDIT, place_of, self.draw(generation), drawn.style)
            if meaning(response, request, place) is not None:
                return Receipt(ref=posted)  # without a mark, so that the next state is always sent
        return Receipt(ref=posted | self._seen(drawn, generation), diverted=str(instead.get("why", "")))

    def _post(
        self, channel: str, generation: int
    ) -> Generator[SlackRequest, Response, tuple[SlackRequest, Response, SlackMessage]]:
        arguments = {"channel": channel, "client_msg_id": client_msg_id(self.delivery.key, generation)} | _QUIET
        return (yield from _try(POST, arguments, self.draw(generation, is_new=True), Style.RICH))

    def _seen(self, drawn: SlackMessage, generation: int) -> dict[str, Any]:
        seen = {"mark": self.mark(generation, drawn.style)}
        return seen | {"style": Style.PLAIN.value} if drawn.style is Style.PLAIN else seen


def _link(message: Receipt) -> Talk[str]:
    """Ask for a message's address; empty if Slack does not say, because the message works without it."""
    where = {"channel": message.ref.get("channel"), "message_ts": message.ref.get("ts")}
    if not all(where.values()) or message.ref.get("ended") == DELETED:
        return ""
    response = yield SlackRequest(method="chat.getPermalink", arguments=where, is_optional=True)
    found = response.body.get("permalink")
    return found if isinstance(found, str) else ""


def _in_place_of(slack_style: SlackStyle, known: dict[str, Any]) -> SlackStyle:
    if "instead_of" not in known:
        return slack_style
    note = slack_style.locale.say("root.meant_for", channel=known["instead_of"], why=known.get("why", "refused"))
    return msgspec.structs.replace(slack_style, note=note)


def revives(delivery: Delivery, known: dict[str, Any]) -> bool:
    """Tell whether a deleted message would be posted again for this delivery."""
    if known.get("ended") == CLOSED_FOR_EDITS or int(known.get("g", 0)) >= LAST:
        return False
    task = delivery.task
    return bool(task.open_approvals or task.open_child_approvals) or task.status == "error"


def may_have_revived(delivery: Delivery, known: dict[str, Any]) -> bool:
    """Tell whether an earlier attempt may have posted the message again, whatever the task's state is now."""
    if known.get("ended") == CLOSED_FOR_EDITS or int(known.get("g", 0)) >= LAST:
        return False
    task = delivery.task
    return delivery.has_moved or bool(task.approvals) or task.error is not None or task.status == "error"


def _checkpoint(
    delivery: Delivery, place: SlackPlace, slack_style: SlackStyle, figures: Sequence[str]
) -> Talk[Receipt]:
    checkpoint = delivery.checkpoint
    if checkpoint is None:
        raise Rejected("a checkpoint delivery without a checkpoint", reason="empty")
    is_root = delivery.task.root_uid in (None, delivery.task.uid)
    known = known_of(delivery)
    if checkpoint.kind is Kind.START and is_root and not known.get("is_anothers"):
        return Receipt(skipped="the root message says so")
    if "ts" not in known:
        # Not `Unavailable`, which would count against Slack: the state's delivery came first, and failed.
        raise Rejected("there is no message for its thread: retry the task's state first", reason="no_root")
    if known.get("ended") == DELETED:
        return Receipt(skipped=WHY[DELETED])
    own = delivery.receipt.ref if delivery.receipt is not None else {}
    if is_paced(checkpoint) and delivery.key.endswith(ON_THE_WAY) and labels.is_final(delivery.task):
        return Receipt(ref=own, skipped="its end says more")
    mark = mark_of(delivery.key, checkpoint.id)

    def draw(style: Style) -> SlackMessage:
        if delivery.alert is not None:
            return alert_blocks.reply(
                delivery.alert, delivery.task, key=mark, is_root=is_root, style=style, slack_style=slack_style
            )
        return replies.reply(
            delivery.task,
            checkpoint,
            key=mark,
            is_root=is_root,
            style=style,
            slack_style=slack_style,
            count=delivery.count,
            figures=figures or own.get("figures", ()),
        )

    style = Style.PLAIN if known.get("style") else Style.RICH
    if "ts" in own:
        return (yield from _edit_reply(delivery, place, own, draw, style))
    if own.get("ended"):
        return Receipt(ref=own, skipped=WHY.get(str(own["ended"]), "nothing more can be shown"))
    file = yield from files.upload(replies.as_file(replies.log_of(delivery.task, checkpoint), slack_style))
    arguments = {
        "channel": known["channel"],
        "thread_ts": known["ts"],
        "client_msg_id": client_msg_id(mark, 0),
    } | _QUIET
    request, response, drawn = yield from _try(POST, arguments, draw, style)
    if response.error in GONE:
        return Receipt(ref={"ended": DELETED})
    _demand(response, request, place)
    posted = _posted(response, known["channel"])
    if is_stray(response):
        # Best effort: a reply that cannot be deleted stays in the channel, once.
        yield SlackRequest(method="chat.delete", arguments={"channel": posted["channel"], "ts": posted["ts"]})
        return Receipt(ref={"ended": DELETED})
    if file is not None:
        missing = yield from files.share(file, posted["channel"], known["ts"])
        posted |= {"file": missing} if missing else {}
    return Receipt(ref=posted | {"mark": fingerprint_of(drawn)} | ({"figures": list(figures)} if figures else {}))


def _edit_reply(delivery: Delivery, place: SlackPlace, own: dict[str, Any], draw: Any, style: Style) -> Talk[Receipt]:
    style = Style.PLAIN if own.get("style") else style
    if own.get("ended"):
        return Receipt(ref=own, skipped=WHY.get(str(own["ended"]), "nothing more can be shown"))
    if own.get("mark") == fingerprint_of(draw(style)) and not delivery.is_unknown:
        return Receipt(ref=own, skipped="unchanged")
    where = {"channel": own["channel"], "ts": own["ts"]}
    request, response, drawn = yield from _try(EDIT, where, draw, style)
    if response.error in GONE | CLOSED:
        return Receipt(ref=own | {"ended": DELETED if response.error in GONE else CLOSED_FOR_EDITS})
    _demand(response, request, place)
    plain = {"style": Style.PLAIN.value} if drawn.style is Style.PLAIN else {}
    return Receipt(ref=own | {"mark": fingerprint_of(drawn)} | plain)


def is_stray(response: Response) -> bool:
    """Tell whether a reply is in the channel instead of its thread.

    Slack posts a reply to a deleted message in the channel itself. The only sign is that `thread_ts` is
    missing (slack-go/slack #1571).
    """
    message = response.body.get("message")
    return isinstance(message, dict) and bool(message) and not message.get("thread_ts")


def _try(
    method: str, arguments: dict[str, Any], draw: Any, style: Style
) -> Generator[SlackRequest, Response, tuple[SlackRequest, Response, SlackMessage]]:
    """Make the call, and again in plain sections if the blocks are refused; return the shown message, too."""
    drawn: SlackMessage = draw(style)
    request = SlackRequest(method=method, arguments=arguments | drawn.arguments())
    response = yield request
    if response.error in BLOCKS and style is Style.RICH:
        drawn = draw(Style.PLAIN)
        request = SlackRequest(method=method, arguments=arguments | drawn.arguments())
        response = yield request
    return request, response, drawn


def _demand(response: Response, request: SlackRequest, place: SlackPlace) -> None:
    error = meaning(response, request, place)
    if error is not None:
        raise error


def _is_old(response: Response) -> bool:
    """Tell whether a post was answered with a message that existed before."""
    try:
        return response.date is not None and float(response.body.get("ts") or "nan") < response.date - OLD
    except (TypeError, ValueError):
        return False


def _posted(response: Response, channel: str) -> dict[str, Any]:
    ts = response.body.get("ts")
    if not ts:
        raise DeliveryUncertain("posted, but the answer names no ts", reason="bad_answer")
    return {"channel": str(response.body.get("channel") or channel), "ts": str(ts)}


def known_of(delivery: Delivery) -> dict[str, Any]:
    """Return the receipt of the root message; empty before it is posted."""
    if delivery.message_receipt is not None:
        return delivery.message_receipt.ref
    if delivery.alert is not None and (posted := message_of(delivery.alert, delivery.address)) is not None:
        return {"channel": posted[0], "ts": posted[1], "ended": CLOSED_FOR_EDITS, "is_anothers": True}
    return {}


def client_msg_id(key: str, generation: int) -> str:
    """Return an id that is the same for every attempt.

    Slack seems to refuse duplicates of it; nothing relies on that.
    """
    return str(uuid5(_SPACE, f"{key}|{generation}"))


def fingerprint_of(message: SlackMessage) -> str:
    """Return a short hash of the shown content."""
    return fingerprint(message.text, message.blocks, message.attachments)
