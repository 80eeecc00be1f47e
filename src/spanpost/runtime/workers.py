"""What one of several gateway workers knows of itself. `spanpost.runtime.supervisor` starts them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Worker(NamedTuple):
    """One of several workers: what this process is."""

    number: int
    total: int
    #: How often it was started again.
    restarts: int
    #: Shared by all workers: a file for each that is ready.
    directory: Path

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def begin(self) -> None:
        """Say that this worker is ready."""
        (self.directory / f"ready-{self.number}").touch()

    def missing(self) -> list[int]:
        """Return the numbers of the workers that are not ready."""
        return [number for number in range(self.total) if not (self.directory / f"ready-{number}").exists()]


#: What this process is; None where it is the only one.
current: Worker | None = None


def is_first() -> bool:
    """Tell whether this process has what there is once: it is worker 0, or the only one."""
    return current is None or current.is_first
