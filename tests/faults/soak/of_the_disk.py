"""Faults of PostgreSQL's disk: it is full, its syncs are slow, its blocks cannot be written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.eventually import eventually
from tests.faults.soak.dealt import dealt
from tests.faults.soak.machine import why_no_library
from tests.faults.soak.of_the_database import OfDatabase
from tests.faults.soak.world import World, now


class OfDisk(OfDatabase):
    """A fault of the disk on which PostgreSQL has all its files."""

    @classmethod
    def why_not(cls, world: World) -> str:
        return world.database.why_no_disk


@dealt
class DatabaseDiskFull(OfDisk):
    """No block is left for rows and WAL. PostgreSQL refuses writes, or ends and recovers when there is space."""

    name, tries, lasts = "database disk full", ("answered", "database-disk-full"), (1.0, 12.0)

    def strike(self, world: World) -> None:
        world.database.disk.fill()

    def lift(self, world: World) -> None:
        world.database.disk.empty()
        self.lifted = now()
        if not world.database.server.is_running:  # it found no space for its recovery
            world.database.stop()
            world.database.start()


@dealt
class DatabaseDiskFails(OfDisk):
    """Blocks cannot be written: syncs answer EIO, and the file system goes read-only. Then a person repairs it."""

    name, tries, lasts = "database disk fails", ("answered", "sync-fails"), (1.0, 8.0)

    def strike(self, world: World) -> None:
        world.database.disk.fail()

    def lift(self, world: World) -> None:
        database = world.database
        for pid in database.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        database.stop()
        database.disk.mend()
        eventually(lambda: _refusal(database.disk.unmount), lambda why: not why, 30)  # the last one may yet end
        database.disk.mount()
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
