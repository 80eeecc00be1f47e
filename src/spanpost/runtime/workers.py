"""State of one gateway worker of several. `spanpost.runtime.supervisor` starts them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Worker(NamedTuple):
    """One of several workers: this process."""

    number: int
    total: int
    #: Number of restarts.
    restarts: int
    #: Shared by all workers: it holds a file for each ready worker.
    directory: Path

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def begin(self) -> None:
        """Mark this worker as ready."""
        (self.directory / f"ready-{self.number}").touch()

    def show_life(self) -> None:
        """Show the supervisor that this worker's loop runs, once it is ready."""
        with suppress(FileNotFoundError):
            os.utime(self.directory / f"ready-{self.number}")

    def missing(self) -> list[int]:
        """Return the numbers of the workers that are not ready."""
        return [number for number in range(self.total) if not (self.directory / f"ready-{number}").exists()]


#: The worker of this process; None if there is only one process.
current: Worker | None = None


def is_first() -> bool:
    """Return whether this process owns what exists once: it is worker 0, or the only process."""
    return current is None or current.is_first
