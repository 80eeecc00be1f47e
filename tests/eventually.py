"""Waiting for other processes and threads until a condition holds, on any machine."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

from spanpost.testing.ports import free_port as free_port

Found = TypeVar("Found")

#: Seconds until a wait fails: far more than a busy machine needs.
LIMIT = 90.0
#: Seconds between two reads.
_PAUSE = 0.03


def eventually(
    read: Callable[[], Found], is_so: Callable[[Found], object] = bool, limit: float = LIMIT, pause: float = _PAUSE
) -> Found:
    """Read until the condition holds, and return what was read. Raises AssertionError with the last value.

    A read that costs those something that it waits for has a longer `pause` between two (seconds).
    """
    deadline = time.monotonic() + limit
    while not is_so(found := read()):
        assert time.monotonic() < deadline, f"not so after {limit:g} s: {found!r}"
        time.sleep(pause)
    return found


async def eventually_async(
    read: Callable[[], Awaitable[Found] | Found], is_so: Callable[[Found], object] = bool, limit: float = LIMIT
) -> Found:
    """Read until the condition holds, as `eventually` does, and let the loop run meanwhile."""
    deadline = time.monotonic() + limit
    while True:
        looked = read()
        found = cast("Found", await looked if inspect.isawaitable(looked) else looked)
        if is_so(found):
            return found
        assert time.monotonic() < deadline, f"not so after {limit:g} s: {found!r}"
        await asyncio.sleep(_PAUSE)


def is_listening(port: int) -> bool:
    """Return whether a process listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a process without output listens on its port. Raises AssertionError with its log when it
    ends.
    """

    def read() -> bool:
        assert process.poll() is None, log.read_text()[-4000:]
        return is_listening(port)

    eventually(read)
