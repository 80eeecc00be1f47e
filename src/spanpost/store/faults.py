"""Bugs in spanpost's readers or folds: each is logged once, so that no data is dropped silently."""

from __future__ import annotations

import logging
from types import TracebackType

from spanpost.model.recorded import UNFOLDABLE
from spanpost.readers import overlooked

log = logging.getLogger("spanpost.faults")

#: Faults that were logged, by type and place. At most `_MOST`; further ones are not logged.
_logged: set[tuple[str, str, int]] = set()
_MOST = 256


def tell(error: BaseException) -> None:
    """Log a fault with its traceback, once for each place and type: similar observations repeat it."""
    cause = error.__cause__ or error
    key = (type(cause).__name__, *_place(cause.__traceback__))
    if key in _logged or len(_logged) >= _MOST:
        return
    _logged.add(key)
    log.error(
        "a bug in spanpost, logged once; observations that meet it are counted as dropped (%s)",
        UNFOLDABLE,
        exc_info=cause,
    )


def losses() -> dict[str, int]:
    """Log the reader's faults since the last call.

    Return the number of observations it could not read, by reason.
    """
    found = overlooked()
    for error in found:
        tell(error)
    return {UNFOLDABLE: len(found)} if found else {}


def _place(traceback: TracebackType | None) -> tuple[str, int]:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno) if traceback is not None else ("", 0)
