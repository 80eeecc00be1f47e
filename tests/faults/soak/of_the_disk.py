"""Faults of PostgreSQL's disk: it is full, its syncs are slow, its blocks cannot be written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.eventually import eventually
from tests.faults.soak.dealt import dealt
from tests.faults.soak.disk import Disk
from tests.faults.soak.machine import why_no_library
from tests.faults.soak.of_the_database import OfDatabase
from tests.faults.soak.world import World, now


class OfDisk(OfDatabase):
    """A fault of the disk on which PostgreSQL has all its files."""

    @classmethod
    def why_not(cls, world: World) -> str:
        disk = world.database.disk
        return "with a standby, PostgreSQL has no disk of its own" if disk is None else disk.why_not

    @staticmethod
    def disk(world: World) -> Disk:
        """Return the disk."""
        assert world.database.disk is not None
        return world.database.disk


@dealt
class DatabaseDiskFull(OfDisk):
    """No block is left for rows and WAL. PostgreSQL refuses writes, or ends and recovers when there is space."""

    name, tries, lasts = "database disk full", ("answered", "database-disk-full"), (1.0, 12.0)

    def strike(self, world: World) -> None:
        self.disk(world).fill()

    def lift(self, world: World) -> None:
        self.disk(world).empty()
        self.lifted = now()
        if not world.database.server.is_running:  # it found no space for its recovery
            world.database.stop()
            world.database.start()


@dealt
class DatabaseDiskFails(OfDisk):
    """Blocks cannot be written: syncs answer EIO, and the file system goes read-only. Then a person repairs it."""

    name, tries, lasts = "database disk fails", ("answered", "sync-fails"), (1.0, 8.0)

    def strike(self, world: World) -> None:
        self.disk(world).fail()

    def lift(self, world: World) -> None:
        database, disk = world.database, self.disk(world)
        for pid in database.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        database.stop()
        disk.mend()
        eventually(lambda: _refusal(disk.unmount), lambda why: not why, 30)  # the last one may yet end
        disk.mount()
        self.lifted = now()
        database.start()


@dealt
class SyncsSlow(OfDisk):
    """Each sync of PostgreSQL takes long: of WAL at each commit, of tables at a checkpoint."""

    name, tries, lasts = "syncs slow", ("answered", "sync-slow"), (3.0, 15.0)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.each = self.chance.choice((0.02, 0.1, 0.5, 2.0))

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.each} s each"

    @classmethod
    def why_not(cls, world: World) -> str:
        return super().why_not(world) or why_no_library()

    def strike(self, world: World) -> None:
        world.database.machine.set(sync=self.each)

    def lift(self, world: World) -> None:
        world.database.machine.set()


def _refusal(do: Callable[[], None]) -> str:
    try:
        do()
    except RuntimeError as error:
        return str(error)
    return ""
