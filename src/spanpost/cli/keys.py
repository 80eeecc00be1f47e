"""Keys of a terminal, one at a time and without echo."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
ENTER, ESCAPE, END_OF_INPUT = "enter", "escape", "eof"
_SEQUENCES: Final = {
    b"\x1b[A": UP, b"\x1bOA": UP, b"\x1b[B": DOWN, b"\x1bOB": DOWN, b"\x1b[5~": PAGE_UP, b"\x1b[6~": PAGE_DOWN,
    b"\x1b[H": HOME, b"\x1bOH": HOME, b"\x1b[1~": HOME, b"\x1b[F": END, b"\x1bOF": END, b"\x1b[4~": END,
    b"\x1b": ESCAPE, b"\r": ENTER, b"\n": ENTER,
}  # fmt: skip
#: Seconds in which the rest of a key's sequence follows its first byte.
_REST: Final = 0.05


class Keys:
    """Keys from a file descriptor of a terminal."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._read = b""

    def next(self, timeout: float) -> str:
        """Return the next key: a name above, or its character; empty after the timeout."""
        if not self._read and not self._more(timeout):
            return ""
        if self._read == b"\x1b":
            self._more(_REST)
        if not self._read:
            return END_OF_INPUT
        taken = max((one for one in _SEQUENCES if self._read.startswith(one)), key=len, default=b"")
        if taken == b"\x1b" and self._read[1:2] in (b"[", b"O"):  # a key that has no name here
            taken, self._read = self._read, b""
            return ""
        if taken:
            self._read = self._read[len(taken) :]
            return _SEQUENCES[taken]
        said, self._read = self._read[:1].decode("ascii", "replace"), self._read[1:]
        return said

    def _more(self, timeout: float) -> bool:
        """Read what was typed; return whether anything was, also the end of input."""
        if not select.select([self._source], [], [], timeout)[0]:
            return False
        self._read += os.read(self._source, 1024)
        return True


@contextmanager
def keys_of(source: int) -> Iterator[Keys]:
    """Yield the keys of a terminal; afterwards it is as it was."""
    before = termios.tcgetattr(source)
    tty.setcbreak(source)
    try:
        yield Keys(source)
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
