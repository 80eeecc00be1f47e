"""A wait that a signal handler may share with the thread that it interrupted."""

from __future__ import annotations

import threading


class Waiter:
    """A wait until everything queued before it was passed on.

    Built from a bare lock. A signal handler may wait for it while the same thread is already waiting; an
    `Event` is locked between two of its steps, so that both would wait forever.
    """

    __slots__ = ("_closed", "is_finished", "is_ok")

    def __init__(self) -> None:
        self._closed = threading.Lock()
        self._closed.acquire()
        self.is_finished = False
        self.is_ok = False

    def finish(self, is_ok: bool) -> None:
        """Release everyone who waits. Only the first call counts."""
        if not self.is_finished:
            self.is_ok, self.is_finished = is_ok, True
            self._closed.release()

    def wait(self, timeout: float) -> bool:
        """Wait until `finish`; return its argument, or False after `timeout` seconds."""
        if not self.is_finished:
            if not self._closed.acquire(timeout=timeout):
                return False
            self._closed.release()  # for other waiting threads
        return self.is_ok
