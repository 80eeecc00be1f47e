"""What processes see of their machine: its clock, how long its syncs take, whether a name is found.

`machine.c` is compiled once and loaded into the processes before libc. It reads a file that is mapped, so a change is
seen at the next call of a running process, and of its children.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("machine.c")
#: `struct machine`: the clock's offset, the time of a sync and of a look-up, in nanoseconds.
_LAYOUT = struct.Struct("=qqq")
_FOUND = -1


@functools.cache
def library() -> Path | None:
    """Return the compiled library; None where it cannot be loaded or compiled."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        return None
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(f"/tmp/spanpost-soak-machine-{os.geteuid()}-{name}.so")
    if not made.exists():
        with tempfile.TemporaryDirectory() as scratch:
            new = Path(scratch, made.name)
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", new, SOURCE, "-ldl"], check=True)
            new.chmod(0o755)
            near = made.with_suffix(f".{os.getpid()}")
            shutil.copy(new, near)
            near.rename(made)
    return made


def why_no_library() -> str:
    """Return why processes cannot be deceived about their machine; empty: they can."""
    return "" if library() else "a C compiler on Linux makes the library that shifts clocks and slows syncs"


class Machine:
    """The machine of a few processes, which are started with `variables`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set()

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its processes; none where there is no library."""
        made = library()
        return {"LD_PRELOAD": str(made), "SOAK_MACHINE": str(self._file)} if made else {}

    def set(self, *, clock: float = 0.0, sync: float = 0.0, name: float | None = None) -> None:
        """Shift the clock, and let syncs take and look-ups of `localhost` fail after so many seconds.

        What is not given is as it should be; `name` None: names are found.
        """
        numbers = (round(clock * 1e9), round(sync * 1e9), _FOUND if name is None else round(name * 1e9))
        to = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(to, _LAYOUT.pack(*numbers), 0)
        os.close(to)
