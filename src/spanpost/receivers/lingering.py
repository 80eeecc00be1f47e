"""How long a group of requests waits for others that may bring parts of the same traces.

A trace that is spread over four bodies costs half when they are recorded together: its task is made once, not four times. So
where one group held parts of the traces of the one before it, the next waits for as many requests as were under way, because
those who were just answered send again at once; for a tenth of what the last group took, and not at all where traces come whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.model.observations import Observation

#: Groups for which it is remembered that traces come in parts: once those are recorded together, nothing tells it.
_REMEMBERED = 16


class Lingering:
    """What the groups of late tell of the next one. `share`: of what the last one took, how much may be spent waiting."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._traces: set[bytes] = set()
        #: Groups for which traces are still taken to come in parts.
        self._remembered = 0
        self._requests = 0
        self._until = 0.0

    def note(self, batch: Sequence[Observation], requests: int, took: float, now: float) -> None:
        """Note a group that was recorded in `took` seconds, and how many requests were under way."""
        traces = {o.trace_id for o in batch}
        is_split = 2 * len(traces & self._traces) > len(traces)
        self._remembered = _REMEMBERED if is_split else max(0, self._remembered - 1)
        self._traces, self._requests, self._until = traces, requests, now + self._share * took

    def left(self, requests: int, now: float) -> float:
        """Return for how many seconds more others are awaited, while so many requests wait."""
        if not self._remembered or requests >= self._requests:
            return 0.0
        return max(0.0, self._until - now)
