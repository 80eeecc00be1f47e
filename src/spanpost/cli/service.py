"""``spanpost run``: deliver what waits and serve metrics, until a signal says stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanpost.settings import Settings


def serve(settings: Settings) -> None:
    """Run the pipeline's pump and metrics until SIGINT or SIGTERM."""
    from spanpost import app

    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    pipeline = app.Pipeline(settings)
    try:
        pipeline.start()
        print(f"metrics: {pipeline.metrics_url or 'off'}", file=sys.stderr)
        print("delivering what waits in the database; stop with Ctrl-C", file=sys.stderr)
        stopped.wait()
    finally:
        pipeline.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)
