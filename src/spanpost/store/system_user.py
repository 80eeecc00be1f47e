"""The operating system's user of this process."""

from __future__ import annotations

import os
import socket


def system_user() -> str:
    """Return user and host, ``alice@build-7``, by the effective user id: the environment can be forged."""
    return f"{_name()}@{socket.gethostname()}"


def _name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container user without a name
        return f"uid-{os.geteuid()}"
    except ImportError:  # Windows
        return os.getlogin()
