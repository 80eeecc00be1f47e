"""The disk of PostgreSQL: a real file system that fills up, and whose blocks cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

_FILLER = "filler"
#: Bytes of the disk. Its blocks are in memory, those that were written.
SIZE = 8 << 30
#: Bytes that may be written while it begins to fail: it cannot be made smaller than what it holds.
_MEANWHILE = 8 << 20


class Disk:
    """An ext4 on a loop device, whose image is on a tmpfs. Needs root on Linux; `why_not` says what failed."""

    def __init__(self, home: Path) -> None:
        self.path, self._memory = home / "disk", home / "memory"
        self._image = self._memory / "image"
        self.why_not = self._make() if os.geteuid() == 0 else "a disk of its own is mounted by root on Linux"
        if self.why_not:
            self.close()

    def _make(self) -> str:
        self.path.mkdir()
        self._memory.mkdir()
        try:
            _do("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", self._memory)
            with self._image.open("wb") as image:
                image.truncate(SIZE)
            lazily = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
            _do("mkfs.ext4", "-q", "-m", "0", "-J", "size=32", "-E", lazily, self._image)
            self.mount()
        except (OSError, RuntimeError) as error:
            return f"no ext4 on a loop device: {error}"
        return ""

    def mount(self) -> None:
        """Mount it, repaired."""
        subprocess.run(["e2fsck", "-fy", str(self._image)], capture_output=True, check=False)
        _do("mount", "-o", "loop,discard,errors=remount-ro", self._image, self.path)
        self.path.chmod(0o755)

    def unmount(self) -> None:
        """Kill all processes that work on it, also those whose postmaster has ended, and take it away."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink().is_relative_to(self.path):
                    os.kill(int(process.name), signal.SIGKILL)
        _do("umount", self.path)

    def fill(self) -> None:
        """Leave no block free."""
        free = os.statvfs(self.path)
        with (self.path / _FILLER).open("wb") as file:
            left, step = free.f_bavail * free.f_frsize, 1 << 30
            while step >= free.f_frsize:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, min(step, max(left, step)))
                except OSError:
                    step //= 4

    def empty(self) -> None:
        """Free what `fill` took."""
        (self.path / _FILLER).unlink(missing_ok=True)

    def fail(self) -> None:
        """Let no new block be written but a few: a sync answers EIO, and the kernel ends all writing."""
        has = os.statvfs(self._memory)
        used = (has.f_blocks - has.f_bfree) * has.f_bsize
        _do("mount", "-o", f"remount,size={used + _MEANWHILE}", self._memory)

    def mend(self) -> None:
        """Let blocks be written again. The file system is as it was until it is mounted again."""
        _do("mount", "-o", f"remount,size={SIZE}", self._memory)

    def close(self) -> None:
        """Take both away, also if something still uses them."""
        for path in (self.path, self._memory):
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def _do(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")


def fill(directory: Path) -> None:
    """Leave no byte free on a small disk."""
    with suppress(OSError), (directory / _FILLER).open("wb", buffering=0) as file:
        while file.write(b"x" * 65536):
            pass


def empty(directory: Path) -> None:
    """Free what `fill` took."""
    (directory / _FILLER).unlink()
