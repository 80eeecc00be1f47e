"""The threads of a store that closes during a fold."""

from __future__ import annotations

import asyncio
import threading

from spanpost.store.fold_threads import FoldThreads, TimeMeter


async def test_a_thread_that_ends_after_the_close_is_nobodys() -> None:
    """Work after a close during a fold does not wait for a thread that has ended."""
    threads, goes_on, has_begun = FoldThreads(), threading.Event(), threading.Event()

    def job() -> bool:
        has_begun.set()
        return goes_on.wait(60)

    threads.begin()
    first = asyncio.create_task(threads.run(TimeMeter(10), job))
    while not has_begun.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    threads.close()
    goes_on.set()
    assert await first
    await asyncio.sleep(0.05)  # the thread reports that it is free, or not
    async with asyncio.timeout(60):
        assert await threads.run(TimeMeter(10), lambda: 1) == 1
    threads.close()
