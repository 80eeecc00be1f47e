"""A Slack workspace without a network: channels, messages, threads, and tokens with their scopes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spanpost.testing.fake_slack import rules
from spanpost.testing.fake_slack.channels import Channel, Message
from spanpost.testing.fake_slack.oauth import OauthApp
from spanpost.testing.fake_slack.rules import SlackError

#: All scopes that the docs ask for.
SCOPES: Final = frozenset(
    {"chat:write", "channels:history", "groups:history", "channels:read", "groups:read", "channels:join", "files:write"}
    | {"users:read", "users:read.email", "links:read", "links:write"}
)
_TRUE = (True, "true", "1", 1)


@dataclass
class WorkspaceToken:
    """A bot's token."""

    scopes: set[str]
    user_id: str = "U0SPANPOST"
    bot_id: str = "B0SPANPOST"
    #: Slack's error for it; empty while it is accepted.
    refused: str = ""
    team: str = "T0ACME"


class Workspace:
    """One team with channels and tokens.

    Methods of the Web API are `call`; the others are what people and administrators do.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.tokens: dict[str, WorkspaceToken] = {}
        self.channels: dict[str, Channel] = {}
        #: Posts are invisible to lookups for so many seconds.
        self.stale = 0.0
        #: Seconds after which a message can be edited no more; None: always.
        self.edit_window: float | None = None
        #: Types of blocks that are refused.
        self.refused_blocks: frozenset[str] = frozenset()
        #: Messages a page at most; 15 for an app that is sold outside Slack's marketplace.
        self.page = 999
        #: A post whose `client_msg_id` is known is answered with the message that has it, as Slack seems to
        #: do.
        self.dedupes = False
        #: Files by id: name, content once it was uploaded, and where it was shared (channel, thread).
        self.files: dict[str, dict[str, Any]] = {}
        #: Where files are uploaded to, set by who serves them.
        self.uploads = "https://files.slack.com/upload/"
        #: How others install our app.
        self.oauth = OauthApp()
        #: Sessions of an app that is declared an agent, by channel and thread; None: it is not.
        self.sessions: dict[tuple[str, str], str] | None = None
        #: It hears of the button *Stop*.
        self.hears_stop = True
        #: Users by their address.
        self.users: dict[str, dict[str, Any]] = {}
        #: What one person alone was shown: channel, person, text.
        self.whispers: list[tuple[str, str, str]] = []
        self._last = 0

    # --- people ------------------------------------------------------------------------------------------------------

    def add_token(self, token: str, scopes: Iterable[str] = SCOPES, **who: str) -> WorkspaceToken:
        """Install an app."""
        self.tokens[token] = WorkspaceToken(set(scopes), **who)
        return self.tokens[token]

    def add_channel(self, name: str, *, is_private: bool = False, members: Iterable[str] = ("U0SPANPOST",)) -> Channel:
        """Open a channel; our app is in it where nothing else is said."""
        channel = Channel(
            f"{'G' if is_private else 'C'}{len(self.channels) + 1:09d}", name.removeprefix("#"), is_private
        )
        channel.members.update(members)
        self.channels[channel.id] = channel
        return channel

    def channel(self, name: str) -> Channel:
        """Return a channel by its id or name."""
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def remove(self, channel: str, ts: str) -> None:
        """Delete a message, as a person does. One that has replies leaves a tombstone."""
        self.channel(channel).drop(ts)

    def buttons(self, newest: int = 300) -> list[dict[str, Any]]:
        """Return the buttons of the newest messages of each channel, as a person sees them."""
        seen = []
        for channel in self.channels.values():
            for message in sorted(channel.all(), key=lambda each: float(each["ts"]))[-newest:]:
                where = {"channel": channel.id, **{key: message.get(key, "") for key in ("ts", "thread_ts", "bot_id")}}
                for part in (message, *message.get("attachments", ())):
                    elements = [one for block in part.get("blocks", ()) for one in block.get("elements", ())]
                    seen += [where | one for one in elements if one.get("type") == "button"]
        return seen

    def say(self, channel: str, text: str, *, user: str = "U0PERSON", metadata: Mapping[str, Any] | None = None) -> str:
        """Post as somebody else."""
        ts = self._ts()
        said: Message = {"type": "message", "user": user, "text": text, "ts": ts, "shown_at": time.monotonic()}
        self.channel(channel).add(said | ({"metadata": dict(metadata)} if metadata else {}))
        return ts

    # --- the Web API -------------------------------------------------------------------------------------------------

    def call(
        self, method: str, given: Mapping[str, Any], token: str | None
    ) -> tuple[dict[str, Any], WorkspaceToken | None]:
        """Carry a call out. Raises `SlackError` for ``ok: false``."""
        if method not in rules.ARGUMENTS:
            raise SlackError("unknown_method", req_method=method)
        if method == "oauth.v2.access":
            return {"ok": True} | self.oauth.access(
                given, token or "", lambda new, team: self.add_token(new, team=team)
            ), None
        if not token:
            raise SlackError("not_authed")
        caller = self.tokens.get(token)
        if caller is None:
            raise SlackError("invalid_auth")
        if caller.refused:
            raise SlackError(caller.refused)
        rules.arguments(method, given)
        answer: dict[str, Any] = getattr(self, f"_{method.replace('.', '_')}")(given, caller)
        return {"ok": True} | answer, caller

    def _auth_test(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        who = {"user": "spanpost", "user_id": caller.user_id, "bot_id": caller.bot_id, "is_enterprise_install": False}
        return {"url": "https://acme.slack.com/", "team": "Acme", "team_id": caller.team} | who

    def _agents_sessions_setStatus(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        """After docs.slack.dev/reference/methods/agents.sessions.setStatus, 2026-09."""
        self._need(caller, "chat:write")
        if self.sessions is None:
            raise SlackError("not_authorized")
        if given["status"] not in ("active", "processing", "suspended", "closed"):
            raise SlackError("invalid_arguments")
        channel = self._seen_by(given.get("channel_id"), caller)
        self._message(channel, given.get("thread_ts"))
        self.sessions[channel.id, str(given["thread_ts"])] = str(given["status"])
        warning = {} if self.hears_stop else {"warning": "missing_agent_session_stopped_event_subscription"}
        return {"status": given["status"]} | warning

    def _chat_postMessage(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        self._need(caller, "chat:write")
        channel = self._to_post(given, caller)
        shown = rules.content("chat.postMessage", given, self.refused_blocks)
        known = [
            m
            for m in (channel.all() if self.dedupes else ())
            if m.get("client_msg_id", "") == given.get("client_msg_id")
        ]
        if known:
            return {"channel": channel.id, "ts": known[0]["ts"], "message": _public(known[0])}
        ts = self._ts()
        message: Message = {
            "type": "message",
            "user": caller.user_id,
            "bot_id": caller.bot_id,
            "ts": ts,
            "shown_at": time.monotonic(),
        }
        message |= shown
        if "client_msg_id" in given:
            message["client_msg_id"] = given["client_msg_id"]
        parent = channel.get(str(given.get("thread_ts", "")))
        if parent is not None:
            # A reply to a reply goes into the reply's thread. To a message that is no more, it goes into the
            # channel.
            message["thread_ts"] = parent.setdefault("thread_ts", parent["ts"])
        channel.add(message)
        return {"channel": channel.id, "ts": ts, "message": _public(message)}

    def _chat_update(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        self._need(caller, "chat:write")
        channel = self._to_post(given, caller, archived="is_inactive")
        message = self._message(channel, given["ts"])
        if message.get("bot_id") != caller.bot_id:
            raise SlackError("cant_update_message")
        if self.edit_window is not None and time.monotonic() - message["shown_at"] > self.edit_window:
            raise SlackError("edit_window_closed")
        message |= rules.content("chat.update", given, self.refused_blocks)
        if message.get("metadata") == {}:
            del message["metadata"]
        message["edits"] = message.get("edits", 0) + 1
        message["edited"] = {"user": caller.user_id, "ts": self._ts()}
        return {"channel": channel.id, "ts": message["ts"], "text": message["text"], "message": _public(message)}

    def _chat_delete(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        self._need(caller, "chat:write")
        channel = self._seen_by(given["channel"], caller)
        message = self._message(channel, given["ts"])
        if message.get("bot_id") != caller.bot_id:
            raise SlackError("cant_delete_message")
        self.remove(channel.id, message["ts"])
        return {"channel": channel.id, "ts": message["ts"]}

    def _chat_getPermalink(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        channel = self._seen_by(given["channel"], caller)
        message = self._message(channel, given["message_ts"])
        return {
            "channel": channel.id,
            "permalink": f"https://acme.slack.com/archives/{channel.id}/p{message['ts'].replace('.', '')}",
        }

    def _chat_postEphemeral(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        self._need(caller, "chat:write")
        channel = self._to_post(given, caller)
        self.whispers.append((channel.id, str(given["user"]), str(given.get("text", ""))))
        return {"message_ts": self._ts()}

    def _users_info(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        """Everybody is a member of the workspace."""
        self._need(caller, "users:read")
        return {"user": {"id": given["user"], "team_id": caller.team, "name": "person", "profile": {}}}

    def _views_open(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        return {"view": {"id": f"V{self._ts().replace('.', '')}"}}

    def _users_lookupByEmail(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        self._need(caller, "users:read.email")
        if given["email"] not in self.users:
            raise SlackError("users_not_found")
        return {"user": self.users[given["email"]]}

    def _conversations_history(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        channel = self._to_read(given, caller)
        return self._paged(list(reversed(channel.top())), given)

    def _conversations_replies(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        channel = self._to_read(given, caller)
        parent = channel.get(str(given["ts"]))
        if parent is None:
            raise SlackError("thread_not_found")
        root = str(parent.get("thread_ts", parent["ts"]))
        thread = [m for m in (channel.get(root),) if m is not None]
        return self._paged([*thread, *channel.replies(root)], given, always=1)

    def _paged(self, messages: list[Message], given: Mapping[str, Any], *, always: int = 0) -> dict[str, Any]:
        """Return a page of what is visible by now. The first `always` are there whatever the time asked for."""
        visible_to = time.monotonic() - self.stale
        since, until, inclusive = (
            float(given.get("oldest") or 0),
            float(given.get("latest") or 1e12),
            given.get("inclusive") in _TRUE,
        )

        def is_asked(i: int, message: Message) -> bool:
            at = float(message["ts"])
            is_between = since < at < until or (inclusive and at in (since, until))
            return (is_between or i < always) and message.get("shown_at", 0) <= visible_to

        page = self._page("messages", [m for i, m in enumerate(messages) if is_asked(i, m)], given, default=100)
        has_metadata = given.get("include_all_metadata") in _TRUE
        return page | {"messages": [_public(message, metadata=has_metadata) for message in page["messages"]]}

    def _page(self, name: str, items: list[Any], given: Mapping[str, Any], default: int) -> dict[str, Any]:
        try:
            start, limit = int(given.get("cursor") or 0), int(given.get("limit") or default)
        except ValueError:
            raise SlackError("invalid_cursor") from None
        if not 0 < limit <= 1_000:
            raise SlackError("invalid_limit")
        limit = min(limit, self.page)
        has_more = len(items) > start + limit
        cursor = str(start + limit) if has_more else ""
        return {name: items[start : start + limit], "has_more": has_more, "response_metadata": {"next_cursor": cursor}}

    def _conversations_list(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        types = str(given.get("types") or "public_channel").split(",")
        for kind, scope in (("public_channel", "channels:read"), ("private_channel", "groups:read")):
            if kind in types:
                self._need(caller, scope)
        shown = [
            _described(c, caller)
            for c in self.channels.values()
            if (
                "private_channel" in types and caller.user_id in c.members
                if c.is_private
                else "public_channel" in types
            )
            and not (given.get("exclude_archived") in _TRUE and c.is_archived)
        ]
        return self._page("channels", shown, given, default=100)

    def _conversations_info(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        channel = self._seen_by(given["channel"], caller)
        self._need(caller, "groups:read" if channel.is_private else "channels:read")
        return {"channel": _described(channel, caller)}

    def _conversations_join(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        channel = self._seen_by(given["channel"], caller)
        self._need(caller, "channels:join")
        if channel.is_archived:
            raise SlackError("is_archived")
        channel.members.add(caller.user_id)
        return {"channel": _described(channel, caller)}

    def _files_getUploadURLExternal(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        self._need(caller, "files:write")
        id = f"F{len(self.files) + 1:09d}"
        self.files[id] = {"name": str(given["filename"]), "length": int(given["length"])}
        return {"upload_url": f"{self.uploads}{id}", "file_id": id}

    def _files_completeUploadExternal(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:  # noqa: N802
        self._need(caller, "files:write")
        shared = rules.listed(given["files"])
        channel = self._seen_by(given["channel_id"], caller) if given.get("channel_id") else None
        for file in shared:
            known = self.files.get(str(file.get("id")))
            if known is None or "content" not in known:
                raise SlackError("file_not_found")
            known["shared"] = (channel.id if channel is not None else "", str(given.get("thread_ts") or ""))
            if channel is not None:
                message: Message = {
                    "type": "message",
                    "subtype": "file_share",
                    "user": caller.user_id,
                    "bot_id": caller.bot_id,
                    "shown_at": time.monotonic(),
                }
                thread = {"thread_ts": str(given["thread_ts"])} if given.get("thread_ts") else {}
                channel.add(message | {"ts": self._ts(), "text": "", "files": [dict(file)]} | thread)
        return {"files": [{"id": file.get("id"), "title": file.get("title", "")} for file in shared]}

    def _files_delete(self, given: Mapping[str, Any], caller: WorkspaceToken) -> dict[str, Any]:
        self._need(caller, "files:write")
        if self.files.pop(str(given["file"]), None) is None:
            raise SlackError("file_not_found")
        return {}

    # --- who may what ------------------------------------------------------------------------------------------------

    def _need(self, caller: WorkspaceToken, scope: str) -> None:
        if scope not in caller.scopes:
            raise SlackError("missing_scope", needed=scope, provided=",".join(sorted(caller.scopes)))

    def _find(self, name: str) -> Channel | None:
        plain = str(name).removeprefix("#")
        return self.channels.get(plain) or next((c for c in self.channels.values() if c.name == plain), None)

    def _seen_by(self, name: Any, caller: WorkspaceToken) -> Channel:
        channel = self._find(name)
        if channel is None or (channel.is_private and caller.user_id not in channel.members):
            raise SlackError("channel_not_found")
        return channel

    def _to_post(self, given: Mapping[str, Any], caller: WorkspaceToken, archived: str = "is_archived") -> Channel:
        channel = self._seen_by(given["channel"], caller)
        if channel.is_archived:
            raise SlackError(archived)
        if caller.user_id not in channel.members and "chat:write.public" not in caller.scopes:
            raise SlackError("not_in_channel")
        if channel.restricted:
            raise SlackError(channel.restricted)
        return channel

    def _to_read(self, given: Mapping[str, Any], caller: WorkspaceToken) -> Channel:
        channel = self.channels.get(str(given["channel"]))  # by its id alone, as Slack has it
        if channel is None or (channel.is_private and caller.user_id not in channel.members):
            raise SlackError("channel_not_found")
        self._need(caller, "groups:history" if channel.is_private else "channels:history")
        if caller.user_id not in channel.members:
            raise SlackError("not_in_channel")
        return channel

    def _message(self, channel: Channel, ts: Any) -> Message:
        message = channel.get(str(ts))
        if message is None or message.get("subtype") == "tombstone":
            raise SlackError("message_not_found")
        return message

    def _ts(self) -> str:
        self._last = max(round(self._clock() * 1_000_000), self._last + 1)
        return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"


def _described(channel: Channel, caller: WorkspaceToken) -> dict[str, Any]:
    kind = {"is_channel": not channel.is_private, "is_private": channel.is_private, "is_archived": channel.is_archived}
    return {"id": channel.id, "name": channel.name, "is_member": caller.user_id in channel.members} | kind


def _public(message: Message, *, metadata: bool = True) -> Message:
    hidden = {"shown_at", "edits"} | (set() if metadata else {"metadata"})
    return {key: value for key, value in message.items() if key not in hidden}
