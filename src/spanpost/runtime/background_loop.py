"""An event loop in a daemon thread of its own, so that the agent's loop and threads are never used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

T = TypeVar("T")
#: Time for cancelled tasks to end, seconds.
_CANCELLED = 0.3


async def _untraced(question: Coroutine[Any, Any, T]) -> T:
    """Await in a context without the caller's span and with instrumentation suppressed: spanpost's own work
    is never traced.
    """
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, otel_context.Context()))
    return await question


class BackgroundLoop:
    """A running loop."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="spanpost-pipeline", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def begin(self, question: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something in the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(_untraced(question), self._loop)

    def ask(self, question: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Await something in the loop, from another thread. Raises `TimeoutError`."""
        return self.begin(question).result(timeout)

    def call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call something soon, from another thread."""
        self._loop.call_soon_threadsafe(callback, *arguments)

    def stop(self, timeout: float) -> None:
        """Stop the loop, and close it if its thread ends in time."""
        self.call(self._loop.stop)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._loop.close()


async def cancel_others() -> None:
    """Cancel all other tasks of the running loop, and wait a moment for them."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_CANCELLED)
