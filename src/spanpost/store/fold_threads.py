"""Threads in which a store reads and folds, so that its loop, and everybody who is served there, goes on meanwhile.

They are our own and daemons, not an executor's: a process on its way out lends none of those, and then is when the last of its
telemetry is recorded.
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

#: Seconds that one question to the database counts for: what it costs both sides is seen by no clock of this thread.
QUESTION = 0.001
#: What work that nobody waits for is given to end in, seconds.
_CANCELLED = 1.0
#: Between two looks at the clock, calls of `tick`.
_LOOKS = 32


class TimeMeter:
    """The processor time that one transaction's reading and folding may take: of this thread, so that a busy machine spends none of it."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.spent = 0.0
        self._began = 0.0
        self._ticks = 0
        self._is_given_up = False

    def run(self, job: Callable[[], T]) -> T:
        """Do a part of the work in the thread that calls."""
        self._began = time.thread_time()
        try:
            self.look()
            return job()
        finally:
            self.spent += time.thread_time() - self._began

    def tick(self) -> None:
        """Go on, or raise `Interrupted`: nobody waits any more, or the time is spent."""
        self._ticks += 1
        if self._ticks % _LOOKS == 0:
            self.look()

    def asked(self) -> None:
        """Count a question to the database."""
        self.spent += QUESTION
        self.look()

    def give_up(self) -> None:
        """End the work at the next tick: whoever waited for it has gone."""
        self._is_given_up = True

    def look(self) -> None:
        """As `tick`, by a look at the clock at once: between things that may take long by themselves."""
        if self._is_given_up:
            raise Interrupted(StoreUnavailable("the transaction was given up"))
        if self.spent + time.thread_time() - self._began > self.most:
            raise Interrupted(OverBudget(f"folding it takes more than {self.most:g} s of processor time"))


class FoldThreads:
    """As many threads as folds are under way at once; each is begun when there is none free, and kept."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._free = 0

    def begin(self) -> None:
        """Have one thread ready: a process on its way out begins none."""
        with self._lock:
            if not self._count:
                self._start()
                self._free += 1

    def close(self) -> None:
        """Let the threads go, each when it is done."""
        with self._lock:
            for _ in range(self._count):
                self._jobs.put(None)
            self._jobs = SimpleQueue()  # those that still work are nobody's free thread afterwards
            self._count = self._free = 0

    async def run(self, meter: TimeMeter, job: Callable[[], T]) -> T:
        """Do the work in a thread; what it raises as `Interrupted` is raised here as its reason."""
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
            # It may be asking the database by the very connection that is given back next.
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
