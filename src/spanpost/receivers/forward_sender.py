"""The thread that sends encoded requests, so that the worker goes on converting while an endpoint is slow."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from spanpost.receivers.forward_queue import ForwardQueue, WaitingRequest
from spanpost.receivers.forward_requests import shrink, split
from spanpost.receivers.forward_transports import OtlpAnswer, OtlpOutcome, OtlpTransport
from spanpost.receivers.queue import Loss
from spanpost.receivers.waiter import Waiter

_log = logging.getLogger("spanpost.receivers")

#: A single span or record is cut in halves down to this many bytes, then it is dropped.
SMALLEST: Final = 16 * 1024


class Owner(Protocol):
    """**Protocol:** what the sender needs of its process's feed, whose thread it becomes one of."""

    def count_loss(self, reason: Loss, number: int) -> None: ...

    def disown_thread(self) -> None: ...


class ForwardSender:
    """Sends requests in a thread of its own, which the first request starts. For one process: a forked child
    makes its own.

    `open_transport` returns the transport of a signal (``logs`` or ``traces``).
    """

    def __init__(
        self, queue: ForwardQueue, open_transport: Callable[[str], OtlpTransport], owner: Owner, where: str
    ) -> None:
        self._queue = queue
        self._open = open_transport
        self._owner = owner
        self._where = where
        self._transports: dict[str, OtlpTransport] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        #: Flushes, and the newest request that each waits for.
        self._flushes: deque[tuple[int, Waiter, bool]] = deque()
        self._has_lost = False
        self._is_ending = False
        self._is_closed = False
        #: Signals that failed last time, and whether the failure was final.
        self._failing: dict[str, OtlpOutcome] = {}
        self._has_cut = False

    # --- in the worker's thread -------------------------------------------------------------------------------------

    def put(self, signal: str, body: bytes, count: int) -> None:
        """Queue an encoded request of any size; what does not fit is dropped and counted."""
        most = self._queue.most_per_request
        parts = [(body, count)]
        if len(body) > most:
            whole = self._parts(signal, body, count, most) if count > 1 else parts
            parts = [
                part for each in whole for part in (self._parts(signal, *each, most) if len(each[0]) > most else [each])
            ]
        with self._changed:
            for part, number in parts:
                if self._is_closed or not self._queue.put(signal, part, number, time.monotonic()):
                    self._lose(Loss.CLOSED if self._is_closed else Loss.QUEUE_FULL, number)
            self._changed.notify()
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="spanpost-forward", daemon=True)
                self._thread.start()

    def finish(self, waiter: Waiter, is_ok: bool) -> None:
        """Finish the waiter when everything that was put so far is sent or dropped; nothing dropped since the
        last one is ok.
        """
        with self._changed:
            self._flushes.append((self._queue.newest, waiter, is_ok))
            self._finish_flushes()

    def end(self) -> None:
        """Keep no pauses from now on: the process ends. Each request is tried once more."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()

    def close(self) -> None:
        """Drop what waits, and close the connections."""
        with self._changed:
            self._is_ending = self._is_closed = True
            self._lose(Loss.UNSENT, self._queue.give_up())
            self._finish_flushes()
            self._changed.notify()
        for transport in list(self._transports.values()):
            transport.close()

    # --- in the sender's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._owner.disown_thread()
        while (taken := self._next()) is not None:
            signal, request = taken
            try:
                transport = self._transports.get(signal)
                if transport is None:
                    transport = self._transports[signal] = self._open(signal)
                answer = transport.send(request.body())
            except Exception as error:  # a certificate that has become unreadable, or a bug
                answer = OtlpAnswer(OtlpOutcome.LATER, f"{type(error).__name__}: {error}")
            with self._changed:
                if not self._is_closed:
                    self._judge(signal, request, answer)
                    self._finish_flushes()

    def _next(self) -> tuple[str, WaitingRequest] | None:
        """Wait for a request that is due; None: the sender was closed."""
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                if (taken := self._queue.take(now, is_ending=self._is_ending)) is not None:
                    return taken
                self._changed.wait(self._queue.wait(now))
            return None

    def _judge(self, signal: str, request: WaitingRequest, answer: OtlpAnswer) -> None:
        queue = self._queue
        self._report(signal, answer)
        if answer.outcome is OtlpOutcome.ACCEPTED:
            queue.resolve(signal)
            if answer.rejected:
                self._lose(Loss.REFUSED, answer.rejected)
        elif answer.outcome is OtlpOutcome.REFUSED:
            self._lose(Loss.REFUSED, queue.resolve(signal).count)
        elif answer.outcome is OtlpOutcome.TOO_LARGE:
            queue.replace(signal, self._parts(signal, request.body(), request.count, request.size // 2))
        elif self._is_ending or time.monotonic() >= request.until:
            self._lose(Loss.UNSENT, queue.resolve(signal).count)
        else:
            queue.put_off(signal, time.monotonic(), answer.wait)

    def _parts(self, signal: str, body: bytes, count: int, most: int) -> list[tuple[bytes, int]]:
        """Return a request of more than `most` bytes in smaller ones; an entry that is alone too large, as it is.

        A single entry is cut. Nothing is returned if it has to be dropped.
        """
        try:
            if count > 1:
                return list(split(body, most))
            smaller = shrink(signal, body, most) if most >= SMALLEST else None
        except Exception:  # a resource that no receiver takes; a bug costs this request, never the thread
            smaller = None
        if smaller is None:
            self._lose(Loss.TOO_LARGE, count)
            return []
        if not self._has_cut:
            self._has_cut = True
            _log.warning(
                "forwarding to %s: content of a span or record of %d bytes was cut, to fit into a request of %d bytes; "
                "said once (forward.max_request_bytes)",
                self._where,
                len(body),
                most,
            )
        return [(smaller, count)]

    def _report(self, signal: str, answer: OtlpAnswer) -> None:
        """Log a change between success and failure, once."""
        if answer.rejected:
            _log.warning(
                "%s left out %d of the %s that were sent (%s); they are lost, and counted",
                self._where,
                answer.rejected,
                "spans" if signal == "traces" else "records",
                answer.why or "it gives no reason",
            )
        before = self._failing.get(signal, OtlpOutcome.ACCEPTED)
        if before is answer.outcome or answer.outcome is OtlpOutcome.TOO_LARGE:
            return
        if answer.outcome is OtlpOutcome.ACCEPTED:
            del self._failing[signal]
            _log.info("forwarding %s to %s goes on", signal, self._where)
            return
        self._failing[signal] = answer.outcome
        outcome = (
            "they are lost, and counted"
            if answer.outcome is OtlpOutcome.REFUSED
            else "trying again; new telemetry waits in memory"
        )
        _log.warning("forwarding %s to %s fails: %s (%s)", signal, self._where, answer.why, outcome)

    def _lose(self, reason: Loss, count: int) -> None:
        if count:
            self._has_lost = True
            self._owner.count_loss(reason, count)

    def _finish_flushes(self) -> None:
        """Finish the flushes whose requests are all resolved. The caller holds the lock."""
        while self._flushes:
            number, waiter, is_ok = self._flushes[0]
            oldest = self._queue.oldest
            if oldest is not None and oldest <= number:
                return
            self._flushes.popleft()
            waiter.finish(is_ok and not self._has_lost)
            self._has_lost = False
