"""Which requests are let in: each sender has a share of the bytes under way and of the queue.

A request takes memory for what has come of it, not for what its length announces. It is refused before it is
read where that can be known: when its sender holds its share already, or has more waiting than can be
recorded soon.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import msgspec

from spanpost.http.shares import Sender, SharedBytes
from spanpost.receivers.encodings import BodyTooLarge, inflate
from spanpost.receivers.turns import Turns

#: Inflated in the loop; what is larger, or grows beyond it, is inflated in a thread.
_INLINE: Final = 1024 * 1024
_RANDOM = random.Random()


class Busy(Exception):
    """Not now: the sender keeps what it has and tries again after `retry_after` seconds (1 to 5; 0: 1 to 3,
    by chance)."""

    def __init__(self, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after or jitter(1, 3)


class AdmissionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once, and how long."""

    #: Bytes of one body, after decompression.
    body: int = 64 * 1024 * 1024
    #: Bytes under way of one sender that is alone; all senders together have at most twice as many.
    in_flight: int = 64 * 1024 * 1024
    #: Observations of one transaction; and the bytes whose requests it takes together.
    group: int = 2048
    group_bytes: int = 4 * 1024 * 1024
    #: Groups recorded at once: one is folded while the database writes another (with ten senders 15 to 24 %
    #: more, 2026-11).
    writers: int = 2
    #: How long a writer lets others come in whose requests may bring parts of the same traces: a share of
    #: its last transaction.
    lingering: float = 0.1
    #: Seconds of work of one sender that may wait, at the pace of late, before more is sent away; and the
    #: bytes that may always wait.
    queue: float = 1.0
    queue_bytes: int = 1024 * 1024
    #: Bytes that may wait in the journal, of all tenants; 0: nothing is written to it.
    journal: int = 1024 * 1024 * 1024
    #: Seconds of work that wait to be recorded directly before requests go through the journal, at the pace of late; and the bytes
    #: that always do.
    direct: float = 0.2
    direct_bytes: int = 64 * 1024
    #: Seconds without any commit after which those who wait are sent away. What they sent may be recorded
    #: all the same: its repeat is then nothing new.
    commit_timeout: float = 4.0


class MemoryReservation:
    """The memory of one request: `grow` while it is read, `leave` when it goes without having been taken."""

    __slots__ = ("_admission", "_is_left", "sender", "size")

    def __init__(self, admission: Admission, sender: Sender) -> None:
        self._admission = admission
        self._is_left = False
        self.sender = sender
        self.size = 0

    def grow(self, size: int) -> None:
        """Take memory for `size` bytes more; raises `Busy` when that is more than the sender's share."""
        if size > 0:
            self._admission.check_memory(self.sender, size)
            self._admission.held.add(self.sender, size)
            self.size += size

    def leave(self) -> None:
        """Give it all back. Safe to repeat."""
        if not self._is_left:
            self._is_left = True
            self._admission.held.add(self.sender, -self.size)


class Admission:
    """Lets requests in, by the shares of their senders."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        #: One body alone is taken always, also where `in_flight` is smaller.
        self._alone = max(limits.in_flight, limits.body)
        #: Bytes of requests under way, and of those that wait to be recorded.
        self.held = SharedBytes()
        self.queue = SharedBytes()
        #: A small body may become a large one: one at a time, so that not all of them do before it is known.
        self._inflating = Turns(1)

    def reservation(self, sender: Sender) -> MemoryReservation:
        """Return what holds the memory of a request; it has none yet."""
        return MemoryReservation(self, sender)

    def check_memory(self, sender: Sender, size: int) -> None:
        """Raise `Busy` where a sender may not have `size` bytes more under way."""
        if not self.held.fits(sender, size, self._alone):
            raise Busy("more of this sender is under way than its share of the memory; send it again")

    def check_queue(self, sender: Sender, size: int, pace: float) -> None:
        """Raise `Busy` where a sender has more waiting than can be recorded soon. A sender that has nothing
        waiting is let in.

        `pace`: bytes recorded per second, of late.
        """
        alone = max(self._limits.queue_bytes, round(pace * self._limits.queue))
        if self.queue.held(sender) and not self.queue.fits(sender, size, alone):
            raise Busy("more comes in than can be recorded; send it again")

    async def inflate(self, reservation: MemoryReservation, raw: bytes, encoding: str) -> bytes:
        """Return a body as it was before it was encoded; raises as `encodings.inflate` does, and `Busy`."""
        limit = self._limits.body
        try:
            if encoding and len(raw) > _INLINE:
                raise BodyTooLarge(_INLINE)
            body = inflate(raw, encoding, min(limit, _INLINE) if encoding else limit)
        except BodyTooLarge:
            if limit <= _INLINE or not encoding:
                raise
            async with self._inflating.wait(reservation.sender):
                body = await asyncio.to_thread(inflate, raw, encoding, limit)
                reservation.grow(len(body) - reservation.size)
            return body
        reservation.grow(len(body) - reservation.size)
        return body


def jitter(least: int, most: int) -> int:
    """Return for how many seconds a sender is asked to wait, so that not all of them come back at once."""
    return _RANDOM.randint(least, most)
