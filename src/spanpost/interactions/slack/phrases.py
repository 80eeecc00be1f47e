"""Reads slash commands, and messages that mention the app."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.slack import payloads
from spanpost.text.sanitise import strip

_COMMAND: Final = re.compile(r"^/[^\s/<>&|`]{1,40}\Z")
#: The word of the next-page button. It has a space, so nobody can type it.
MORE: Final = f"{payloads.PREFIX} more"
#: Action id of a button that starts work.
RUN: Final = f"{payloads.PREFIX}run"
#: Characters of a command, at most: Slack's own limit for a message.
_MOST: Final = 4_000


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A command in words. `word` is its first word in lower case, `rest` what follows."""

    word: str
    rest: str
    user: str
    team: str
    channel: str
    #: From a slash command, of a public channel; else empty.
    channel_name: str = ""
    #: How the user begins a command: the slash command's name; empty for a mention.
    by: str = ""
    #: Opens a dialogue, for three seconds; empty for a mention.
    trigger: str = ""
    #: Where to answer; empty: in the channel, and in the thread if there is one.
    response_url: str = ""
    thread: str = ""
    is_foreign: bool = False
    idempotency_key: str
    at: datetime


def command(body: dict[str, Any], team: str) -> Spoken | None:
    """Read a slash command; None for anything else."""
    user, channel, name, trigger = (
        payloads.text_of(body.get(key)) for key in ("user_id", "channel_id", "command", "trigger_id")
    )
    if not (payloads.ID.match(user) and payloads.ID.match(channel) and _COMMAND.match(name) and trigger):
        return None
    word, rest = _split(payloads.text_of(body.get("text")))
    return Spoken(
        word=word,
        rest=rest,
        user=user,
        team=team,
        channel=channel,
        channel_name=payloads.text_of(body.get("channel_name"))[:100],
        by=name,
        trigger=trigger[:200],
        response_url=payloads.text_of(body.get("response_url"))[:1000],
        # Slack makes one for each submission.
        idempotency_key=payloads.fingerprint("command", team, trigger, user),
        at=datetime.now(UTC),
    )


def goes_on(body: dict[str, Any], team: str) -> Spoken | None:
    """Read the button of a next page, or of a start; None for anything else.

    Its value becomes `rest`, and is untrusted: it can only say what its user may type.
    """
    actions = body.get("actions")
    action = actions[0] if isinstance(actions, list) and len(actions) == 1 and isinstance(actions[0], dict) else {}
    user, container = body.get("user"), body.get("container")
    user, container = user if isinstance(user, dict) else {}, container if isinstance(container, dict) else {}
    who, channel, at = (
        payloads.text_of(user.get("id")),
        payloads.text_of(container.get("channel_id")),
        payloads.text_of(action.get("action_ts")),
    )
    value = payloads.text_of(action.get("value"))
    if not (payloads.ID.match(who) and payloads.ID.match(channel) and payloads.TS.match(at)) or len(value) > _MOST:
        return None
    thread, home = payloads.text_of(container.get("thread_ts")), payloads.text_of(user.get("team_id"))
    is_run = payloads.text_of(action.get("action_id")).startswith(RUN)
    # A second press of the same *Run* starts nothing.
    kind, turn = ("run", payloads.text_of(container.get("message_ts"))) if is_run else ("more", at)
    return Spoken(
        word="start" if is_run else MORE,
        rest=value,
        trigger=payloads.text_of(body.get("trigger_id"))[:200] if is_run else "",
        user=who,
        team=team,
        channel=channel,
        response_url=payloads.text_of(body.get("response_url"))[:1000],
        thread=thread if payloads.TS.match(thread) else "",
        is_foreign=bool(home) and home != team and not payloads.team_of(body)[1],
        idempotency_key=payloads.fingerprint(kind, team, channel, turn, who, value),
        at=payloads.moment(at),
    )


def mention(body: dict[str, Any], team: str, bot_user: str) -> Spoken | None:
    """Read an `app_mention` written by a person; None for anything else."""
    event = body.get("event")
    if not isinstance(event, dict) or event.get("type") != "app_mention" or event.get("edited") or event.get("subtype"):
        return None
    if event.get("bot_id") or event.get("bot_profile") or event.get("app_id"):
        return None
    user, channel, ts, thread = (payloads.text_of(event.get(key)) for key in ("user", "channel", "ts", "thread_ts"))
    if (
        not (bot_user and payloads.ID.match(user) and payloads.ID.match(channel) and payloads.TS.match(ts))
        or user == bot_user
    ):
        return None
    # Text before the mention is meant for others.
    said = re.split(rf"<@{re.escape(bot_user)}(?:\|[^<>]*)?>", payloads.text_of(event.get("text")), maxsplit=1)[-1]
    word, rest = _split(payloads.plain(said))
    home = payloads.text_of(event.get("user_team")) or payloads.text_of(event.get("team"))
    return Spoken(
        word=word,
        rest=rest,
        user=user,
        team=team,
        channel=channel,
        thread=thread if payloads.TS.match(thread) and thread != ts else "",
        is_foreign=bool(home) and home != team and not payloads.team_of(body)[1],
        idempotency_key=payloads.fingerprint("mention", team, channel, ts),
        at=payloads.moment(ts),
    )


def place(spoken: Spoken) -> PersonMessage | None:
    """Return the root of the command's thread; None outside a thread."""
    return PersonMessage(team=spoken.team, channel=spoken.channel, ts=spoken.thread) if spoken.thread else None


def _split(text: str) -> tuple[str, str]:
    word, _, rest = strip(text[:_MOST]).strip().partition(" ")
    head, feed, tail = word.partition("\n")
    return head.casefold(), f"{tail} {rest}".strip() if feed else rest.strip()
