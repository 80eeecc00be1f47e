"""The bounded queue between the agent's thread and the worker's. `put` never blocks, never raises and takes
no lock.

Rules: a queued start, event or end of a span is never evicted; when the queue is full, the new item is
dropped and counted. Plain log lines (*chatter*) have a small queue of their own, which drops its oldest.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import IntEnum, StrEnum
from threading import get_ident
from typing import Any

#: A queued item keeps its span alive, about 3 kB each: a full queue takes some 50 MB.
CAPACITY = 16_384
CHATTER_CAPACITY = 2_048


class Loss(StrEnum):
    """Why an item was dropped. A closed list: the label ``reason`` of ``spanpost_dropped_total``."""

    #: The queue, or the memory for what the OTLP endpoint has not accepted yet, was full.
    QUEUE_FULL = "queue_full"
    #: Newer log lines replaced a plain log line.
    SUPERSEDED = "superseded"
    #: The item came after the shutdown.
    CLOSED = "closed"
    #: A callback of spanpost failed in the agent's thread.
    CALLBACK = "callback"
    #: The item could not be converted to an observation.
    CONVERT = "convert"
    #: The store refused a batch.
    RECEIVE = "receive"
    #: The OTLP endpoint refused it for good.
    REFUSED = "refused"
    #: It is larger than the OTLP endpoint accepts, also after its content was cut.
    TOO_LARGE = "too_large"
    #: The OTLP endpoint did not accept it before its time was over or the process ended.
    UNSENT = "unsent"
    #: The application's sampler dropped a span that may be an agent's, and `attach.unsampled_spans` is `none`.
    UNSAMPLED = "unsampled"
    #: No thread could be started (the interpreter is shutting down).
    NO_WORKER = "no_worker"


class QueuedKind(IntEnum):
    """The kind of a marked item."""

    #: (START, live span, None): for span types that the worker does not recognise.
    START = 0
    #: (END, readable span, True when a cancellation was in flight)
    END = 1
    #: (LOG, log data, None)
    LOG = 2
    #: (ENDED, readable span, None): from an exporter, which never sees live spans.
    ENDED = 3
    #: (FLUSH, waiter, None); (CLOSE, waiter, None)
    FLUSH = 4
    CLOSE = 5
    #: (SPOOLED, spool file, None): everything in this file was queued before.
    SPOOLED = 6


#: A queued item. Frequent kinds are bare, because every tuple is an allocation and garbage in the agent's
#: thread: a live span is its start, a `ReadableSpan` that is not live is its end, a pair (live span, event)
#: is an event. All other items are marked with a `QueuedKind`.
Item = Any


class Counts:
    """Counts by reason, from any thread and without a lock: each thread has its own key."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, reason: str, number: int = 1) -> None:
        key = (reason, get_ident())
        self._counts[key] = self._counts.get(key, 0) + number

    def totals(self) -> dict[str, int]:
        """Return the counts so far, by reason; reasons with none are left out."""
        totals: Counter[str] = Counter()
        for (reason, _), number in self._counts.copy().items():
            totals[str(reason)] += number
        return dict(totals)


class Losses(Counts):
    """Dropped items by reason (`Loss`)."""


class Queue:
    """Items and plain log lines on their way to the worker.

    The span processor's callbacks use `items` and `capacity` directly: they do what `put` does and save the
    call.
    """

    def __init__(self, capacity: int = CAPACITY, chatter_capacity: int = CHATTER_CAPACITY) -> None:
        self.capacity = capacity
        self.losses = Losses()
        self.items: deque[Item] = deque()
        self._chatter: deque[Item] = deque(maxlen=chatter_capacity)

    def put(self, item: Item) -> bool:
        """Queue an item; False (and counted): the queue is full."""
        if len(self.items) < self.capacity:
            self.items.append(item)
            return True
        self.losses.count(Loss.QUEUE_FULL)
        return False

    def put_marker(self, item: Item) -> None:
        """Queue a marker (a flush, the close), even into a full queue."""
        self.items.append(item)

    def put_chatter(self, item: Item) -> None:
        """Queue a plain log line; a full queue drops its oldest."""
        if len(self._chatter) == self._chatter.maxlen:
            self.losses.count(Loss.SUPERSEDED)
        self._chatter.append(item)

    def take(self) -> Item | None:
        """Return the oldest item; None: the queue is empty."""
        try:
            return self.items.popleft()
        except IndexError:
            return None

    def take_chatter(self) -> Item | None:
        try:
            return self._chatter.popleft()
        except IndexError:
            return None

    def __len__(self) -> int:
        return len(self.items) + len(self._chatter)
