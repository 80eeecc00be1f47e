"""The worker behind the in-process receivers: converts queued items to observations and passes them on.

The agent's thread only appends to the queue, and wakes the worker if it sleeps. The worker is a daemon
thread. The first item starts it, not the import: gunicorn preloads, uWSGI forks. After work it naps before
it sleeps, so that a busy agent wakes it at most a hundred times a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanpost.model.observations import Observation, Part
from spanpost.receivers.follower import Follower, TellEnd
from spanpost.receivers.forks import after_fork
from spanpost.receivers.protocols import Receive
from spanpost.receivers.queue import CAPACITY, CHATTER_CAPACITY, Item, Loss, Queue, QueuedKind
from spanpost.receivers.span_hook import hook, remove_hook
from spanpost.receivers.spool import Spool
from spanpost.receivers.spool_recovery import read_own
from spanpost.receivers.spool_unpacking import Unpacker
from spanpost.receivers.spool_writer import SpoolFile
from spanpost.receivers.waiter import Waiter

#: Upper limits of a caller's wait, seconds. A framework may flush at the end of every span.
MAX_FLUSH = 2.0
MAX_CLOSE = 3.0

_BATCH = 512
_NAP = 0.01
SCAN_INTERVAL = 1.0
_IDLE = 60.0
#: Conversions after which the worker releases the interpreter lock: the agent must not wait long for it.
_SLICE = 64
_MARKERS = (QueuedKind.FLUSH, QueuedKind.CLOSE, QueuedKind.SPOOLED)
#: Seconds between two attempts to read or delete the spool's finished files.
_CLEAN_EVERY = 1.0


class Feed:
    """A queue, its worker and a receiver. The span and log processors of one attachment share one feed.

    With `beat_every` (seconds) the worker sends a heartbeat while spans are open. `tell_end` receives each
    ended span with its observation, in the worker's thread.

    The processors' callbacks read and write `live` (span id to live span) and `is_asleep` directly: a call
    costs too much.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        tenant: str = "default",
        capacity: int = CAPACITY,
        chatter_capacity: int = CHATTER_CAPACITY,
        scan_interval: float = SCAN_INTERVAL,
        spool: Spool | None = None,
        beat_every: float | None = None,
        tell_end: TellEnd | None = None,
    ) -> None:
        self._receive = receive
        self._beat_every = beat_every
        self._tell_end = tell_end
        self.tenant = tenant
        #: Writes items to disk before they are recorded; None: off.
        self.spool = spool
        #: True if a processor follows spans: an exporter then need not spool them.
        self.follows = False
        self._scan_interval = scan_interval
        self._capacities = (capacity, chatter_capacity)
        #: Ids of the spans that were open in the parent process at fork: the parent ends them.
        self.inherited: frozenset[int] = frozenset()
        self.is_closed = False
        self._endpoints = 0
        self._remembers_ends = False
        self._finish: Callable[[Waiter, bool], None] = Waiter.finish
        self._begin()
        after_fork(self._after_fork)

    def _begin(self) -> None:
        """Initialise the state of this process."""
        self.pid = os.getpid()
        self.producer = uuid4().hex
        self.queue = Queue(*self._capacities)
        self.losses = self.queue.losses
        self.live: dict[int, Any] = {}
        if self.spool is not None:
            self.spool.begin()
            self.spool.bind(self._mark, lambda: list(self.live.values()), self.producer)
        self.on_event = hook(self)
        self._follower = Follower(self.tenant, self.producer, self.losses, self._tell_end)
        if self._remembers_ends:
            self._follower.remember_ends()
        #: Also True before the first start, so that the same check starts the worker.
        self.is_asleep = True
        self._wake = threading.Lock()
        self._wake.acquire()
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        #: Threads whose spans are never followed: the worker's, and those that a receiver registers.
        self.own_threads: set[int] = set()
        #: The last flush that timed out. Until the worker reaches it, later flushes fail at once.
        self._overdue: Waiter | None = None
        self._refused = 0
        self._end_of_worker: Waiter | None = None
        self._end_by = 0.0

    def _after_fork(self, is_late: bool = False) -> None:
        """Start fresh in a forked child: spans, queue, worker and locks belong to the parent.

        `is_late`: the fork was noticed by the pid, when the child had already queued its first item. The
        worker was asleep then, so the parent left no items.
        """
        try:
            queued = list(self.queue.items) if is_late else []
            ours = {id(item) for item in queued}
            before = self.live
            self._begin()
            for span_id, span in list(before.items()):
                if id(span) in ours:
                    self.live[span_id] = span
                else:
                    remove_hook(span)
            self.inherited = self.inherited.union(before.keys() - self.live.keys())
            self.queue.items.extend(queued)
        except Exception:
            self.losses.count(Loss.CALLBACK)

    # --- in the agent's thread ----------------------------------------------------------------------------------

    def put(self, item: Item) -> bool:
        """Queue an item and wake the worker; False: it was dropped (and counted)."""
        if self.is_closed:
            self.losses.count(Loss.CLOSED)
            return False
        is_kept = self.queue.put(item)
        if self.is_asleep or not is_kept:
            self.wake()
        return is_kept

    def put_durably(self, item: Item, write: Callable[..., bool], *what: Any) -> bool:
        """Queue an item, then spool it (``write(*what, is_queued)``); False: both failed, and it is dropped and
        counted. A record in the spool's file implies that the queue has had the item.
        """
        if self.is_closed:
            self.losses.count(Loss.CLOSED)
            return False
        queue = self.queue
        is_queued = len(queue.items) < queue.capacity
        if is_queued:
            queue.items.append(item)
        if self.is_asleep or not is_queued:
            self.wake()
        if write(*what, is_queued) or is_queued:
            return True
        self.losses.count(Loss.QUEUE_FULL)
        return False

    def _mark(self, spool_file: SpoolFile) -> None:
        """Queue a marker: once the worker reaches it, everything queued so far is recorded."""
        self.queue.put_marker((QueuedKind.SPOOLED, spool_file, None))
        self.wake()

    def put_chatter(self, item: Item) -> None:
        if self.is_closed:
            return
        self.queue.put_chatter(item)
        if self.is_asleep:
            self.wake()

    def wake(self) -> None:
        """Wake the worker, or start it. Never waits for anything that the worker holds."""
        if self.pid != os.getpid():  # a fork without fork hooks
            self._after_fork(is_late=True)
        if self._worker is None:
            self._start()
        self.is_asleep = False
        with suppress(RuntimeError):  # another thread woke it at the same moment
            self._wake.release()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._worker is None:
                worker = threading.Thread(target=self._run, name="spanpost-intake", daemon=True)
                worker.start()
                self._worker = worker
        except RuntimeError:
            self.losses.count(Loss.NO_WORKER)
        finally:
            self._starting.release()

    def flush(self, timeout: float = MAX_FLUSH) -> bool:
        """Wait until everything queued is passed on; False on timeout, or if the receiver refused some of it.

        Waits at most `timeout`, and never more than 2 s. Does not wait while an earlier flush that timed out
        is unfinished.
        """
        if self._worker is None and not len(self.queue):
            return True
        if threading.current_thread() is self._worker:
            return not len(self.queue)
        if (end := self._end_of_worker) is not None:
            return end.wait(max(0.0, min(timeout, MAX_FLUSH, self._end_by - time.monotonic())))
        if self._overdue is not None and not self._overdue.is_finished:
            return False
        waiter = Waiter()
        self.queue.put_marker((QueuedKind.FLUSH, waiter, None))
        self.wake()
        if waiter.wait(max(0.0, min(timeout, MAX_FLUSH))):
            return True
        self._overdue = waiter
        return False

    def close(self, timeout: float = MAX_CLOSE) -> bool:
        """Mark open spans as interrupted, pass on what is queued, and stop; at most 3 s, once.

        True: everything was passed on. A second call waits for the same end, no longer than the first: at
        exit, several providers shut the feed down one after the other.
        """
        timeout = max(0.0, min(timeout, MAX_CLOSE))
        waiter = self._end_of_worker
        if waiter is None:
            waiter = Waiter()
            self._end_by = time.monotonic() + timeout
            self._end_of_worker = waiter
            self.is_closed = True
            for span in list(self.live.values()):
                remove_hook(span)
            self.live.clear()
            if self._worker is None and not len(self.queue):
                waiter.finish(self.spool is None or self.spool.close(self._read, ()))
                return waiter.is_ok
            self.queue.put_marker((QueuedKind.CLOSE, waiter, None))
            self.wake()
        if threading.current_thread() is self._worker:
            return False
        return waiter.wait(max(0.0, min(timeout, self._end_by - time.monotonic())))

    def disown_thread(self) -> None:
        """Mark the calling thread as spanpost's own: its spans are not followed, and instrumentation is
        suppressed in it.
        """
        self.own_threads.add(threading.get_ident())
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))

    def return_thread(self) -> None:
        """Undo `disown_thread` before the calling thread ends: the system reuses thread ids."""
        self.own_threads.discard(threading.get_ident())

    def remember_ends(self) -> None:
        """Report each span's end once, even if both an exporter and a processor deliver it."""
        self._remembers_ends = True
        self._follower.remember_ends()

    def finish_later(self, finish: Callable[[Waiter, bool], None]) -> None:
        """Let the receiver finish flushes, because it passes batches on after it has returned."""
        self._finish = finish

    def open_endpoint(self) -> None:
        """Count one more processor on this feed."""
        self._endpoints += 1

    def close_endpoint(self, timeout: float = MAX_CLOSE) -> bool:
        """Remove one processor; the last one closes the feed, the others flush it."""
        self._endpoints -= 1
        return self.close(timeout) if self._endpoints <= 0 else self.flush(timeout)

    # --- in the worker's thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        self.disown_thread()
        try:
            self._loop(self._wake, self._follower)
        finally:
            # If the worker ever fails, the next item starts a new one.
            self._worker = None
            self.is_asleep = True
            self.return_thread()

    def _loop(self, wake: threading.Lock, follower: Follower) -> None:
        scan_at = time.monotonic() + self._scan_interval
        clean_at = 0.0
        spool = self.spool
        beat_at = 0.0  # the first heartbeat comes with the first scan that finds an open span
        while True:
            is_scan = time.monotonic() >= scan_at
            worked, waiter, is_close = self._work(follower, is_scan)
            if is_close:
                return
            now = time.monotonic()
            if is_scan:
                scan_at = now + self._scan_interval
                self._pass_on(follower.scan(is_drained=not len(self.queue)))
                if self._beat_every is not None and now >= beat_at and len(follower):
                    beat_at = now + self._beat_every
                    self._pass_on([follower.beat(self._beat_every)])
            if spool is not None and spool.files.to_delete and now >= clean_at:
                spool.files.delete_recorded(self._read)
                clean_at = time.monotonic() + _CLEAN_EVERY
            if waiter is not None or len(self.queue) >= _BATCH:
                continue
            if worked:
                wake.acquire(timeout=_NAP)
                continue
            self.is_asleep = True
            if not len(self.queue):
                due = scan_at if len(follower) else now + _IDLE
                wake.acquire(
                    timeout=max(0.0, (min(due, clean_at) if spool is not None and spool.files.to_delete else due) - now)
                )
            self.is_asleep = False

    def _work(self, follower: Follower, is_scan: bool) -> tuple[int, Waiter | None, bool]:
        """Pass on at most one batch, up to the first marker. Returns (items, the marker's waiter, whether
        the marker is the close).

        With `is_scan` the batch ends with the spans that have changed. They are read before the queue is,
        and reported after it: what an event and its span's attributes both say is reported by the event
        first.
        """
        batch: list[Observation] = []
        worked = 0
        changed = follower.changed() if is_scan else []
        marker: Item | None = None
        while worked < _BATCH and (item := self.queue.take_chatter()) is not None:
            batch.extend(follower.convert(item))
            worked += 1
        while worked < _BATCH * 2:
            item = self.queue.take()
            if item is None:
                break
            worked += 1
            if type(item) is tuple and item[0] in _MARKERS:
                marker = item
                break
            batch.extend(follower.convert(item))
            item = None  # otherwise the last span would stay alive until the next item
            if not worked % _SLICE:
                time.sleep(0)
            if len(batch) >= _BATCH:
                break
        batch += changed
        is_close = marker is not None and marker[0] == QueuedKind.CLOSE
        final = follower.interrupt() if is_close else []
        is_taken = self._pass_on(batch) & self._pass_on(final)
        if marker is None:
            return worked, None, False
        if marker[0] == QueuedKind.SPOOLED:
            assert self.spool is not None
            self.spool.files.on_marker(marker[1])
            return worked, None, False
        waiter: Waiter = marker[1]
        self._finish(
            waiter, self._clean_spool(final if is_close and not is_taken else [], is_close) and self._refused == 0
        )
        self._refused = 0
        return worked, waiter, is_close

    def _clean_spool(self, unreported: Sequence[Observation], is_close: bool) -> bool:
        """Read or delete the spool's files, as far as possible; True: none is left."""
        spool = self.spool
        if spool is None:
            return True
        if not is_close:
            return spool.flush(self._read)
        if len(self.queue):  # queued during the close
            spool.mark_unrecorded()
        return spool.close(self._read, [o for o in unreported if o.part is Part.LOG])

    def _read(self, spool_file: SpoolFile) -> bool:
        """Pass on the contents of a spool file; False: refused, the file stays for the next attempt."""
        try:
            read_own(spool_file, Unpacker(self.tenant, self.producer), self._receive)
        except BaseException:
            return False
        return True

    def _pass_on(self, batch: Sequence[Observation]) -> bool:
        is_taken = True
        for start in range(0, len(batch), _BATCH):
            part = list(batch[start : start + _BATCH])
            try:
                self._receive(part)
            except BaseException:
                is_taken = False
                if self.spool is None or not self.spool.mark_unrecorded():
                    self._refused += len(part)
                    self.losses.count(Loss.RECEIVE, len(part))
        return is_taken
