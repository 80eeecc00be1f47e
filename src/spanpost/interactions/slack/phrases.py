"""What somebody says to the app in words, read: a slash command, or a message that mentions it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.slack import payloads
from spanpost.text.sanitise import strip

_ID: Final = re.compile(r"^[A-Z][A-Z0-9]{1,31}\Z")
_TS: Final = re.compile(r"^[0-9]{1,16}(\.[0-9]{1,16})?\Z")
_COMMAND: Final = re.compile(r"^/[^\s/<>&|`]{1,40}\Z")
#: No word that anybody can write: a button goes on with a list.
MORE: Final = f"{payloads.PREFIX} more"
#: More is no command. Slack's own limit of a message's text.
_MOST: Final = 4_000


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """What was said. `word` is its first word in small deliveries, `rest` what follows."""

    word: str
    rest: str
    user: str
    team: str
    channel: str
    #: As a slash command says it: not of a private one, nor of a mention.
    channel_name: str = ""
    #: How one begins a command: the slash command's own name; empty where the app was mentioned.
    by: str = ""
    #: Where to answer; empty: in the channel, and in the thread where there is one.
    response_url: str = ""
    thread: str = ""
    is_foreign: bool = False
    idempotency_key: str
    at: datetime


def command(body: dict[str, Any], team: str) -> Spoken | None:
    """Read a slash command; None for what is none."""
    user, channel, name, trigger = (_text(body.get(key)) for key in ("user_id", "channel_id", "command", "trigger_id"))
    if not (_ID.match(user) and _ID.match(channel) and _COMMAND.match(name) and trigger):
        return None
    word, rest = _split(_text(body.get("text")))
    return Spoken(
        word=word,
        rest=rest,
        user=user,
        team=team,
        channel=channel,
        channel_name=_text(body.get("channel_name"))[:100],
        by=name,
        response_url=_text(body.get("response_url"))[:1000],
        # Slack makes one for each time that somebody sends it off.
        idempotency_key=payloads.fingerprint("command", team, trigger, user),
        at=datetime.now(UTC),
    )


def goes_on(body: dict[str, Any], team: str) -> Spoken | None:
    """Read the button that goes on with a list; None for what is none. Its value is `rest`, and nothing of it is believed."""
    actions = body.get("actions")
    action = actions[0] if isinstance(actions, list) and len(actions) == 1 and isinstance(actions[0], dict) else {}
    user, container = body.get("user"), body.get("container")
    user, container = user if isinstance(user, dict) else {}, container if isinstance(container, dict) else {}
    who, channel, at = _text(user.get("id")), _text(container.get("channel_id")), _text(action.get("action_ts"))
    value = _text(action.get("value"))
    if not (_ID.match(who) and _ID.match(channel) and _TS.match(at)) or len(value) > _MOST:
        return None
    thread, home = _text(container.get("thread_ts")), _text(user.get("team_id"))
    return Spoken(
        word=MORE,
        rest=value,
        user=who,
        team=team,
        channel=channel,
        response_url=_text(body.get("response_url"))[:1000],
        thread=thread if _TS.match(thread) else "",
        is_foreign=bool(home) and home != team and not payloads.team_of(body)[1],
        idempotency_key=payloads.fingerprint("more", team, channel, at, who, value),
        at=payloads.moment(at),
    )


def mention(body: dict[str, Any], team: str, bot_user: str) -> Spoken | None:
    """Read an `app_mention` that a person wrote; None for anything else."""
    event = body.get("event")
    if not isinstance(event, dict) or event.get("type") != "app_mention" or event.get("edited") or event.get("subtype"):
        return None
    if event.get("bot_id") or event.get("bot_profile") or event.get("app_id"):
        return None
    user, channel, ts, thread = (_text(event.get(key)) for key in ("user", "channel", "ts", "thread_ts"))
    if not (bot_user and _ID.match(user) and _ID.match(channel) and _TS.match(ts)) or user == bot_user:
        return None
    # What stands before the mention is said to others.
    said = re.split(rf"<@{re.escape(bot_user)}(?:\|[^<>]*)?>", _text(event.get("text")), maxsplit=1)[-1]
    word, rest = _split(payloads.plain(said))
    home = _text(event.get("user_team")) or _text(event.get("team"))
    return Spoken(
        word=word,
        rest=rest,
        user=user,
        team=team,
        channel=channel,
        thread=thread if _TS.match(thread) and thread != ts else "",
        is_foreign=bool(home) and home != team and not payloads.team_of(body)[1],
        idempotency_key=payloads.fingerprint("mention", team, channel, ts),
        at=payloads.moment(ts),
    )


def place(spoken: Spoken) -> PersonMessage | None:
    """Return the root of the thread in which it was said; None where it was in none."""
    return PersonMessage(team=spoken.team, channel=spoken.channel, ts=spoken.thread) if spoken.thread else None


def _split(text: str) -> tuple[str, str]:
    word, _, rest = strip(text[:_MOST]).strip().partition(" ")
    head, feed, tail = word.partition("\n")
    return head.casefold(), f"{tail} {rest}".strip() if feed else rest.strip()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
