"""Fan-out of what the store newly recorded: to metrics, event streams and the dispatcher, whatever caused it.

Ingested batches, timers and interventions all arrive here, and nowhere else: a receiver that subscribes misses none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from spanpost.model.recorded import Recorded
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.runtime.fanout")

#: Takes what was recorded; returns its steps where it has several, None where it is done.
Receiver = Callable[[Recorded], Iterable[None] | None]


class Fanout:
    """The receivers of one process, called in the order of their subscription, in the pipeline's loop."""

    def __init__(self) -> None:
        self._receivers: list[Receiver] = []
        self._failed: set[tuple[Receiver, str]] = set()

    def subscribe(self, receiver: Receiver) -> None:
        """Have the receiver called with everything that is recorded from now on."""
        self._receivers.append(receiver)

    def publish_now(self, recorded: Recorded) -> None:
        """Hand it to all receivers at once."""
        for _ in self._steps(recorded):
            pass

    async def publish(self, recorded: Recorded) -> None:
        """Hand it to all receivers; other work of the loop goes between the steps, because a batch may hold thousands of tasks."""
        for _ in self._steps(recorded):
            await asyncio.sleep(0)

    def _steps(self, recorded: Recorded) -> Iterator[None]:
        for receiver in self._receivers:
            try:
                yield from receiver(recorded) or ()
            except Exception as error:  # it is committed: a receiver's fault must reach neither the sender nor other receivers
                kind = (receiver, type(error).__name__)
                if kind not in self._failed:
                    self._failed.add(kind)
                    log.error("a receiver of recorded batches raised %s, logged once: %s", kind[1], line(str(error), 300))
