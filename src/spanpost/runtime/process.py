"""What befalls a process: it forks, it ends without atexit, it is told to terminate.

All of it is bound to the pipeline by weak references: what is registered here can never be taken back, a pipeline can go.
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

#: Late among what a multiprocessing child does at its end: others may still tell something in theirs.
_EXIT_PRIORITY = -100


#: Containers made beyond those let go of before cycles are looked for, and how seldom their elders are: a transaction's worth of
#: spans is alive at once and has no cycles, and by Python's own 700 every container of it is visited several times.
_COLLECT = (100_000, 10, 10)


#: Seconds for which one thread has the interpreter before another that waits gets it: by Python's own 5 ms, a request whose work
#: goes to and fro between the loop and a thread waits twenty times as long as it works while something large is folded.
_SWITCH = 0.0005


def rarely_collect() -> None:
    """Look for cycles seldom, and never again in what is there by now. For a process that is ours alone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def switch_often() -> None:
    """Have threads take turns in short intervals. For a process that is ours alone."""
    sys.setswitchinterval(_SWITCH)


def after_fork(begin: Callable[[], None]) -> None:
    """Have a bound method called in every forked child, as long as its object lives."""
    if not hasattr(os, "register_at_fork"):
        return
    weak = weakref.WeakMethod(begin)

    def in_child() -> None:
        if (method := weak()) is not None:
            method()

    os.register_at_fork(after_in_child=in_child)


def at_child_end(owner: object, end: Callable[[], object]) -> None:
    """Have a bound method of `owner` called where a multiprocessing child ends: one that was forked never runs atexit.

    A `Pool` terminates its workers, which is no end of theirs: see `Sigterm`.
    """
    weak = weakref.WeakMethod(end)

    def finish() -> None:
        if (method := weak()) is not None:
            method()

    def promise(_: object = None) -> None:
        multiprocessing.util.Finalize(None, finish, exitpriority=_EXIT_PRIORITY)

    multiprocessing.util.register_after_fork(owner, promise)
    if multiprocessing.process.parent_process() is not None:  # this is such a child already
        promise()


class Sigterm:
    """Flushes at SIGTERM, then does what would have been done without it.

    The handler runs in the main thread, between two steps of whatever that does. It takes no lock that the agent's code may
    hold and waits for a bounded time. Where the signal would end the process `shutdown` is called, and the process then dies
    of the signal as its parent expects; where the application has a handler of its own `flush` is called, and the handler,
    which may go on working for a while, decides what comes next. An application that ignores the signal is left alone.
    """

    def __init__(self, flush: Callable[[], object], shutdown: Callable[[], object]) -> None:
        self._flush = weakref.WeakMethod(flush)
        self._shutdown = weakref.WeakMethod(shutdown)
        self._before: Any = None
        self._is_set = False

    def install(self) -> bool:
        """Put the handler before the one that is there; False, and a line in the log, where that cannot be."""
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_IGN:
            log.info("SIGTERM is ignored in this process: nothing is flushed at it")
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
        """Put back what was there, unless somebody has put another handler over ours since."""
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
