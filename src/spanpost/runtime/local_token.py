"""This machine's token: it opens the API of a gateway on loopback that asks for no other token.

A connection from loopback proves nothing: a proxy on this machine connects from there for everybody, and
may send no header that says so. The token is made once. It stays in a file of mode 0600 beside the data
directory, so that an open board survives a restart and the command line finds it. To replace it, remove the
file and restart the gateway.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from spanpost.http.tokens import new_token

log = logging.getLogger("spanpost.runtime.gateway")

_TOKEN: Final = re.compile(r"spt_[A-Za-z0-9_-]{43}")
_LONGEST: Final = 200


def path_of(data_dir: Path) -> Path:
    """Return where the token is kept."""
    return data_dir.absolute().with_name(f"{data_dir.absolute().name}-token")


@cache
def kept(data_dir: Path) -> str:
    """Return the token; make it if there is none. If its file cannot be used, the token lives as long as
    this process.
    """
    path = path_of(data_dir)
    made = new_token()
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            if not path.is_symlink() and not path.exists():
                _write(fresh, made)
                os.link(fresh, path)  # unlike a rename it never replaces what another process made just now
        return _read(path)
    except OSError as error:
        log.warning(
            "this machine's token cannot be saved, so the command line does not find it: %s: %s",
            path,
            error.strerror or error,
        )
        return made
    finally:
        with suppress(OSError):
            fresh.unlink()


def found(data_dir: Path) -> str:
    """Return the token that a gateway of this user has kept; empty if there is no such file, or it is not safe."""
    try:
        return _read(path_of(data_dir))
    except OSError:
        return ""


def link(url: str, token: str) -> str:
    """Return the address of the board with the token. It stands behind a #, so browsers keep it from
    servers and logs.
    """
    return f"{url.rstrip('/')}/#token={token}"


def _write(path: Path, token: str) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, f"{token}\n".encode())
    finally:
        os.close(file)


def _read(path: Path) -> str:
    """Return the token in a file of this user with mode 0600. Raises OSError for any other file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(file)
        is_ours = os.geteuid() in (0, about.st_uid)
        if not stat.S_ISREG(about.st_mode) or not is_ours or about.st_mode & 0o077:
            raise OSError("it must be a file of this user with mode 0600; remove it and restart")
        text = os.read(file, _LONGEST).decode("ascii", "replace").strip()
    finally:
        os.close(file)
    if not _TOKEN.fullmatch(text):
        raise OSError("it holds no token; remove it and restart")
    return text
