"""The feed of local-slack's own page, read along: calls of the app, messages, and the presses that it sends on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp

from spanpost.interactions.slack import payloads
from spanpost.sinks.slack.render import marked
from tests.eventually import eventually
from tests.interactions.local_slack import TEAM


@dataclass(frozen=True)
class Post:
    """A message of the gateway's: its time, its mark, and the look-ups of its place before it."""

    ts: str
    mark: tuple[str, int]
    lookups: int


class Watcher:
    """Reads along the page of local-slack: calls of the app, messages, presses that are sent to it."""

    def __init__(self) -> None:
        self.is_open = False
        self.posts: list[Post] = []
        #: Idempotency key of each press that was sent to the app, by its block.
        self.sent: dict[str, str] = {}
        #: Buttons of the questions that are shown, by question and message.
        self._shown: defaultdict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
        self._answered = set[str]()
        self._lookups = Counter[str]()
        self._call: dict[str, Any] | None = None

    def open(self, url: str) -> None:
        """Begin to read, until local-slack ends."""
        threading.Thread(target=lambda: asyncio.run(self._watch(url)), daemon=True).start()
        eventually(lambda: self.is_open)

    async def _watch(self, url: str) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ui", max_msg_size=0) as page:
            self.is_open = True
            try:
                async for message in page:
                    self.hear(json.loads(message.data))
            finally:
                self.is_open = False

    def hear(self, event: dict[str, Any]) -> None:
        """Note what is worth it. A post's call is followed by its message: nothing comes between."""
        call, self._call = self._call, None
        if event["t"] == "log":
            kind, summary, detail = (event["entry"].get(key) for key in ("kind", "summary", "detail"))
            if kind == "web_api" and summary == "chat.postMessage":
                self._call = detail
            elif kind == "web_api" and "include_all_metadata" in (detail or {}):
                self._lookups[detail.get("ts", "")] += 1
            elif kind == "interactive" and (click := payloads.click(detail or {}, TEAM)):
                self.sent[detail["actions"][0]["block_id"]] = click.idempotency_key
        elif event["t"] in ("message", "message_update"):
            message = event["message"]
            if call and (mark := marked(call.get("metadata"))):
                thread = message.get("thread_ts", "")
                self.posts.append(Post(message["ts"], mark, self._lookups[thread]))
            self._look_at(message)

    def _look_at(self, message: dict[str, Any]) -> None:
        buttons = [
            element
            for block in message.get("blocks") or ()
            for element in block.get("elements") or ()
            if element.get("action_id") in ("spanpost:approve", "spanpost:deny")
        ]
        ts = message["ts"]
        for key in [key for key, shown in self._shown.items() if ts in shown and not buttons]:
            self._answered.add(key)
        for button in buttons:
            self._shown[button["value"]][ts] = buttons

    def open_questions(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """Return messages and buttons of the questions of which no message shows a decision yet."""
        return {
            key: [(ts, button) for ts, buttons in list(shown.items()) for button in buttons if button["value"] == key]
            for key, shown in list(self._shown.items())
            if key not in self._answered
        }

    def by_mark(self) -> dict[tuple[str, int], list[Post]]:
        """Return the posts of each mark, in their order."""
        posts = defaultdict[tuple[str, int], list[Post]](list)
        for post in self.posts:
            posts[post.mark].append(post)
        return posts

    def again(self) -> list[Post]:
        """Return the posts that were made again."""
        return [post for posts in self.by_mark().values() for post in posts[1:]]

    def rash(self) -> list[Post]:
        """Return those of them before which no look-up asked for the one before."""
        pairs = (pair for posts in self.by_mark().values() for pair in pairwise(posts))
        return [later for earlier, later in pairs if later.lookups == earlier.lookups]
