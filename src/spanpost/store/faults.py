"""Faults of spanpost's own, in reading or folding: nobody's data is lost without a word to the person who can mend it."""

from __future__ import annotations

import logging
from types import TracebackType

from spanpost.model.recorded import UNFOLDABLE
from spanpost.readers import overlooked

log = logging.getLogger("spanpost.faults")

#: What was told, by type and place; of more, nothing is told any more.
_told: set[tuple[str, str, int]] = set()
_MOST = 256


def tell(error: BaseException) -> None:
    """Log a fault with its traceback: once for each place and type, because it comes back with every observation of a kind."""
    cause = error.__cause__ or error
    key = (type(cause).__name__, *_place(cause.__traceback__))
    if key in _told or len(_told) >= _MOST:
        return
    _told.add(key)
    log.error("a fault of spanpost's own, told once; what meets it is counted as lost (%s)", UNFOLDABLE, exc_info=cause)


def losses() -> dict[str, int]:
    """Tell the faults that the reader met since it was last asked; return the observations that it could not read, by reason."""
    found = overlooked()
    for error in found:
        tell(error)
    return {UNFOLDABLE: len(found)} if found else {}


def _place(traceback: TracebackType | None) -> tuple[str, int]:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno) if traceback is not None else ("", 0)
