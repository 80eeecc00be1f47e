"""The user that the embedded PostgreSQL runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

from spanpost.model.errors import ConfigError

#: Users to step down to, best first.
_UNPRIVILEGED = ("spanpost", "postgres", "nobody")


class ServerUser(NamedTuple):
    """A user without privileges."""

    name: str
    uid: int
    gid: int


def step_down() -> ServerUser | None:
    """Return the user to run as; None: the present one. Raises `ConfigError` if root finds none."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(name, entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        f"PostgreSQL does not run as root, and there is no user {', '.join(_UNPRIVILEGED)} to step down to: "
        "run spanpost as an ordinary user, or make a user named spanpost"
    )
