"""An event loop in a daemon thread for long waits, so that the agent's own loops and threads stay free."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0


def _running() -> asyncio.AbstractEventLoop:
    """Return the loop of this process, started at the first call. A forked child has its own."""
    global _loop, _pid
    with _lock:
        if _loop is None or _pid != os.getpid():
            _loop, _pid = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="spanpost-control", daemon=True).start()
        return _loop


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def begin(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Await `work` in the background. Cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(work, _running())
