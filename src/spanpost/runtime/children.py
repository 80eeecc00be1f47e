"""Child processes of a gateway that work on its tables: how one begins, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from asyncio.subprocess import Process
from typing import Any, Final

#: Wait for a killed child, seconds.
_END: Final = 2.0


async def ended(child: Process) -> None:
    """End a child that runs: it is safe to kill."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END):
                await child.wait()


def begin() -> dict[str, Any]:
    """Make this process a child: return what the gateway gives it, a line of JSON, work at a low priority, and end
    when the gateway ends.
    """
    os.nice(10)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the gateway was killed before it gave all
        sys.exit(1)
    given: dict[str, Any] = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return given


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock the interpreter wants at its end.
    os.read(0, 1)
    os._exit(1)
