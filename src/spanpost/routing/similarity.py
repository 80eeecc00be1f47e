"""Which errors are similar: those whose texts differ only in numbers, ids, paths and quotes."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from spanpost.model.checkpoints import Checkpoint

#: Characters compared: the cause stands at the beginning.
_READ: Final = 400
#: Parts that differ between two errors of one kind. Each is one class of characters, so matching never
#: backtracks far.
_VARYING: Final = re.compile(
    r"\"[^\"]{0,200}\"|'[^']{0,200}'|`[^`]{0,200}`"
    r"|[a-z]{2,10}://\S++"
    r"|(?:/[\w.@+-]++){2,}"
    r"|\b[\w-]*\d[\w-]*+"
)


def likeness(error: Checkpoint) -> str:
    """Return a short hash that similar errors share: of type and text, without numbers, ids, paths and quotes."""
    text = _VARYING.sub("#", error.text[:_READ].lower())
    whole = f"{error.ref[:200]}\0{' '.join(text.split())}"
    return blake2b(whole.encode("utf-8", "replace"), digest_size=10).hexdigest()
