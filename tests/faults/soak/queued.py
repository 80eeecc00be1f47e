"""Senders to something that answers before the gateways record: a queue of a Collector, a topic."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan

from tests.faults.soak.senders import Senders
from tests.faults.soak.sent import Row, rows_of
from tests.faults.soak.world import World, now, pause

#: Seconds after the last fault within which a queue must be empty.
EMPTY_WITHIN = 180.0
#: Traces that are looked up at once.
AT_ONCE = 500


class QueuedSenders(Senders):
    """Senders whose spans are acknowledged first and recorded later. The close waits for their rows."""

    share, count = 0.2, 2

    def __init__(self, world: World) -> None:
        super().__init__(world)
        #: Rows by trace, and when the last of a trace was acknowledged.
        self._rows = defaultdict[bytes, set[Row]](set)
        self._last = dict[bytes, float]()
        self._lock = threading.Lock()

    def acknowledged(self, body: Sequence[ReadableSpan]) -> None:
        super().acknowledged(body)
        with self._lock:
            for row in rows_of(body):
                self._rows[row[0]].add(row)
                self._last[row[0]] = now()

    def log(self) -> str:
        """Return the log of what queues."""
        raise NotImplementedError

    def close(self) -> None:
        """Wait for the senders, then until the queue is empty."""
        super().close()
        # Older rows may have left for archives already. The checker looks for them when these are restored.
        since = now() - (getattr(self.world, "retention", 0.0) / 2 or float("inf"))
        waiting = self._waiting([trace for trace, at in self._last.items() if at > since])
        until = now() + EMPTY_WITHIN
        while waiting and now() < until:
            pause(threading.Event(), 0.5)
            waiting = self._waiting(waiting)
        if waiting:
            self.world.findings.append(
                f"{self.name}: {len(waiting)} of {len(self._rows)} traces are not recorded {EMPTY_WITHIN:g} s after "
                f"the last fault: {self.log()[-1000:]}"
            )

    def _waiting(self, traces: Sequence[bytes]) -> list[bytes]:
        """Return the traces of which a row is still missing."""
        left = []
        for at in range(0, len(traces), AT_ONCE):
            some = traces[at : at + AT_ONCE]
            listed = ", ".join(f"'\\x{trace.hex()}'" for trace in some)
            found = set(
                self.world.database.rows(
                    f"SELECT trace_id, span_id, part, idx FROM agent_events WHERE trace_id IN ({listed}) AND part < 3"
                )
            )
            left += [trace for trace in some if self._rows[trace] - found]
        return left

    def notes(self) -> Sequence[str]:
        return [f"{self.name}: {sum(map(len, self._rows.values()))} rows of {len(self._rows)} traces acknowledged"]
