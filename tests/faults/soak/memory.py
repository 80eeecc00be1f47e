"""A limit of memory for running processes: a control group of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class MemoryGroup:
    """A control group (version 1 or 2) below that of this process. `why_not` says what failed."""

    def __init__(self) -> None:
        self._parent, self.limit = _parent()
        self.group = self._parent / f"spanpost-soak-{os.getpid()}"
        self.why_not = ""
        try:
            self.group.mkdir(exist_ok=True)
            if not (self.group / self.limit).exists():
                self.why_not = "the control group has no limit of memory"
        except OSError as error:
            self.why_not = f"no control group can be made: {error}"

    def hold(self, pids: Iterable[int], mib: int) -> None:
        """Let the processes and their children take so many MiB beyond what they have."""
        # Version 1 and 2 count what is taken from now on: what a process has stays with its first group.
        (self.group / self.limit).write_text(str(mib << 20))
        with suppress(OSError):
            (self.group / "memory.swap.max").write_text("0")
        self._move(pids, self.group)

    def kills(self) -> int:
        """Return how many processes the kernel killed for it."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):
                words = (self.group / name).read_text().split()
                return int(words[words.index("oom_kill") + 1])
        return 0

    def release(self) -> None:
        """Let them go, also those that were started meanwhile."""
        self._move(map(int, (self.group / "cgroup.procs").read_text().split()), self._parent)

    def close(self) -> None:
        """Remove it, when its processes have ended."""
        with suppress(OSError):
            self.group.rmdir()

    @staticmethod
    def _move(pids: Iterable[int], to: Path) -> None:
        for pid in pids:
            with suppress(OSError):  # it has ended
                (to / "cgroup.procs").write_text(str(pid))


def _parent() -> tuple[Path, str]:
    """Return this process's own group that counts memory, and the name of its limit."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                own = root / "memory" / path.lstrip("/")
                return own if own.exists() else root / "memory", "memory.limit_in_bytes"
            if not controllers and (root / "cgroup.controllers").exists():
                return root / path.lstrip("/"), "memory.max"
    return root, "memory.max"
