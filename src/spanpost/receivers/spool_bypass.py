"""Records that bypass the spool's file: counted by reason, remembered as a gap, logged once."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from spanpost.receivers.queue import Counts

log = logging.getLogger("spanpost.receivers")

#: Why a record bypassed the file: the label ``reason`` of ``spanpost_spool_bypassed_total``. A closed list.
STALLED, FULL, NO_SPACE, FAILED, TOO_LARGE, UNPACKABLE = (
    "stalled",
    "full",
    "no_space",
    "failed",
    "too_large",
    "unpackable",
)
_CURES = {
    STALLED: "the disk is slow",
    FULL: "it has reached SPANPOST_INTAKE__SPOOL_MAX_BYTES",
    NO_SPACE: "the disk is full",
    FAILED: "the file could not be written",
}


def reason_of(error: OSError) -> str:
    """Return the reason for an error of the disk."""
    return NO_SPACE if error.errno in (28, 122) else FAILED


class Gap:
    """Consecutive records that bypassed the file: the times of the first and the last, their number, and why."""

    def __init__(self, reason: str) -> None:
        self.first = self.last = time.time_ns()
        self.number = 1
        self.reason = reason

    def add(self) -> None:
        """Count one more record."""
        self.last = time.time_ns()
        self.number += 1


class BypassedRecords(Counts):
    """The records of one process that bypassed the file, by reason."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.begin()

    def begin(self) -> None:
        """Forget the gap and the log lines of the parent process."""
        self.gap: Gap | None = None
        self._logged: set[str] = set()

    def count(self, reason: str, number: int = 1) -> None:
        super().count(reason, number)
        gap = self.gap
        if gap is None:
            self.gap = Gap(reason)
        else:
            gap.add()

    def report(self, reason: str, error: Exception | None = None) -> None:
        """Log that records bypass the file from now on, once per reason."""
        if reason in self._logged:
            return
        self._logged.add(reason)
        why = f": {error}" if error is not None else ""
        log.error(
            "the spool in %s is bypassed, %s%s; until that is mended a kill of this process loses what waits in memory",
            self._directory,
            _CURES.get(reason, reason),
            why,
        )

    def report_end(self, reason: str) -> None:
        """Log that the file is written again."""
        log.info("the spool in %s is written again", self._directory)
        self._logged.discard(reason)
