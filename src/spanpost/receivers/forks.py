"""Forked children: what belongs to the parent process must begin anew in them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(begin: Callable[[], None]) -> None:
    """Call a bound method in every forked child, as long as its object lives."""
    if not hasattr(os, "register_at_fork"):
        return
    weak = weakref.WeakMethod(begin)

    def in_child() -> None:
        if (method := weak()) is not None:
            method()

    os.register_at_fork(after_in_child=in_child)
