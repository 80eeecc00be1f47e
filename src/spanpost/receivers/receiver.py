"""What all doors of the gateway share: bodies become observations, and a sender is answered when its own are committed.

What is decoded is recorded in groups (`recording_groups`), or written to the journal where it would have to wait for that (`journal`). A
request of many observations takes several of these ways, and is answered when all of it is durable. Which requests are let in is decided by `spanpost.receivers.admission`; while the store is known to be away, one request
tries and the others are refused at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender
from spanpost.model.errors import StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.receivers.admission import Admission, AdmissionLimits, Busy, MemoryReservation, jitter
from spanpost.receivers.decoded import Decoded, Undecodable
from spanpost.receivers.decoding import Decoding
from spanpost.receivers.elements import KEPT_BYTES
from spanpost.receivers.journal import Journal, JournalQueue
from spanpost.receivers.recording_groups import RecordBatch, RecordingGroups, RequestPart

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: What is kept of a body that cannot be decoded.
KEPT: Final = KEPT_BYTES

#: Losses that mean a whole span or record.
_REJECTED: Final = ("bad_span", "bad_record", "bad_point")


class TakenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request that was taken: all of it is committed but what was rejected."""

    rejected: int = 0
    message: str = ""


class Keep(Protocol):
    """**Protocol:** keeps a body that cannot be decoded; raises `LedgerUnavailable`."""

    async def __call__(self, tenant: str, source: str, error: str, body: bytes, /) -> None: ...


class ReceiverMetrics(Protocol):
    """**Protocol:** counts losses, and data points that nobody reads; `spanpost.metrics.Metrics` is it."""

    def lost(self, section: str, reason: str, n: int = 1) -> None: ...

    def passed_points(self, n: int) -> None: ...


class Receiver:
    """Takes requests from the doors of one loop. `start`, then `admit`, `take` and `release` for each, then `close`."""

    def __init__(
        self,
        record: RecordBatch,
        keep: Keep | None = None,
        watch: ReceiverMetrics | None = None,
        limits: AdmissionLimits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.limits = limits or AdmissionLimits()
        self.admission = Admission(self.limits)
        self.groups = RecordingGroups(record, self.limits, self.admission.queue)
        #: The way through the journal; None where there is none.
        self.journal = JournalQueue(journal, self.groups, self.limits) if journal is not None else None
        self._keep = keep
        self._watch = watch
        self._closing = False
        self._decoding = Decoding()

    def start(self) -> None:
        """Begin to record, in the running loop."""
        self.groups.start()
        if self.journal is not None:
            self.journal.start()

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Record what waits, for at most `timeout` seconds; False when something was left, whose senders were told so."""
        self._closing = True
        if self.journal is None:
            return await self.groups.close(timeout)
        return all(await asyncio.gather(self.groups.close(timeout), self.journal.close(timeout)))

    @property
    def in_flight(self) -> int:
        """Bytes of requests under way."""
        return self.admission.held.total

    @property
    def waiting(self) -> int:
        """Bytes of requests that wait for their turn."""
        return self.admission.queue.total

    @property
    def pace(self) -> float | None:
        """Bytes recorded per second, of late."""
        return self.groups.pace

    @property
    def trouble(self) -> str:
        """Why the store does not take anything, while it does not."""
        return self.groups.trouble

    @trouble.setter
    def trouble(self, why: str) -> None:
        self.groups.trouble = why

    # --- admission --------------------------------------------------------------------------------------------------

    def admit(self, sender: Sender, size: int) -> MemoryReservation:
        """Let in a request that announces `size` bytes, before it is read; raises `Busy`. `size` is 0 where
        it is not known yet."""
        if self._closing:
            raise Busy("the gateway stops", 1)
        if self.trouble and (self.groups.parts or self.groups.under_way or (self.journal is not None and self.journal.parts)):
            raise Busy(self.trouble, jitter(2, 5))  # somebody is trying already
        self._check_queue(sender, size)
        self.admission.check_memory(sender, size)
        return self.admission.reservation(sender)

    def _check_queue(self, sender: Sender, size: int) -> None:
        if self.journal is None or not self.journal.has_space(sender.tenant):
            self.admission.check_queue(sender, size, self.pace or 0.0)

    def _put(self, sender: Sender, observations: Sequence[Observation], size: int) -> list[RequestPart]:
        """Have observations recorded directly where that begins soon, else written to the journal, as far as there is room."""
        journal, tenant = self.journal, sender.tenant
        if journal is not None and (journal.is_asked(tenant) or self.groups.is_long(sender)) and journal.has_space(tenant):
            return [journal.put(sender, observations, size)]
        return self.groups.put(sender, observations, size)

    # --- taking -----------------------------------------------------------------------------------------------------

    async def take(self, reservation: MemoryReservation, signal: str, body: bytes, *, is_json: bool) -> TakenRequest:
        """Decode a body, record it and return when all of it is committed. The seat is free when all is settled.

        Raises `Busy`, `TooLarge` for a body of too many elements, and `Undecodable` after the body's
        beginning was kept for those who look.
        """
        under_way: list[RequestPart] = []
        rejected = kept_aside = 0
        reason = ""
        tenant = reservation.sender.tenant
        try:
            self._check_queue(reservation.sender, len(body))
            coming = self._decoding.pieces(signal, body, tenant, is_json=is_json, has_others=lambda: self.in_flight > reservation.size)
            async for piece in coming:
                for spoiled in piece.decoded.spoiled:
                    reason = reason or str(spoiled.error)
                    await self.keep(signal, tenant, str(spoiled.error), spoiled.body)
                self._count(piece.decoded)
                rejected += sum(spoiled.entries for spoiled in piece.decoded.spoiled)
                rejected += sum(piece.decoded.lost.get(name, 0) for name in _REJECTED)
                if piece.decoded.observations:
                    # What a small body becomes may weigh more than the body.
                    weight = sum(part.size for part in under_way if not part.done.done()) + piece.size
                    reservation.grow(max(weight - reservation.size, 0))
                    under_way += self._put(reservation.sender, piece.decoded.observations, piece.size)
                # A large body is decoded no further ahead than the writers can follow.
                while len(under_way) > 2 * self.limits.writers:
                    kept_aside += await self._committed(under_way[0])
                    del under_way[0]
            while under_way:
                kept_aside += await self._committed(under_way[0])
                del under_way[0]
        except Undecodable as error:
            await self.keep(signal, tenant, str(error), body)
            raise
        except MemoryError:
            raise Busy("there is not enough memory for it now", jitter(2, 5)) from None
        finally:
            _leave_after(under_way, reservation)
        said = [f"{rejected} could not be read and were left out{f': {reason}' if reason else ''}"] if rejected else []
        if kept_aside:
            said.append(
                f"{kept_aside} are of traces that take too long to record and are kept in dead_letters: do not send them again"
            )
        return TakenRequest(rejected=rejected + kept_aside, message="; ".join(said))

    def _count(self, decoded: Decoded) -> None:
        if self._watch is not None:
            if decoded.metric_points:
                self._watch.passed_points(decoded.metric_points)
            for reason, count in decoded.lost.items():
                self._watch.lost("intake", reason, count)

    async def keep(self, signal: str, tenant: str, error: str, body: bytes) -> None:
        """Keep the beginning of a body that is refused for good, where the store can; raises `Busy` when it is away."""
        if self._watch is not None:
            self._watch.lost("intake", "undecodable")
        _limited_log.warning("undecodable", "a %s request of tenant %s cannot be decoded: %s", signal, tenant, error[:300])
        if self._keep is None or not body:
            return
        try:
            async with asyncio.timeout(self.limits.stall_rules):
                await self._keep(tenant, f"otlp {signal}", error, body[:KEPT])
        except (StoreUnavailable, TimeoutError):
            raise Busy("the store is away", jitter(2, 5)) from None

    @property
    def _done(self) -> int:
        """How often something became durable."""
        return self.groups.done + (self.journal.done if self.journal is not None else 0)

    async def _committed(self, part: RequestPart) -> int:
        """Wait for a commit, as long as there are commits at all; return how many observations are kept aside."""
        done = -1
        while not part.done.done():
            if done == self._done and not part.is_slow:
                self.trouble = self.trouble or f"nothing could be committed for {self.limits.stall_rules:g} s"
                raise Busy(self.trouble, jitter(2, 5))
            done = self._done
            await asyncio.wait((part.done,), timeout=self.limits.stall_rules)
        try:
            return await part.done
        except StoreUnavailable as error:
            raise Busy("the store is away", jitter(2, 5)) from error


def _leave_after(under_way: Sequence[RequestPart], reservation: MemoryReservation) -> None:
    """Give memory back when all is settled: until then it is used, whether or not somebody still waits for it."""
    if all(part.done.done() for part in under_way):
        reservation.leave()
    # Which takes note of what went wrong, where nobody else does.
    whole = asyncio.gather(*(part.done for part in under_way), return_exceptions=True)
    whole.add_done_callback(lambda _: reservation.leave())
