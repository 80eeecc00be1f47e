"""Who the operating system says that this process is run by."""

from __future__ import annotations

import os
import socket


def system_user() -> str:
    """Return user and host, ``alice@build-7``: of the effective user id, not of the environment, which anybody may write."""
    return f"{_name()}@{socket.gethostname()}"


def _name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user that has no name
        return f"uid-{os.geteuid()}"
    except ImportError:  # Windows
        return os.getlogin()
