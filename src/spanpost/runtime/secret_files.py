"""Secrets of this machine, each in a file of its own with mode 0600, made once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from spanpost.http.tokens import new_token
from spanpost.store.lasting import sync_directory

_LONGEST: Final = 200


def kept_secret(path: Path, make: Callable[[], str] = new_token) -> str:
    """Return the secret in a file; make it if there is none. Raises OSError if the file cannot be used."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with suppress(FileExistsError):
            if not path.is_symlink() and not path.exists():
                _write(fresh, make())
                os.link(fresh, path)  # unlike a rename it never replaces what another process made just now
                sync_directory(path.parent)
        return read_secret(path)
    finally:
        with suppress(OSError):
            fresh.unlink()


def _write(path: Path, secret: str) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, f"{secret}\n".encode())
        os.fsync(file)  # what is encrypted or signed with it must not outlive it
    finally:
        os.close(file)


def read_secret(path: Path) -> str:
    """Return the secret in a file of this user with mode 0600. Raises OSError for any other file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(file)
        is_ours = os.geteuid() in (0, about.st_uid)
        if not stat.S_ISREG(about.st_mode) or not is_ours or about.st_mode & 0o077:
            raise OSError(f"{path} must be a file of this user with mode 0600; remove it and restart")
        if secret := os.read(file, _LONGEST).decode("ascii", "replace").strip():
            return secret
        raise OSError(f"{path} is empty: restore it from a backup, or remove it and restart")
    finally:
        os.close(file)
