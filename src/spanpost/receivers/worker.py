"""The worker behind the in-process doors: takes the queue's items, turns them into observations, hands them on.

The agent's thread only appends to the queue and, when the worker sleeps, wakes it. The worker is a daemon thread, started by
the first item (not at import: gunicorn preloads, uWSGI forks). After work it naps before it sleeps, so that a busy agent
wakes it a hundred times a second at most.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanpost.model.observations import Observation, Part
from spanpost.receivers.follower import Follower, TellEnd
from spanpost.receivers.queue import CAPACITY, CHATTER_CAPACITY, Item, Loss, Queue, QueuedKind
from spanpost.receivers.span_hook import hook, remove_hook
from spanpost.receivers.spool import Spool
from spanpost.receivers.spool_recovery import read_own
from spanpost.receivers.spool_unpacking import Unpacker
from spanpost.receivers.spool_writer import SpoolFile
from spanpost.semconv import SPAN_NAME

#: Bounds on what a caller may wait, whatever it asks for (a framework flushes at every span's end).
MAX_FLUSH = 2.0
MAX_CLOSE = 3.0

_BATCH = 512
_NAP = 0.01
LOOK_EVERY = 1.0
_IDLE = 60.0
#: Conversions between two offers of the interpreter lock, so that the agent never waits long for it.
_SLICE = 64
_MARKERS = (QueuedKind.FLUSH, QueuedKind.CLOSE, QueuedKind.SPOOLED)
#: Seconds between two tries to settle what the spool still holds.
_SETTLE_EVERY = 1.0


class Receive(Protocol):
    """**Protocol:** takes observations from a door. Called in the worker's thread, one batch at a time.

    Returns when the batch is as safe as it will be: `flush` answers by it. It may block; meanwhile the queue fills and then
    loses by count. What it raises is counted (``receive``) and the batch is gone: a receiver that can try again keeps it.
    """

    def __call__(self, batch: list[Observation], /) -> object: ...


class _Waiter:
    """Somebody waits until everything queued before has been handed on.

    Made of a bare lock: a signal's handler may wait for it in the middle of the same thread's wait, and an `Event` is locked there
    between two steps, so that both would wait for ever.
    """

    __slots__ = ("_closed", "is_ok", "is_settled")

    def __init__(self) -> None:
        self._closed = threading.Lock()
        self._closed.acquire()
        self.is_settled = False
        self.is_ok = False

    def settle(self, is_ok: bool) -> None:
        """Let all go on that wait. The first time counts."""
        if not self.is_settled:
            self.is_ok, self.is_settled = is_ok, True
            self._closed.release()

    def wait(self, timeout: float) -> bool:
        if not self.is_settled:
            if not self._closed.acquire(timeout=timeout):
                return False
            self._closed.release()  # for whoever waits beside
        return self.is_ok


class Feed:
    """A queue, its worker and a receiver. Span and log processors of one attachment share one.

    With `beat_every` (seconds) a heartbeat is told while spans are open. `tell_end` is handed each ended span beside what was
    observed of it, in the worker's thread.

    `live` (span id to live span) and `is_asleep` belong to the processors' callbacks as much as to the feed: they are read
    and written there without a call.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        tenant: str = "default",
        capacity: int = CAPACITY,
        chatter_capacity: int = CHATTER_CAPACITY,
        look_every: float = LOOK_EVERY,
        spool: Spool | None = None,
        beat_every: float | None = None,
        tell_end: TellEnd | None = None,
    ) -> None:
        self._receive = receive
        self._beat_every = beat_every
        self._tell_end = tell_end
        self.tenant = tenant
        #: Where what is told is written before it is recorded; None unless asked for.
        self.spool = spool
        #: A processor follows spans: an exporter beside it need not write them.
        self.follows = False
        self._look_every = look_every
        self._capacities = (capacity, chatter_capacity)
        #: Span ids that a parent process had open at fork: theirs to end, not ours.
        self.inherited: frozenset[int] = frozenset()
        self.is_closed = False
        self._endpoints = 0
        self._remembers_ends = False
        self._begin()
        if hasattr(os, "register_at_fork"):
            weak = weakref.WeakMethod(self._after_fork)

            def after_in_child() -> None:
                if (method := weak()) is not None:
                    method()

            os.register_at_fork(after_in_child=after_in_child)

    def _begin(self) -> None:
        """Set up what belongs to this process alone."""
        self.pid = os.getpid()
        self.producer = uuid4().hex
        self.queue = Queue(*self._capacities)
        self.losses = self.queue.losses
        self.live: dict[int, Any] = {}
        if self.spool is not None:
            self.spool.begin()
            self.spool.bind(self._mark, lambda: list(self.live.values()), self.producer)
        self.hear = hook(self)
        self._follower = Follower(self.tenant, self.producer, self.losses, self._tell_end)
        if self._remembers_ends:
            self._follower.remember_ends()
        #: True also before the first start, so that the same check starts the worker.
        self.is_asleep = True
        self._wake = threading.Lock()
        self._wake.acquire()
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        #: Threads whose spans are never followed: the worker's, and those that a receiver names.
        self.own_threads: set[int] = set()
        #: The flush that timed out last: until the worker has come to it, further ones are answered at once.
        self._overdue: _Waiter | None = None
        self._refused = 0
        self._end_of_worker: _Waiter | None = None
        self._end_by = 0.0

    def _after_fork(self, is_late: bool = False) -> None:
        """Begin anew in a forked child: the parent's spans, queue, worker and locks are the parent's.

        `is_late`: noticed by the pid, with the first item of the child queued already. A sleeping worker had left none.
        """
        try:
            queued = list(self.queue.news) if is_late else []
            ours = {id(item) for item in queued}
            before = self.live
            self._begin()
            for span_id, span in list(before.items()):
                if id(span) in ours:
                    self.live[span_id] = span
                else:
                    remove_hook(span)
            self.inherited = self.inherited.union(before.keys() - self.live.keys())
            self.queue.news.extend(queued)
        except Exception:
            self.losses.count(Loss.CALLBACK)

    @property
    def waiting(self) -> int:
        """How much was told and was not yet taken from the queue."""
        return len(self.queue)

    # --- in the agent's thread ----------------------------------------------------------------------------------

    def put(self, item: Item) -> bool:
        """Queue news and wake the worker; False when it was lost (and counted)."""
        if self.is_closed:
            self.losses.count(Loss.CLOSED)
            return False
        is_kept = self.queue.put(item)
        if self.is_asleep or not is_kept:
            self.wake()
        return is_kept

    def put_durably(self, item: Item, write: Callable[..., bool], *what: Any) -> bool:
        """Queue news and have the spool write it (``write(*what, is_queued)``); False when neither took it (and counted).

        Queued first: whoever finds it in the spool's file knows that the queue had it before.
        """
        if self.is_closed:
            self.losses.count(Loss.CLOSED)
            return False
        queue = self.queue
        is_queued = len(queue.news) < queue.capacity
        if is_queued:
            queue.news.append(item)
        if self.is_asleep or not is_queued:
            self.wake()
        if write(*what, is_queued) or is_queued:
            return True
        self.losses.count(Loss.QUEUE_FULL)
        return False

    def _mark(self, spool_file: SpoolFile) -> None:
        """Have the worker say when all that was queued so far is recorded."""
        self.queue.put_marker((QueuedKind.SPOOLED, spool_file, None))
        self.wake()

    def put_chatter(self, item: Item) -> None:
        if self.is_closed:
            return
        self.queue.put_chatter(item)
        if self.is_asleep:
            self.wake()

    def wake(self) -> None:
        """Wake the worker; start it when there is none in this process. Never blocks on anything that the worker holds."""
        if self.pid != os.getpid():  # a fork that ran no hooks
            self._after_fork(is_late=True)
        if self._worker is None:
            self._start()
        self.is_asleep = False
        with suppress(RuntimeError):  # somebody else woke it in this moment
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
        """Wait until all that was queued is handed on; False when that took longer or the receiver refused some of it.

        Waits at most `timeout` and never more than 2 s; not at all while an earlier flush that timed out is still not done.
        """
        if self._worker is None and not len(self.queue):
            return True
        if threading.current_thread() is self._worker:
            return not len(self.queue)
        if (end := self._end_of_worker) is not None:
            return end.wait(max(0.0, min(timeout, MAX_FLUSH, self._end_by - time.monotonic())))
        if self._overdue is not None and not self._overdue.is_settled:
            return False
        waiter = _Waiter()
        self.queue.put_marker((QueuedKind.FLUSH, waiter, None))
        self.wake()
        if waiter.wait(max(0.0, min(timeout, MAX_FLUSH))):
            return True
        self._overdue = waiter
        return False

    def close(self, timeout: float = MAX_CLOSE) -> bool:
        """Say of open spans that they are interrupted, hand on what is queued, and end; at most 3 s, once.

        True when all was handed on. A second call waits for the same end, and no longer than the first: at the exit several
        providers shut us down, one after the other.
        """
        timeout = max(0.0, min(timeout, MAX_CLOSE))
        waiter = self._end_of_worker
        if waiter is None:
            waiter = _Waiter()
            self._end_by = time.monotonic() + timeout
            self._end_of_worker = waiter
            self.is_closed = True
            for span in list(self.live.values()):
                remove_hook(span)
            self.live.clear()
            if self._worker is None and not len(self.queue):
                waiter.settle(self.spool is None or self.spool.close(self._read, ()))
                return waiter.is_ok
            self.queue.put_marker((QueuedKind.CLOSE, waiter, None))
            self.wake()
        if threading.current_thread() is self._worker:
            return False
        return waiter.wait(max(0.0, min(timeout, self._end_by - time.monotonic())))

    def disown_thread(self) -> None:
        """Never follow spans started in the calling thread, and tell instrumentations to make none: it works for spanpost."""
        self.own_threads.add(threading.get_ident())
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))

    def return_thread(self) -> None:
        """Take back `disown_thread`, before the calling thread ends: the system gives its number to another one."""
        self.own_threads.discard(threading.get_ident())

    def remember_ends(self) -> None:
        """Tell a span's end once, although an exporter hands it in beside a processor."""
        self._remembers_ends = True
        self._follower.remember_ends()

    def open_endpoint(self) -> None:
        """Count one more processor that feeds this."""
        self._endpoints += 1

    def close_endpoint(self, timeout: float = MAX_CLOSE) -> bool:
        """Count one processor less; the last one closes the feed, the others flush it."""
        self._endpoints -= 1
        return self.close(timeout) if self._endpoints <= 0 else self.flush(timeout)

    # --- in the worker's thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        self.disown_thread()
        try:
            self._loop(self._wake, self._follower)
        finally:
            # Should it ever fail, the next item starts another one.
            self._worker = None
            self.is_asleep = True
            self.return_thread()

    def _loop(self, wake: threading.Lock, follower: Follower) -> None:
        look_at = time.monotonic() + self._look_every
        settle_at = 0.0
        spool = self.spool
        beat_at = 0.0  # the first one with the first look that finds something open
        while True:
            is_lookup = time.monotonic() >= look_at
            worked, waiter, is_close = self._work(follower, is_lookup)
            if is_close:
                return
            now = time.monotonic()
            if is_lookup:
                look_at = now + self._look_every
                self._hand_on(follower.look(is_drained=not len(self.queue)))
                if self._beat_every is not None and now >= beat_at and len(follower):
                    beat_at = now + self._beat_every
                    self._hand_on([follower.beat(self._beat_every)])
            if spool is not None and spool.owed and now >= settle_at:
                spool.settle(self._read)
                settle_at = time.monotonic() + _SETTLE_EVERY
            if waiter is not None or len(self.queue) >= _BATCH:
                continue
            if worked:
                wake.acquire(timeout=_NAP)
                continue
            self.is_asleep = True
            if not len(self.queue):
                due = look_at if len(follower) else now + _IDLE
                wake.acquire(timeout=max(0.0, (min(due, settle_at) if spool is not None and spool.owed else due) - now))
            self.is_asleep = False

    def _work(self, follower: Follower, is_lookup: bool) -> tuple[int, _Waiter | None, bool]:
        """Take at most one batch, up to the first marker, and hand it on. Returns (items, marker's waiter, is it the close).

        With `is_look` the spans that have changed are told with it: seen before it is taken, told after it. So what an event says,
        and the span's attributes too, is told by the event first.
        """
        batch: list[Observation] = []
        worked = 0
        changed = follower.changed() if is_lookup else []
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
            item = None  # or the last span taken would live until the next one
            if not worked % _SLICE:
                time.sleep(0)
            if len(batch) >= _BATCH:
                break
        batch += changed
        is_close = marker is not None and marker[0] == QueuedKind.CLOSE
        told = follower.interrupt() if is_close else []
        is_taken = self._hand_on(batch) & self._hand_on(told)
        if marker is None:
            return worked, None, False
        if marker[0] == QueuedKind.SPOOLED:
            assert self.spool is not None
            self.spool.passed(marker[1])
            return worked, None, False
        waiter: _Waiter = marker[1]
        waiter.settle(self._settle(told if is_close and not is_taken else [], is_close) and self._refused == 0)
        self._refused = 0
        return worked, waiter, is_close

    def _settle(self, untold: Sequence[Observation], is_close: bool) -> bool:
        """Have the spool's files read or deleted, as far as that can be; True when none of them is needed any more."""
        spool = self.spool
        if spool is None:
            return True
        if not is_close:
            spool.encryption_owed()
            return spool.settle(self._read)
        if len(self.queue):  # told while this was closing
            spool.owe()
        left = [
            (o.trace_id, o.span_id, str(o.attributes.get(SPAN_NAME, "")), o.at_ns, o.origin) for o in untold if o.part is Part.LOG
        ]
        return spool.close(self._read, left)

    def _read(self, spool_file: SpoolFile) -> bool:
        """Hand on what a segment holds; False when that was refused: it is left for another time."""
        try:
            read_own(spool_file, Unpacker(self.tenant, self.producer), self._receive)
        except BaseException:
            return False
        return True

    def _hand_on(self, batch: Sequence[Observation]) -> bool:
        is_taken = True
        for start in range(0, len(batch), _BATCH):
            part = list(batch[start : start + _BATCH])
            try:
                self._receive(part)
            except BaseException:
                is_taken = False
                if self.spool is None or not self.spool.owe():
                    self._refused += len(part)
                    self.losses.count(Loss.RECEIVE, len(part))
        return is_taken
