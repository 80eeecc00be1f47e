"""A channel of the fake workspace: its messages, and the replies of each thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass
class Channel:
    """A channel with its messages and the replies of each thread, by `ts`."""

    id: str
    name: str
    is_private: bool = False
    is_archived: bool = False
    members: set[str] = field(default_factory=set)
    #: Slack's error for posts; empty while they are allowed.
    restricted: str = ""
    _top: dict[str, Message] = field(default_factory=dict)
    _threads: dict[str, dict[str, Message]] = field(default_factory=dict)
    _parents: dict[str, str] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Add a message to the channel or to its thread; a tombstone replaces its message."""
        ts = str(message["ts"])
        parent = str(message.get("thread_ts") or ts)
        if parent == ts:
            self._top[ts] = message
        else:
            self._threads.setdefault(parent, {})[ts] = message
            self._parents[ts] = parent

    def get(self, ts: str) -> Message | None:
        """Return a message or reply."""
        return self._top.get(ts) or self._threads.get(self._parents.get(ts, ""), {}).get(ts)

    def drop(self, ts: str) -> None:
        """Delete a message or reply. A message with replies leaves a tombstone."""
        if ts in self._parents:
            del self._threads[self._parents.pop(ts)][ts]
        elif self._threads.get(ts):
            tombstone = {
                "type": "message",
                "subtype": "tombstone",
                "text": "This message was deleted.",
                "user": "USLACKBOT",
            }
            self._top[ts] = tombstone | {"ts": ts, "thread_ts": ts}
        else:
            del self._top[ts]

    def top(self) -> list[Message]:
        """Return the channel's own messages, oldest first."""
        return list(self._top.values())

    def replies(self, ts: str) -> list[Message]:
        """Return the replies of a thread, oldest first."""
        return list(self._threads.get(ts, {}).values())

    def all(self) -> list[Message]:
        """Return everything, threads after the channel."""
        return [*self._top.values(), *(reply for thread in self._threads.values() for reply in thread.values())]
