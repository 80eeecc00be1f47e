"""Process events: an end without atexit, SIGTERM.

Callbacks hold the pipeline by weak references: they can never be unregistered, but a pipeline can be
collected.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing.process
import multiprocessing.util
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

log = logging.getLogger("spanpost")

#: Run late among the finalizers of a multiprocessing child: earlier ones may still emit spans.
_EXIT_PRIORITY = -100


#: Switch interval of threads, seconds. At Python's default of 5 ms, a request that moves between the loop
#: and a thread waits twenty times as long as it works while a large batch is folded.
_SWITCH = 0.0005


def exclude_from_collection() -> None:
    """Exclude what exists now from the search for garbage. Only for spanpost's own processes."""
    gc.collect()
    gc.freeze()


def switch_often() -> None:
    """Let threads take turns in short intervals. Only for spanpost's own processes."""
    sys.setswitchinterval(_SWITCH)


def at_child_end(owner: object, end: Callable[[], object]) -> None:
    """Call a bound method of `owner` at the end of a multiprocessing child: a forked child never runs
    atexit.

    A `Pool` terminates its workers, which is not such an end: see `Sigterm`.
    """
    weak = weakref.WeakMethod(end)

    def finish() -> None:
        if (method := weak()) is not None:
            method()

    def register(_: object = None) -> None:
        multiprocessing.util.Finalize(None, finish, exitpriority=_EXIT_PRIORITY)

    multiprocessing.util.register_after_fork(owner, register)
    if multiprocessing.process.parent_process() is not None:  # this process is such a child
        register()


class Sigterm:
    """Flushes at SIGTERM, then continues as without it.

    The handler runs in the main thread, between two steps of its work. It takes no lock that the agent's
    code may hold and waits for a bounded time. If the signal would end the process, `shutdown` is called,
    and the process then dies of the signal as its parent expects. If the application has a handler, `flush`
    is called, and that handler, which may go on working for a while, decides what comes next. A process
    that ignores the signal is left alone.
    """

    def __init__(self, flush: Callable[[], object], shutdown: Callable[[], object]) -> None:
        self._flush = weakref.WeakMethod(flush)
        self._shutdown = weakref.WeakMethod(shutdown)
        self._before: Any = None
        self._is_set = False

    def install(self) -> bool:
        """Install the handler in front of the present one; False, and a line in the log, if that is
        impossible.
        """
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_IGN:
            log.info("SIGTERM is ignored in this process, so it does not flush")
            return False
        if before is None or threading.current_thread() is not threading.main_thread():
            why = "its handler was not set by Python" if before is None else "attach was not called in the main thread"
            log.warning("flush_on_sigterm: SIGTERM cannot be joined, %s", why)
            return False
        self._before = before
        signal.signal(signal.SIGTERM, self._handle)
        self._is_set = True
        return True

    def remove(self) -> None:
        """Restore the previous handler, unless another one was installed since."""
        if not self._is_set or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._before)
            self._is_set = False

    def _handle(self, number: int, frame: Any) -> None:
        ends = self._before is signal.SIG_DFL
        act = (self._shutdown if ends else self._flush)()
        try:
            if act is not None:
                act()
        except Exception as error:
            log.warning("the flush at SIGTERM failed: %s", error)
        finally:
            if ends:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            else:
                self._before(number, frame)
