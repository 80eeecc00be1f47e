"""Fan-out of newly recorded rows: to metrics, event streams and the dispatcher, whatever caused them.

Received batches, timers and interventions all arrive here and nowhere else, so a receiver that subscribes
misses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from spanpost.model.recorded import Recorded
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.runtime.fanout")

#: Receives a recorded batch; returns its steps if it has several, None if it is done.
Receiver = Callable[[Recorded], Iterable[None] | None]


class Fanout:
    """The receivers of one process, called in the order of their subscription, in the pipeline's loop."""

    def __init__(self) -> None:
        self._receivers: list[Receiver] = []
        self._failed: set[tuple[Receiver, str]] = set()

    def subscribe(self, receiver: Receiver) -> None:
        """Call the receiver with every batch that is recorded from now on."""
        self._receivers.append(receiver)

    def publish_now(self, recorded: Recorded) -> None:
        """Pass it to all receivers at once."""
        for _ in self._steps(recorded):
            pass

    async def publish(self, recorded: Recorded) -> None:
        """Pass it to all receivers, and let other work run between the steps: a batch may hold thousands of
        tasks.
        """
        for _ in self._steps(recorded):
            await asyncio.sleep(0)

    def _steps(self, recorded: Recorded) -> Iterator[None]:
        for receiver in self._receivers:
            try:
                yield from receiver(recorded) or ()
            except Exception as error:  # already committed: the fault must reach neither the sender nor other receivers
                kind = (receiver, type(error).__name__)
                if kind not in self._failed:
                    self._failed.add(kind)
                    log.error(
                        "a receiver of recorded batches raised %s, logged once: %s", kind[1], line(str(error), 300)
                    )
