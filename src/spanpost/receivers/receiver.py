"""The common part of the gateway's receivers: takes bodies, and answers a sender once its own is committed.

A body is decoded and recorded in groups (`recording_groups`). If it would have to wait too long, it is
checked and written to the journal as it came (`journal`).
`spanpost.receivers.admission` decides which requests are admitted. While the store is down, one request at a
time tries it; the others are refused at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender
from spanpost.model.errors import StoreUnavailable
from spanpost.receivers.admission import Admission, Busy, MemoryReservation, jitter
from spanpost.receivers.dealing import Dealer, Outcome, Share, is_dealt, outcome_of, split
from spanpost.receivers.decoded import Decoded, Spoiled, Undecodable
from spanpost.receivers.decoding import Decoding
from spanpost.receivers.elements import KEPT_BYTES
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.journal import Journal, JournalQueue
from spanpost.receivers.json_pieces import NotStrict
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.pieces import checked_pieces, pieces
from spanpost.receivers.recording_groups import RecordBatch, RecordingGroups
from spanpost.receivers.request_parts import Body, RequestPart, release_after
from spanpost.receivers.tenant_gate import TenantGate

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: Bytes kept of a body that cannot be decoded.
KEPT: Final = KEPT_BYTES

#: Reasons for which a whole span, record or point is dropped.
_REJECTED: Final = ("bad_span", "bad_record", "bad_point")


class TakenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an accepted request: everything is committed except what was rejected."""

    rejected: int = 0
    message: str = ""


class _Step(NamedTuple):
    """A piece of a body: its unreadable entries, a number of others that were left out, and its parts."""

    spoiled: Sequence[Spoiled]
    rejected: int
    parts: Sequence[RequestPart[Any]]
    reason: str = ""


#: Stores a body that cannot be decoded: tenant, source, error, body. Raises `StoreUnavailable`.
Keep = Callable[[str, str, str, bytes], Awaitable[None]]


class ReceiverMetrics(Protocol):
    """**Protocol:** counts dropped and ignored input; implemented by `spanpost.metrics.Metrics`."""

    def count_dropped(self, component: str, reason: str, n: int = 1) -> None: ...

    def count_ignored_points(self, n: int) -> None: ...


class Receiver:
    """Accepts the requests of one event loop.

    Call `start`, then `admit` and `take` for each request, then `close`.
    """

    def __init__(
        self,
        record: RecordBatch,
        keep: Keep | None = None,
        watch: ReceiverMetrics | None = None,
        limits: AdmissionLimits | None = None,
        journal: Journal | None = None,
        dealer: Dealer | None = None,
        gate: TenantGate | None = None,
    ) -> None:
        self.limits = limits or AdmissionLimits()
        self._gate = gate or TenantGate()
        self.admission = Admission(self.limits)
        self.groups = RecordingGroups(record, self.limits, self.admission.queue)
        #: None: no journal is used.
        self.journal = JournalQueue(journal, self.groups, self.limits) if journal is not None else None
        self._dealer = dealer
        self._keep = keep
        self._watch = watch
        self._closing = False
        #: Bodies are checked beside those that are decoded, which takes ten times as long.
        self._decoding, self._checking = Decoding(), Decoding()

    def start(self) -> None:
        """Start recording, in the running loop."""
        self.groups.start()
        if self.journal is not None:
            self.journal.start()

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Record waiting requests, for at most `timeout` seconds; False: something was left, and its senders got
        an error.
        """
        self._closing = True
        if self.journal is None:
            return await self.groups.close(timeout)
        return all(await asyncio.gather(self.groups.close(timeout), self.journal.close(timeout)))

    @property
    def in_flight(self) -> int:
        """Bytes of the requests in progress."""
        return self.admission.held.total

    @property
    def waiting(self) -> int:
        """Bytes of the requests that wait to be recorded."""
        return self.admission.queue.total

    @property
    def pace(self) -> float | None:
        """Bytes recorded per second, a moving average; None before the first group."""
        return self.groups.pace

    @property
    def trouble(self) -> str:
        """Why the store records nothing at the moment; empty if it works."""
        return self.groups.trouble

    @trouble.setter
    def trouble(self, why: str) -> None:
        self.groups.trouble = why

    # --- admission --------------------------------------------------------------------------------------------------

    def admit(self, sender: Sender, size: int) -> MemoryReservation:
        """Admit a request of `size` bytes (0: not known yet) before its body is read. Raises `Busy`."""
        self._gate.check(sender.tenant)
        return self._admit(sender, size)

    def _admit(self, sender: Sender, size: int) -> MemoryReservation:
        if self._closing:
            raise Busy("the gateway stops", 1)
        if self.trouble and (
            self.groups.parts or self.groups.under_way or (self.journal is not None and self.journal.parts)
        ):
            raise Busy(self.trouble, jitter(2, 5))  # another request is already trying
        self._check_queue(sender, size)
        self.admission.check_memory(sender, size)
        return self.admission.reservation(sender)

    def _check_queue(self, sender: Sender, size: int) -> None:
        if self.journal is None or not self.journal.has_space(sender.tenant):
            self.admission.check_queue(sender, size, self.pace or 0.0)

    # --- taking -----------------------------------------------------------------------------------------------------

    async def take_share(self, share: Share) -> Outcome:
        """Take a share of a request that another worker has split."""

        async def taking() -> tuple[int, str]:
            # The worker that split it has judged it by the tenant's limits.
            reservation = self._admit(Sender(share.tenant, share.address), len(share.body))
            try:
                reservation.grow(len(share.body))
            except Busy:
                reservation.leave()
                raise
            taken = await self._take(reservation, share.signal, share.body, is_json=False, share=share)
            return taken.rejected, taken.message

        return await outcome_of(taking())

    async def take(self, reservation: MemoryReservation, signal: str, body: bytes, *, is_json: bool) -> TakenRequest:
        """Decode a body, record it, and return when all of it is committed. Then the memory reservation is released.

        Raises `Busy`, `BodyTooLarge` for a body with too many elements, and `Undecodable` after the
        beginning of the body was stored for inspection.
        """
        tenant = reservation.sender.tenant
        try:
            entered = await self._gate.enter(tenant, signal, body, is_json=is_json)
        except BaseException:
            reservation.leave()
            raise
        try:
            return await self._take(reservation, signal, body, is_json=is_json)
        except Busy:
            self._gate.give_back(tenant, entered)
            raise

    async def _take(
        self, reservation: MemoryReservation, signal: str, body: bytes, *, is_json: bool, share: Share | None = None
    ) -> TakenRequest:
        """Take a body as `take` does; with `share`, it is a share that another worker passed on."""
        under_way: list[RequestPart[Any]] = []
        rejected = quarantined = 0
        reason = ""
        tenant = reservation.sender.tenant
        try:
            self._check_queue(reservation.sender, len(body))
            async for step in self._steps(reservation, signal, body, is_json, share, under_way):
                for spoiled in step.spoiled:
                    reason = reason or str(spoiled.error)
                    await self.keep(signal, tenant, str(spoiled.error), spoiled.body)
                reason = reason or step.reason
                rejected += step.rejected + sum(spoiled.entries for spoiled in step.spoiled)
                under_way += step.parts
                # Read a large body only as fast as the writers can record it.
                while len(under_way) > 2 * self.limits.writers:
                    quarantined += await self._committed(under_way[0])
                    del under_way[0]
            while under_way:
                quarantined += await self._committed(under_way[0])
                del under_way[0]
        except Undecodable as error:
            await self.keep(signal, tenant, str(error), body)
            raise
        except MemoryError:
            raise Busy("there is not enough memory for it now", jitter(2, 5)) from None
        finally:
            release_after(under_way, reservation)
        notes = [f"{rejected} could not be read and were left out{f': {reason}' if reason else ''}"] if rejected else []
        if quarantined:
            notes.append(
                f"{quarantined} are too large, or of traces that take too long to record, and are kept in the "
                "quarantine: do not send them again"
            )
        return TakenRequest(rejected=rejected + quarantined, message="; ".join(notes))

    async def _steps(
        self,
        reservation: MemoryReservation,
        signal: str,
        body: bytes,
        is_json: bool,
        share: Share | None,
        under_way: Sequence[RequestPart[Any]],
    ) -> AsyncIterator[_Step]:
        """Yield the parts of a body, piece by piece: bodies for the journal, or observations."""
        sender, size = reservation.sender, len(body)

        def has_others() -> bool:
            return self.in_flight > reservation.size

        if self.journal is not None and self.journal.takes(sender, size):
            with suppress(NotStrict):  # it is raised before anything is yielded
                async for checked in self._checking.pieces(
                    checked_pieces(signal, body, is_json=is_json), size, has_others
                ):
                    content = Body(signal, is_json, checked.body)
                    parts = [self.journal.put(sender, content, checked.entries)] if checked.body else []
                    yield _Step(checked.spoiled, 0, parts)
                return
        if self._dealer is not None and share is None and not is_json and is_dealt(signal, body):
            async for step in self._dealt(self._dealer, reservation, body, under_way):
                yield step
            return
        is_part = share is not None and share.is_part
        async for step in self._direct(reservation, signal, body, is_json, under_way, has_others, is_part=is_part):
            yield step

    async def _dealt(
        self, dealer: Dealer, reservation: MemoryReservation, body: bytes, under_way: Sequence[RequestPart[Any]]
    ) -> AsyncIterator[_Step]:
        """Yield the parts of this worker's share; pass the other shares on, and wait for their owners."""
        sender = reservation.sender

        def has_others() -> bool:
            return self.in_flight > reservation.size

        try:
            shares = split(body, dealer.total, dealer.number)
        except BodyTooLarge:  # what each share would repeat is too large
            shares = [body if owner == dealer.number else b"" for owner in range(dealer.total)]
        is_part = sum(map(bool, shares)) > 1
        passed = {
            owner: asyncio.create_task(
                dealer.pass_on(owner, Share("traces", sender.tenant, sender.address, share, is_part))
            )
            for owner, share in enumerate(shares)
            if share and owner != dealer.number
        }
        for task in passed.values():
            task.add_done_callback(_retrieve)
        own = shares[dealer.number]
        if own or not passed:
            async for step in self._direct(
                reservation, "traces", own or body, False, under_way, has_others, is_part=is_part
            ):
                yield step
        for owner, task in passed.items():
            if (outcome := await task) is not None:
                yield _Step((), outcome.rejected, (), outcome.message)
                continue
            async for step in self._direct(
                reservation, "traces", shares[owner], False, under_way, has_others, is_part=is_part
            ):
                yield step

    async def _direct(
        self,
        reservation: MemoryReservation,
        signal: str,
        body: bytes,
        is_json: bool,
        under_way: Sequence[RequestPart[Any]],
        has_others: Callable[[], bool],
        *,
        is_part: bool,
    ) -> AsyncIterator[_Step]:
        """Yield the parts of a body that are recorded, decoded piece by piece."""
        sender, size = reservation.sender, len(body)
        with self.groups.coming(sender, size):
            async for piece in self._decoding.pieces(
                pieces(signal, body, sender.tenant, is_json=is_json, is_part=is_part), size, has_others
            ):
                self._count(piece.decoded)
                rejected = sum(piece.decoded.dropped.get(name, 0) for name in _REJECTED)
                put: Sequence[RequestPart[Any]] = ()
                if piece.decoded.observations:
                    # The observations of a small body may need more memory than the body.
                    weight = sum(part.size for part in under_way if not part.done.done()) + piece.size
                    reservation.grow(max(weight - reservation.size, 0))
                    put = self.groups.put(sender, piece.decoded.observations, piece.size)
                yield _Step(piece.decoded.spoiled, rejected, put)

    def _count(self, decoded: Decoded) -> None:
        if self._watch is not None:
            if decoded.metric_points:
                self._watch.count_ignored_points(decoded.metric_points)
            for reason, count in decoded.dropped.items():
                self._watch.count_dropped("intake", reason, count)

    def count_refused(self, n: int) -> None:
        """Count entries of tenants that their senders may not use."""
        if self._watch is not None:
            self._watch.count_dropped("intake", "tenant", n)

    async def keep(self, signal: str, tenant: str, error: str, body: bytes) -> None:
        """Store the beginning of a body that is refused for good; raises `Busy` if the store is down."""
        if self._watch is not None:
            self._watch.count_dropped("intake", "undecodable")
        _limited_log.warning(
            "undecodable", "a %s request of tenant %s cannot be decoded: %s", signal, tenant, error[:300]
        )
        if self._keep is None or not body:
            return
        try:
            async with asyncio.timeout(self.limits.commit_timeout):
                await self._keep(tenant, f"otlp {signal}", error, body[:KEPT])
        except (StoreUnavailable, TimeoutError):
            raise Busy("the store is down", jitter(2, 5)) from None

    @property
    def _done(self) -> int:
        """Number of commits so far, to the store and to the journal."""
        return self.groups.done + (self.journal.done if self.journal is not None else 0)

    async def _committed(self, part: RequestPart[Any]) -> int:
        """Wait for a part's commit while there are any commits; return the number of its quarantined
        observations.
        """
        done = -1
        while not part.done.done():
            if done == self._done and not part.is_slow:
                self.trouble = self.trouble or f"nothing could be committed for {self.limits.commit_timeout:g} s"
                raise Busy(self.trouble, jitter(2, 5))
            done = self._done
            await asyncio.wait((part.done,), timeout=self.limits.commit_timeout)
        try:
            return await part.done
        except StoreUnavailable as error:
            raise Busy("the store is down", jitter(2, 5)) from error


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve an exception that nothing else may retrieve."""
    if not task.cancelled():
        task.exception()
