"""Rate-limited logging for lines that a stranger can cause: the first at once, then one a minute with a
count.
"""

from __future__ import annotations

import logging
import time

EVERY = 60.0
_MOST_KINDS = 64


class RateLimitedLog:
    """Writes at most one line per kind in `EVERY` seconds."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, message: str, *values: object, trace_id: str = "") -> None:
        self._write(logging.WARNING, kind, message, values, trace_id)

    def error(
        self, kind: str, message: str, *values: object, trace_id: str = "", fault: Exception | None = None
    ) -> None:
        """Log an error, with the traceback of `fault` if given."""
        self._write(logging.ERROR, kind, message, values, trace_id, fault)

    def _write(
        self,
        level: int,
        kind: str,
        message: str,
        values: tuple[object, ...],
        trace_id: str,
        fault: Exception | None = None,
    ) -> None:
        now = time.monotonic()
        until, left_out = self._kinds.get(kind, (0.0, 0))
        if now < until:
            self._kinds[kind] = until, left_out + 1
            return
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now + EVERY, 0
        if left_out:
            message, values = message + " (and %d like it since)", (*values, left_out)
        self._log.log(level, message, *values, extra={"trace_id": trace_id} if trace_id else None, exc_info=fault)
