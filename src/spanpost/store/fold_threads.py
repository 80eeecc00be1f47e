"""Threads in which a store reads and folds, so that its event loop stays free.

They are daemon threads of our own and not an executor's: an exiting process starts no executor threads, and
that is when its last telemetry is recorded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.tasks.work import Interrupted

T = TypeVar("T")

#: Seconds that one query counts for: the thread's clock does not measure the cost for the server and
#: the event loop.
QUESTION = 0.001
#: Seconds that cancelled work is given to end.
_CANCELLED = 1.0
#: Calls of `tick` between two readings of the clock.
_TICKS_PER_CHECK = 32


class TimeMeter:
    """A limit of `most` seconds for reading and folding in one transaction.

    It counts the processor time of the thread, so waiting on a busy machine does not count.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.spent = 0.0
        self._began = 0.0
        self._ticks = 0
        self._is_given_up = False

    def run(self, job: Callable[[], T]) -> T:
        """Run a part of the work in the calling thread and count its time."""
        self._began = time.thread_time()
        try:
            self.check()
            return job()
        finally:
            self.spent += time.thread_time() - self._began

    def tick(self) -> None:
        """Raise `Interrupted` when the work was given up or its time is spent.

        Cheap: reads the clock now and then.
        """
        self._ticks += 1
        if self._ticks % _TICKS_PER_CHECK == 0:
            self.check()

    def asked(self) -> None:
        """Count one query."""
        self.spent += QUESTION
        self.check()

    def give_up(self) -> None:
        """End the work at its next tick: its caller was cancelled."""
        self._is_given_up = True

    def check(self) -> None:
        """Do the same as `tick`, but read the clock at once: for use between steps that may take long."""
        if self._is_given_up:
            raise Interrupted(StoreUnavailable("the transaction was given up"))
        if self.spent + time.thread_time() - self._began > self.most:
            raise Interrupted(OverBudget(f"folding it takes more than {self.most:g} s of processor time"))


class FoldThreads:
    """A pool with one thread for each concurrent fold; a thread is started when none is free, and kept."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._free = 0

    def begin(self) -> None:
        """Start the first thread: an exiting process cannot start one."""
        with self._lock:
            if not self._count:
                self._start()
                self._free += 1

    def close(self) -> None:
        """End the threads, each when its work is done."""
        with self._lock:
            for _ in range(self._count):
                self._jobs.put(None)
            self._jobs = SimpleQueue()  # threads that still work are not counted as free afterwards
            self._count = self._free = 0

    async def run(self, meter: TimeMeter, job: Callable[[], T]) -> T:
        """Run `job` in a thread. `Interrupted` is raised here as its reason."""
        done: Future[T] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
            else:
                self._start()
            self._jobs.put((done, lambda: meter.run(job)))
        working = asyncio.wrap_future(done)
        try:
            return await asyncio.shield(working)
        except Interrupted as ended:
            raise ended.reason from None
        except asyncio.CancelledError:
            meter.give_up()
            # The job may be using the connection that the caller gives back next.
            await asyncio.wait({working}, timeout=_CANCELLED)
            raise

    def _start(self) -> None:
        threading.Thread(target=self._work, args=(self._jobs,), name="spanpost-fold", daemon=True).start()
        self._count += 1

    def _work(self, jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
        while (given := jobs.get()) is not None:
            done, job = given
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(job())
                except BaseException as error:
                    done.set_exception(error)
            del given, done, job
            with self._lock:
                self._free += jobs is self._jobs
