"""Judges whether writes wait for the disk.

After a write that took 5 ms the keeper watches the writes in progress, and calls the disk slow when one waits
for it for 20 ms. It asks the system whether a thread waits for the disk: by the clock, a thread that waits for
the interpreter looks the same, and that happens often.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

#: Seconds after which a write is slow, and after which it hangs.
SLOW, HUNG = 0.005, 0.2
#: Seconds that a write may wait for the disk. A write during a sync waits for the sync, on good disks too.
_STALL = 0.02
#: Seconds of one watch.
_WATCH = 0.1


def waits_for_disk(thread: int) -> bool:
    """Whether a thread of this process (native id) is in uninterruptible sleep: Linux waits for disks that
    way.
    """
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2][1:2] == b"D"
    except OSError:
        return False


class SpoolDisk:
    """Writes and syncs of one process, and how long they wait.

    `waits_for_disk` says whether a thread (native id) waits for a disk; None: the system cannot tell.
    """

    def __init__(
        self,
        write: Callable[[int, bytes], int] = os.write,
        clock: Callable[[], float] = time.monotonic,
        waits_for_disk: Callable[[int], bool] | None = waits_for_disk,
    ) -> None:
        self.write, self.clock = write, clock
        self._waits = waits_for_disk
        self.begin()

    def begin(self) -> None:
        """Initialise the state of this process."""
        #: When the current sync began, and when the last slow one ended.
        self.syncing: float | None = None
        self._slow_sync_at = -1.0

    def sync(self, fd: int) -> None:
        """Write a file's data to the disk. Raises `OSError`."""
        begun = self.syncing = self.clock()
        try:
            os.fdatasync(fd)
        finally:
            self.syncing = None
            if self.clock() - begun > HUNG:
                self._slow_sync_at = self.clock()

    def is_behind(self, busy: deque[tuple[float, int]], now: float) -> bool:
        """Whether another thread's write hangs in the disk: a new one would too."""
        try:
            since = busy[0][0]
        except IndexError:
            return False
        return now - since > HUNG and self.is_disk(since)

    def is_disk(self, since: float) -> bool:
        """Whether a long wait was for the disk, if the keeper could not watch: it syncs, or the system cannot tell."""
        syncing = self.syncing
        return (
            self._waits is None
            or self._slow_sync_at >= since
            or (syncing is not None and self.clock() - syncing > HUNG)
        )

    def watch(self, busy: deque[tuple[float, int]], is_over: Callable[[], bool]) -> bool:
        """Watch for `_WATCH` seconds; True: a write in progress waits too long for the disk."""
        if self._waits is None:
            return False
        waiting: dict[tuple[float, int], float] = {}
        now = self.clock()
        until = now + _WATCH
        while now < until and not is_over():
            for entry in list(busy):
                if not self._waits(entry[1]):
                    waiting.pop(entry, None)
                elif now - waiting.setdefault(entry, now) > _STALL:
                    return True
            time.sleep(SLOW / 5)
            now = self.clock()
        return False
