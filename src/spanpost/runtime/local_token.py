"""This machine's token: it opens the API of a gateway on loopback that asks for no other token.

A connection from loopback proves nothing: a proxy on this machine connects from there for everybody, and
may send no header that says so. The token is made once. It stays in a file of mode 0600 beside the data
directory, so that an open board survives a restart and the command line finds it. To replace it, remove the
file and restart the gateway.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import Final

from spanpost.http.tokens import new_token
from spanpost.runtime.secret_files import kept_secret, read_secret

log = logging.getLogger("spanpost.runtime.gateway")

_TOKEN: Final = re.compile(r"spt_[A-Za-z0-9_-]{43}")


def path_of(data_dir: Path) -> Path:
    """Return where the token is kept."""
    return data_dir.absolute().with_name(f"{data_dir.absolute().name}-token")


@cache
def kept(data_dir: Path) -> str:
    """Return the token; make it if there is none. If its file cannot be used, the token lives as long as
    this process.
    """
    path, made = path_of(data_dir), new_token()
    try:
        kept_secret(path, lambda: made)
        return _read(path)
    except OSError as error:
        log.warning(
            "this machine's token cannot be saved, so the command line does not find it: %s: %s",
            path,
            error.strerror or error,
        )
        return made


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


def _read(path: Path) -> str:
    """Return the token in a file. Raises OSError for a file that is not safe, or holds none."""
    text = read_secret(path)
    if not _TOKEN.fullmatch(text):
        raise OSError("it holds no token; remove it and restart")
    return text
