"""The lock of an embedded database's directory: one process owns it at a time."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from spanpost.model.errors import ConfigError
from spanpost.store.embedded_surroundings import unlink_sockets


class AlreadyOpen(ConfigError):
    """Another process owns this embedded database. `socket_dir`: where its server listens, if that is known."""

    def __init__(self, message: str, *, socket_dir: Path | None) -> None:
        super().__init__(message)
        self.socket_dir = socket_dir


class DirectoryLock:
    """A `flock` on the file ``lock``, which names its owner and the socket directory of the owner's server."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "lock"
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """True while this process owns the directory."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock, and remove the sockets of an owner that was killed. Raises `AlreadyOpen`."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            owner = self._owner()
            socket_dir = Path(owner["socket_dir"]) if "socket_dir" in owner else None
            where = f", listening in {socket_dir}" if socket_dir else ""
            raise AlreadyOpen(
                f"the embedded database at {self._data_dir} is already open in process "
                f"{owner.get('pid', 'unknown')}{where}: stop that process, or give one DATABASE_URL to both",
                socket_dir=socket_dir,
            ) from None
        self._fd = fd
        old = self._owner().get("socket_dir")
        if old:
            unlink_sockets(Path(old), keep=Path(old) == self._data_dir / "run")

    def name(self, socket_dir: Path | None) -> None:
        """Write who owns the directory, and where its server listens."""
        assert self._fd is not None
        text = json.dumps({"pid": os.getpid(), "socket_dir": str(socket_dir)})
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Give the directory free."""
        if self._fd is not None:
            # A disk that failed takes no writes. The name of an owner that is gone says nothing without its lock.
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            self.close()

    def close(self) -> None:
        """Close the file, in a forked child without an effect on the parent's lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _owner(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
