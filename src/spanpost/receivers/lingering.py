"""How long a group of requests waits for others with parts of the same traces.

Recording a trace that is spread over four bodies costs half if they are recorded together: its task is
computed once, not four times. So if one group had parts of the previous group's traces, the next group waits
for as many requests as were in progress, because senders that were just answered send again at once. It
waits at most a tenth of the last group's time, and not at all if traces arrive whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.model.observations import Observation

#: Groups for which split traces are remembered: once the parts are recorded together, splits are no longer
#: visible.
_REMEMBERED = 16


class Lingering:
    """Predicts the wait from recent groups.

    `share`: the fraction of the last group's time to wait at most.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._traces: set[bytes] = set()
        #: Number of groups for which traces are still assumed to be split.
        self._remembered = 0
        self._requests = 0
        self._until = 0.0

    def note(self, batch: Sequence[Observation], requests: int, took: float, now: float) -> None:
        """Note a group that was recorded in `took` seconds, and how many requests were in progress."""
        traces = {o.trace_id for o in batch}
        is_split = 2 * len(traces & self._traces) > len(traces)
        self._remembered = _REMEMBERED if is_split else max(0, self._remembered - 1)
        self._traces, self._requests, self._until = traces, requests, now + self._share * took

    def left(self, requests: int, now: float) -> float:
        """Return the seconds left to wait for more requests, with `requests` waiting."""
        if not self._remembered or requests >= self._requests:
            return 0.0
        return max(0.0, self._until - now)
