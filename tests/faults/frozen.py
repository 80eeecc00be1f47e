"""A process that stops itself once, in the middle of recording, with its locks held.

python -m tests.faults.frozen between|copying       (DATABASE_URL says where)

*between* two statements of the transaction, or while the server waits for the rows of a COPY.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
from opentelemetry.sdk.trace import TracerProvider

from spanpost.receivers.attachment import join
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import load
from spanpost.store import transactions
from spanpost.tasks import batches
from spanpost.testing.exercise_stall import AGENT

#: Instead of 20 s.
IDLE = timedelta(seconds=8)


def main() -> None:
    """Record one task, and print the result."""
    transactions.IDLE = IDLE
    stops = [True]

    def stop() -> None:
        if stops:
            stops.clear()
            # This thread stops itself, so that it executes nothing more.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    fold, copy = batches.fold, asyncpg.Connection.copy_to_table

    def stopping(*given: Any, **more: Any) -> Any:
        stop()
        return fold(*given, **more)

    async def copying(self: Any, table: str, *, source: Any, **more: Any) -> Any:
        async def rows() -> AsyncIterator[bytes]:
            stop()
            async for part in source:
                yield part

        return await copy(self, table, source=rows(), **more)

    if sys.argv[1] == "between":
        batches.fold = stopping  # type: ignore[assignment]
    else:
        asyncpg.Connection.copy_to_table = copying
    pipeline = Pipeline(load(database={"url": os.environ["DATABASE_URL"]}))
    pipeline.start()
    provider = TracerProvider(shutdown_on_exit=False)
    join(pipeline.feed, tracer_provider=provider)
    with provider.get_tracer("frozen").start_as_current_span(
        "agent", attributes={**AGENT, "agent.task.id": "shared"}
    ) as span:
        span.add_event("agent.checkpoint", {"agent.checkpoint.message": "told once"})
    print(pipeline.force_flush(60), sum(pipeline.dropped.values()), flush=True)
    pipeline.shutdown(5)


if __name__ == "__main__":
    main()
