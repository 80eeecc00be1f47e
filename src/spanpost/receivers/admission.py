"""Admission of requests: each sender has a share of the bytes in progress and of the queue.

A request reserves memory for the bytes that have arrived, not for its announced length. If possible it is
refused before it is read: when its sender already uses its share, or has more waiting than can be recorded
soon.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from spanpost.http.shares import Sender, SharedBytes
from spanpost.receivers.encodings import BodyTooLarge, inflate
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.turns import Turns

#: Bodies up to this size are inflated in the event loop; larger ones, also when inflated, in a thread.
_INLINE: Final = 1024 * 1024
_RANDOM = random.Random()


class Busy(Exception):
    """Not now: the sender should try again after `retry_after` seconds (0: 1 to 3, at random).

    `reason` is a lower-case word for programs.
    """

    reason = "busy"

    def __init__(self, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after or jitter(1, 3)


class MemoryReservation:
    """The memory of one request: `grow` while it is read, `leave` when it is done or refused."""

    __slots__ = ("_admission", "_is_left", "sender", "size")

    def __init__(self, admission: Admission, sender: Sender) -> None:
        self._admission = admission
        self._is_left = False
        self.sender = sender
        self.size = 0

    def grow(self, size: int) -> None:
        """Reserve `size` bytes more; raises `Busy` beyond the sender's share."""
        if size > 0:
            self._admission.check_memory(self.sender, size)
            self._admission.held.add(self.sender, size)
            self.size += size

    def leave(self) -> None:
        """Release all memory. Safe to repeat."""
        if not self._is_left:
            self._is_left = True
            self._admission.held.add(self.sender, -self.size)


class Admission:
    """Admits requests by the shares of their senders."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        #: A single body is always accepted, even if `max_in_flight` is smaller.
        self._alone = max(limits.max_in_flight, limits.max_body)
        #: Bytes of requests in progress, and of those that wait to be recorded.
        self.held = SharedBytes()
        self.queue = SharedBytes()
        #: Large bodies are inflated one at a time: how much each grows is not known before.
        self._inflating = Turns(1)

    def reservation(self, sender: Sender) -> MemoryReservation:
        """Return an empty reservation for a request."""
        return MemoryReservation(self, sender)

    def check_memory(self, sender: Sender, size: int) -> None:
        """Raise `Busy` if a sender may not have `size` bytes more in progress."""
        if not self.held.fits(sender, size, self._alone):
            raise Busy("this sender's requests in progress use all of its share of the memory; send it again")

    def check_queue(self, sender: Sender, size: int, pace: float) -> None:
        """Raise `Busy` where a sender has more waiting than can be recorded soon. A sender that has nothing
        waiting is let in.

        `pace`: bytes recorded per second, of late.
        """
        alone = max(self._limits.queue_bytes, round(pace * self._limits.queue))
        if self.queue.held(sender) and not self.queue.fits(sender, size, alone):
            raise Busy("requests arrive faster than they can be recorded; send it again")

    async def inflate(self, reservation: MemoryReservation, raw: bytes, encoding: str) -> bytes:
        """Return the decoded body; raises like `encodings.inflate`, and `Busy`."""
        limit = self._limits.max_body
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
    """Return random seconds after which a sender should retry, so that not all retry at once."""
    return _RANDOM.randint(least, most)
