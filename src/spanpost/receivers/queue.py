"""The bounded queue between the agent's thread and the worker's. Putting never blocks, never raises and takes no lock.

Rules: what tells of a start, an event or an end is *news*, and news that is queued is never evicted for anything; when the
queue is full the newcomer is lost and counted. Plain log lines are *chatter*: they have a small queue of their own, whose
oldest gives way.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import IntEnum, StrEnum
from threading import get_ident
from typing import Any

#: A queued span is kept alive by its item, about 3 kB each: a full queue is some 50 MB.
CAPACITY = 16_384
CHATTER_CAPACITY = 2_048


class Loss(StrEnum):
    """Why something was lost. A closed list: the label ``reason`` of ``spanpost_dropped_total``."""

    #: News came faster than it was taken away.
    QUEUE_FULL = "queue_full"
    #: A plain log line gave way to newer ones.
    SUPERSEDED = "superseded"
    #: It came after the shutdown.
    CLOSED = "closed"
    #: A callback of ours failed in the agent's thread.
    CALLBACK = "callback"
    #: It could not be turned into an observation.
    CONVERT = "convert"
    #: The receiver refused a batch.
    RECEIVE = "receive"
    #: No thread could be started (the interpreter is shutting down).
    NO_WORKER = "no_worker"


class QueuedKind(IntEnum):
    """What a marked item tells."""

    #: (START, live span, None): of a kind that the worker would not know as one.
    START = 0
    #: (END, readable span, True when a cancellation was in flight)
    END = 1
    #: (LOG, log data, None)
    LOG = 2
    #: (ENDED, readable span, None): from an exporter, never seen live.
    ENDED = 3
    #: (FLUSH, waiter, None); (CLOSE, waiter, None)
    FLUSH = 4
    CLOSE = 5
    #: (SPOOLED, segment, None): all that this segment of the spool holds was queued before.
    SPOOLED = 6


#: What is queued. The frequent ones are bare, because each tuple is an allocation and a thing to collect in the agent's
#: thread: the live span itself is its start, a `ReadableSpan` that is no live span is its end, a pair (live span, event) is
#: an event. Everything else is marked by a `QueuedKind`.
Item = Any


class Counts:
    """Counts by reason, from any thread, without a lock: each thread adds to a key of its own."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, reason: str, number: int = 1) -> None:
        key = (reason, get_ident())
        self._counts[key] = self._counts.get(key, 0) + number

    def totals(self) -> dict[str, int]:
        """Return the counts so far, by reason; reasons without any are left out."""
        totals: Counter[str] = Counter()
        for (reason, _), number in self._counts.copy().items():
            totals[str(reason)] += number
        return dict(totals)


class Losses(Counts):
    """Losses by reason (`Loss`)."""


class Queue:
    """News and chatter on their way to the worker.

    `news` and `capacity` are read directly by the span processor's callbacks, which do what `put` does without the price of
    a call.
    """

    def __init__(self, capacity: int = CAPACITY, chatter_capacity: int = CHATTER_CAPACITY) -> None:
        self.capacity = capacity
        self.losses = Losses()
        self.news: deque[Item] = deque()
        self._chatter: deque[Item] = deque(maxlen=chatter_capacity)

    def put(self, item: Item) -> bool:
        """Queue news; False (and counted) when there is no room."""
        if len(self.news) < self.capacity:
            self.news.append(item)
            return True
        self.losses.count(Loss.QUEUE_FULL)
        return False

    def put_marker(self, item: Item) -> None:
        """Queue a marker of ours (a flush, the close), room or none."""
        self.news.append(item)

    def put_chatter(self, item: Item) -> None:
        """Queue a plain log line; the oldest one gives way when there is no room."""
        if len(self._chatter) == self._chatter.maxlen:
            self.losses.count(Loss.SUPERSEDED)
        self._chatter.append(item)

    def take(self) -> Item | None:
        """Return the oldest news, or None when there is none."""
        try:
            return self.news.popleft()
        except IndexError:
            return None

    def take_chatter(self) -> Item | None:
        try:
            return self._chatter.popleft()
        except IndexError:
            return None

    def __len__(self) -> int:
        return len(self.news) + len(self._chatter)
