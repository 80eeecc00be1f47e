"""Reads Slack's payloads: any bytes or shape gives a value or None, and raises nothing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

import msgspec

from spanpost.interactions.authorization import VIEW
from spanpost.interactions.protocols import PersonMessage
from spanpost.model.interventions import RATINGS, Verb
from spanpost.model.standing_approvals import Scope
from spanpost.text.sanitise import strip

#: Prefix of our action ids, callback ids and block ids.
PREFIX: Final = "spanpost:"
#: Action of the button that opens a dialogue with the whole question. It is no act on a task.
READ: Final = "read"
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
ID: Final = re.compile(r"^[A-Z][A-Z0-9]{1,31}\Z")
TS: Final = re.compile(r"^[0-9]{1,16}(\.[0-9]{1,16})?\Z")
_UUID: Final = re.compile(r"^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\Z")
#: What a button in a person's Home may mean.
_AT_HOME: Final = (Verb.APPROVE, Verb.DENY, Verb.CHOOSE, READ)
#: Attachments of a message, and characters of each text, that are read.
_ATTACHMENTS, _PART = 10, 4_000
_LABELLED: Final = re.compile(r"<([^<>|]{1,4000})(?:\|([^<>]{0,4000}))?>")


class Click(msgspec.Struct, frozen=True, kw_only=True):
    """A pressed button or menu entry."""

    #: A verb of interventions, ``view`` or ``read``.
    action: str
    key: UUID
    option: int | None
    scope: Scope
    user: str
    message: PersonMessage
    #: The root of the thread, if the message is in one.
    thread: str
    #: The bot that wrote the message, as Slack says.
    author: str
    trigger: str
    response_url: str
    is_foreign: bool
    idempotency_key: str
    at: datetime
    #: The button is in the person's Home, which has no channel.
    is_home: bool = False


class OpenedHome(msgspec.Struct, frozen=True, kw_only=True):
    """A person's look at their Home."""

    user: str
    is_foreign: bool


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A message that an app posted in a channel, not in a thread."""

    #: Its bot's id and its own, as far as Slack says them.
    apps: tuple[str, ...]
    team: str
    channel: str
    ts: str
    text: str
    at: datetime


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A submitted dialogue. `meta` is the metadata that we gave it."""

    user: str
    team: str
    meta: dict[str, Any]
    comment: str
    #: The decision chosen in it.
    choice: str
    #: Which dialogue it is, and the values of its fields by block.
    callback: str
    fields: dict[str, str]
    is_foreign: bool
    idempotency_key: str


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A person's message in a thread."""

    user: str
    #: The thread's root message.
    root: PersonMessage
    #: Timestamp of the message itself.
    ts: str
    text: str
    #: The text as written, mentions included.
    raw: str
    #: The user who began the thread, if Slack says so.
    parent: str
    is_foreign: bool
    idempotency_key: str
    at: datetime


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A press of Slack's own *Stop* in the thread of a session."""

    user: str
    #: The thread's root message.
    root: PersonMessage
    is_foreign: bool
    idempotency_key: str
    at: datetime


def decode(body: bytes, content_type: str) -> dict[str, Any] | None:
    """Return a request's payload: a JSON object, or a form with one in `payload`; None for anything else."""
    try:
        text = body.decode("utf-8")
        if content_type == FORM:
            form = parse_qs(text, keep_blank_values=True, strict_parsing=True, max_num_fields=100)
            if "payload" not in form:
                return {name: values[0] for name, values in form.items()}
            if len(form["payload"]) != 1:
                return None
            text = form["payload"][0]
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def team_of(body: dict[str, Any]) -> tuple[str, str]:
    """Return a payload's workspace and organisation; empty where it names none."""
    team = text_of(_dict(body.get("team")).get("id")) or text_of(body.get("team_id")) or text_of(body.get("team"))
    enterprise = text_of(_dict(body.get("enterprise")).get("id")) or text_of(body.get("enterprise_id"))
    enterprise = enterprise or text_of(_dict(body.get("team")).get("enterprise_id"))
    if not team:  # org-wide installations leave it out of interactions
        team = text_of(_dict(body.get("user")).get("team_id")) or text_of(_dict(body.get("view")).get("team_id"))
    return team if ID.match(team) else "", enterprise if ID.match(enterprise) else ""


def app_of(body: dict[str, Any]) -> str:
    """Return the id of the app that a payload is for."""
    return text_of(body.get("api_app_id"))


def departure(body: dict[str, Any]) -> tuple[str, float | None] | None:
    """Read an event that ends an app's token: the reason in a word, and the time; else None."""
    event = _dict(body.get("event"))
    at = body.get("event_time")
    when = float(at) if isinstance(at, (int, float)) and not isinstance(at, bool) and abs(at) < 1e11 else None
    match event.get("type") if body.get("type") == "event_callback" else None:
        case "app_uninstalled":
            return "uninstalled", when
        case "tokens_revoked" if _dict(event.get("tokens")).get("bot"):
            # It does not name the token: the stored one may be newer.
            return "revoked", None
    return None


def click(body: dict[str, Any], team: str) -> Click | None:
    """Read `block_actions`; None for anything else, or a button that is not ours."""
    actions = body.get("actions")
    action = _dict(actions[0]) if isinstance(actions, list) and len(actions) == 1 else {}
    chosen = text_of(_dict(action.get("selected_option")).get("value"))
    user, container = _dict(body.get("user")), _dict(body.get("container"))
    message = _dict(body.get("message"))
    channel = text_of(container.get("channel_id")) or text_of(_dict(body.get("channel")).get("id"))
    ts = text_of(container.get("message_ts")) or text_of(message.get("ts"))
    meant = grammar(text_of(action.get("action_id")), chosen or text_of(action.get("value")))
    who, action_ts = text_of(user.get("id")), text_of(action.get("action_ts"))
    view, is_home = _dict(body.get("view")), container.get("type") == "view"
    if meant is None or not (ID.match(who) and TS.match(action_ts)):
        return None
    if is_home:
        if view.get("type") != "home" or meant[0] not in _AT_HOME or channel or ts:
            return None
    elif not (ID.match(channel) and TS.match(ts)):
        return None
    if container.get("is_ephemeral") is True:
        return None
    word, option, scope, key = meant
    place = (channel, ts) if not is_home else ("home", meant[3].hex)
    idempotency_key = fingerprint("click", team, *place, text_of(action.get("action_id")), chosen, action_ts, who)
    thread = text_of(container.get("thread_ts")) or text_of(message.get("thread_ts"))
    return Click(
        action=word,
        key=key,
        option=option,
        scope=scope,
        user=who,
        message=PersonMessage(team=team, channel=channel, ts=ts),
        thread=thread if TS.match(thread) else "",
        author=text_of((view if is_home else message).get("bot_id")),
        trigger=text_of(body.get("trigger_id"))[:200],
        response_url=text_of(body.get("response_url"))[:1000],
        is_foreign=is_foreign(body, user.get("team_id"), team),
        idempotency_key=idempotency_key,
        at=moment(action_ts),
        is_home=is_home,
    )


def opened_home(body: dict[str, Any], team: str) -> OpenedHome | None:
    """Read an `app_home_opened` event of the tab *Home*; None for anything else.

    See docs.slack.dev/reference/events/app_home_opened.
    """
    event = _dict(body.get("event"))
    user = text_of(event.get("user"))
    if event.get("type") != "app_home_opened" or event.get("tab") != "home" or not ID.match(user):
        return None
    return OpenedHome(user=user, is_foreign=is_foreign(body, event.get("user_team"), team))


def grammar(action_id: str, value: str) -> tuple[str, int | None, Scope, UUID] | None:
    """Read ``spanpost:<verb>[:<n>]`` with a key as value; or a menu entry's value ``<verb>[:<n>]:<key>``.

    An approval may have a scope in place of the number.
    """
    if not action_id.startswith(PREFIX) or len(action_id) > 255 or len(value) > 2000:
        return None
    *before, key = value.removeprefix(PREFIX).split(":")
    words = before or action_id.removeprefix(PREFIX).split(":")
    if not _UUID.match(key) or not 1 <= len(words) <= 2 or words[0] not in (*Verb, VIEW, READ):
        return None
    option, scope = None, Scope.ONCE
    if len(words) == 2 and words[0] == Verb.APPROVE:
        if words[1] not in set(Scope):
            return None
        scope = Scope(words[1])
    elif len(words) == 2:
        if not (words[1].isascii() and words[1].isdigit() and len(words[1]) <= 3):
            return None
        option = int(words[1])
        if words[0] == Verb.RATE and option >= len(RATINGS):
            return None
    if (words[0] in (Verb.CHOOSE, Verb.RATE)) is not (option is not None) or words[0] == Verb.MESSAGE:
        return None
    return words[0], option, scope, UUID(key)


def submission(body: dict[str, Any], team: str) -> Submission | None:
    """Read `view_submission` of a dialogue of ours; None for anything else."""
    view, user = _dict(body.get("view")), _dict(body.get("user"))
    view_id, who = text_of(view.get("id")), text_of(user.get("id"))
    if not text_of(view.get("callback_id")).startswith(PREFIX) or not ID.match(who) or not view_id:
        return None
    try:
        meta = json.loads(text_of(view.get("private_metadata")))
    except (ValueError, RecursionError):
        return None
    comment = choice = ""
    fields: dict[str, str] = {}
    for name, block in _dict(_dict(view.get("state")).get("values")).items():
        for element in _dict(block).values():
            said = text_of(_dict(element).get("value"))
            chosen = text_of(_dict(_dict(element).get("selected_option")).get("value"))
            comment, choice = comment or said, choice or chosen
            fields[name] = strip(said or chosen)
    idempotency_key = fingerprint("view", team, view_id, text_of(view.get("hash")), who)
    return Submission(
        user=who,
        team=team,
        meta=_dict(meta),
        comment=strip(comment),
        choice=choice,
        callback=text_of(view.get("callback_id")),
        fields=fields,
        is_foreign=is_foreign(body, user.get("team_id"), team),
        idempotency_key=idempotency_key,
    )


def reply(body: dict[str, Any], team: str) -> Reply | None:
    """Read a `message` event with a person's new reply in a thread; None for anything else."""
    event = _dict(body.get("event"))
    channel, ts, root = (text_of(event.get(name)) for name in ("channel", "ts", "thread_ts"))
    who = text_of(event.get("user"))
    if event.get("type") != "message" or event.get("subtype") not in (None, "thread_broadcast", "file_share"):
        return None
    if event.get("bot_id") or event.get("bot_profile") or event.get("app_id") or event.get("hidden"):
        return None
    if not (ID.match(who) and ID.match(channel) and TS.match(ts) and TS.match(root)) or root == ts:
        return None
    raw = text_of(event.get("text"))
    return Reply(
        user=who,
        root=PersonMessage(team=team, channel=channel, ts=root),
        ts=ts,
        text=plain(raw),
        raw=raw,
        parent=text_of(event.get("parent_user_id")),
        is_foreign=is_foreign(body, event.get("user_team") or event.get("team"), team),
        idempotency_key=fingerprint("message", team, channel, ts),
        at=moment(ts),
    )


def announcement(body: dict[str, Any], team: str) -> Announcement | None:
    """Read a `message` event with a new message of an app in a channel; None for anything else."""
    event = _dict(body.get("event"))
    channel, ts, thread = (text_of(event.get(name)) for name in ("channel", "ts", "thread_ts"))
    if event.get("type") != "message" or event.get("subtype") not in (None, "bot_message") or event.get("hidden"):
        return None
    profile = _dict(event.get("bot_profile"))
    apps = tuple(text_of(said) for said in (event.get("bot_id"), event.get("app_id"), profile.get("app_id")) if said)
    if not apps or not (ID.match(channel) and TS.match(ts)) or thread not in ("", ts):
        return None
    attachments = event.get("attachments")
    parts = [text_of(event.get("text"))]
    for one in attachments[:_ATTACHMENTS] if isinstance(attachments, list) else ():
        said = _dict(one)
        parts += [text_of(said.get(name)) for name in ("pretext", "title", "text")]
    text = "\n".join(plain(part[:_PART]) for part in parts if part)
    return Announcement(apps=apps, team=team, channel=channel, ts=ts, text=text, at=moment(ts))


def stop(body: dict[str, Any], team: str) -> Stop | None:
    """Read an `agent_session_stopped` event; None for anything else.

    See docs.slack.dev/reference/events/agent_session_stopped.
    """
    event = _dict(body.get("event"))
    user, channel, thread, ts = (text_of(event.get(name)) for name in ("user", "channel", "thread_ts", "event_ts"))
    if event.get("type") != "agent_session_stopped" or not (ID.match(user) and ID.match(channel)):
        return None
    if not (TS.match(thread) and TS.match(ts)):
        return None
    return Stop(
        user=user,
        root=PersonMessage(team=team, channel=channel, ts=thread),
        is_foreign=is_foreign(body, event.get("user_team"), team),
        idempotency_key=fingerprint("stop", team, channel, thread, ts, user),
        at=moment(ts),
    )


def plain(text: str) -> str:
    """Return Slack's mrkdwn as a person sees it: entities and links written out."""

    def shown(match: re.Match[str]) -> str:
        target, label = match[1], match[2] or ""
        if target[0] in "@#!":
            sign = "@" if target[0] != "#" else "#"
            return sign + (label.lstrip("@#") or target[1:].removeprefix("subteam^"))
        target = target.removeprefix("mailto:")
        return f"{label} ({target})" if label and label != target else target

    shown_text = _LABELLED.sub(shown, text)
    return strip(shown_text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).strip()


def fingerprint(*parts: str) -> str:
    """Return the idempotency key shared by all repeats of an act."""
    return "slack:" + sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def moment(ts: str) -> datetime:
    """Return the time of a Slack timestamp; the epoch if it is outside the calendar."""
    try:
        return datetime.fromtimestamp(float(ts), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def is_foreign(body: dict[str, Any], home: object, team: str) -> bool:
    """Tell whether a payload marks its user as a member of another workspace.

    For members of an organisation Slack is asked later.
    """
    return bool(text_of(home)) and home != team and not team_of(body)[1]


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """Return a text; empty for anything else."""
    return value if isinstance(value, str) else ""
