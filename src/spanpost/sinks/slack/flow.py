"""The rules of posting, without a network: a generator that yields requests, is sent responses and returns a receipt.

The asynchronous sink, the preview and the tests drive the same generator. Rules:

1. State: the root message. Edited (`chat.update`) where a receipt says where it is, else posted (`chat.postMessage`).
2. An unchanged rendering is not sent.
3. News: a reply in the root message's thread. Without a root message there is no thread: `Unavailable`, later.
4. The start of a root task is told by its root message.
5. `invalid_blocks` is tried once more in plain sections.
"""

from __future__ import annotations

from collections.abc import Generator
from hashlib import blake2b
from typing import Any

import msgspec

from spanpost.domain.checkpoints import Kind
from spanpost.domain.deliveries import Delivery, Mode, Receipt
from spanpost.domain.errors import Rejected, Throttled, Unavailable, Unknown
from spanpost.fold.retries import from_seconds
from spanpost.sinks.slack import render
from spanpost.sinks.slack.render import Message, Style

#: Grafana links unfurl noisily. Not arguments of `chat.update`.
_QUIET = {"unfurl_links": False, "unfurl_media": False}
#: Slack took offence at the blocks, not at us.
_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "block_mismatch", "invalid_attachments"})
_THROTTLED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
#: It may have been posted: https://docs.slack.dev/reference/methods/chat.postMessage (errors, 2026-08).
_UNKNOWN = frozenset({"internal_error", "fatal_error", "request_timeout", "service_unavailable"})
#: Of a token or workspace, not of this letter: worth waiting for a person.
_AWAY = frozenset(
    {"account_inactive", "ekm_access_denied", "invalid_auth", "missing_scope", "not_authed", "team_access_not_granted"}
    | {"token_expired", "token_revoked"}
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the Web API."""

    method: str
    arguments: dict[str, Any]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What Slack answered: the HTTP status, the body, `Retry-After` in seconds."""

    status: int = 200
    body: dict[str, Any] = {}
    retry_after: float | None = None


Flow = Generator[Request, Response, Receipt]


def deliver(delivery: Delivery, *, channel: str, style: Style = Style.RICH) -> Flow:
    """Deliver one letter to a channel (an id, or for the first post a name)."""
    if delivery.mode is Mode.STATE:
        return (yield from _state(delivery, channel, style))
    return (yield from _news(delivery, style))


def _state(delivery: Delivery, channel: str, style: Style) -> Flow:
    known = delivery.lane_receipt.ref if delivery.lane_receipt is not None else {}
    message = render.root(delivery.task, delivery.children, key=delivery.key, style=style)
    mark = fingerprint(message)
    if "ts" not in known:
        body = yield from _call("chat.postMessage", {"channel": channel} | message.arguments() | _QUIET, delivery, style)
        return _receipt(body, channel, mark)
    if known.get("mark") == mark and not delivery.is_unknown:
        return Receipt(ref=known, skipped="unchanged")
    place = {"channel": known["channel"], "ts": known["ts"]}
    body = yield from _call("chat.update", place | message.arguments(), delivery, style)
    return Receipt(ref=known | {"mark": mark})


def _news(delivery: Delivery, style: Style) -> Flow:
    checkpoint = delivery.checkpoint
    if checkpoint is None:
        raise Rejected("news without a checkpoint", reason="empty")
    is_root = delivery.task.root_uid in (None, delivery.task.uid)
    if checkpoint.kind is Kind.START and is_root:
        return Receipt(skipped="the root message says so")
    known = delivery.lane_receipt.ref if delivery.lane_receipt is not None else {}
    if "ts" not in known:
        raise Unavailable("the task's message is not posted yet", reason="no_root")
    message = render.reply(delivery.task, checkpoint, key=delivery.key, is_root=is_root, style=style)
    place = {"channel": known["channel"], "thread_ts": known["ts"]}
    body = yield from _call("chat.postMessage", place | message.arguments() | _QUIET, delivery, style)
    return _receipt(body, known["channel"], fingerprint(message))


def _call(method: str, arguments: dict[str, Any], delivery: Delivery, style: Style) -> Generator[Request, Response, dict[str, Any]]:
    response = yield Request(method=method, arguments=arguments)
    error = str(response.body.get("error", ""))
    if error in _BLOCKS and style is Style.RICH:
        plainer = _plainer(delivery).arguments()
        response = yield Request(method=method, arguments=arguments | plainer)
    return read(response, method)


def _plainer(delivery: Delivery) -> Message:
    if delivery.mode is Mode.STATE or delivery.checkpoint is None:
        return render.root(delivery.task, delivery.children, key=delivery.key, style=Style.PLAIN)
    is_root = delivery.task.root_uid in (None, delivery.task.uid)
    return render.reply(delivery.task, delivery.checkpoint, key=delivery.key, is_root=is_root, style=Style.PLAIN)


def read(response: Response, method: str) -> dict[str, Any]:
    """Return the body of a good answer; raise what a bad one asks to do next."""
    error = str(response.body.get("error", ""))
    if response.status == 429 or error in _THROTTLED:
        raise Throttled(f"{method}: asked for patience", retry_after=from_seconds(response.retry_after, 30.0), reason="ratelimited")
    if response.status >= 500 or error in _UNKNOWN:
        raise Unknown(f"{method}: {error or response.status}", reason=error or f"http_{response.status}")
    if response.body.get("ok") is True:
        return response.body
    if error in _AWAY:
        raise Unavailable(f"{method}: {error}", reason=error)
    if not error:
        raise Unknown(f"{method}: an answer that is not Slack's (HTTP {response.status})", reason="bad_answer")
    raise Rejected(f"{method}: {error}", reason=error)


def _receipt(body: dict[str, Any], channel: str, mark: str) -> Receipt:
    ts = body.get("ts")
    if not ts:
        raise Unknown("posted, but the answer names no ts", reason="bad_answer")
    return Receipt(ref={"channel": str(body.get("channel") or channel), "ts": str(ts), "mark": mark})


def fingerprint(message: Message) -> str:
    """Return a short hash of what would be shown."""
    shown = msgspec.json.encode((message.text, message.blocks, message.attachments))
    return blake2b(shown, digest_size=8).hexdigest()
