"""The thread that keeps the spool's files: it works at an interval while there is work, and sleeps else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class SpoolKeeper:
    """A daemon thread that calls `tend` until it is stopped, and once more after that.

    `tend` returns the seconds until the next call; None: it may sleep until `wake`, or for `longest` seconds. The
    first wake starts the thread.
    """

    def __init__(self, tend: Callable[[], float | None], interval: float, longest: float) -> None:
        self._tend = tend
        self._interval = interval
        self._longest = longest
        #: True while the thread sleeps, and before it was started: a writer then wakes it.
        self.is_idle = True
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def wake(self) -> None:
        """Call `tend` now, from any thread. Never waits."""
        self.is_idle = False
        if self._thread is None and not self._is_stopped:
            thread = threading.Thread(target=self._run, name="spanpost-spool", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down; the records are already written
                self._thread = None
        with suppress(RuntimeError):  # another thread woke it at the same moment
            self._wake.release()

    def stop(self, timeout: float) -> bool:
        """End the thread; False: it still works after `timeout` seconds."""
        self._is_stopped = True
        self.wake()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause: float | None = self._interval
        while not self._is_stopped:
            if pause is None:
                self.is_idle = True
                pause = self._tend()  # for work that came before its writer could see that the thread sleeps
                if pause is None:
                    self._wake.acquire(timeout=self._longest)
                    pause = self._interval
                self.is_idle = False
            self._wake.acquire(timeout=pause)
            pause = self._tend()
        self._tend()
