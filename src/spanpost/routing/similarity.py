"""Which errors are alike: those whose texts are the same but for numbers, ids and what is quoted."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from spanpost.model.checkpoints import Checkpoint

#: A cause stands at the beginning.
_READ: Final = 400
#: What differs between two accidents of one kind: each is one class of characters, nothing to back track over.
_VARYING: Final = re.compile(
    r"\"[^\"]{0,200}\"|'[^']{0,200}'|`[^`]{0,200}`"
    r"|[a-z]{2,10}://\S++"
    r"|(?:/[\w.@+-]++){2,}+"
    r"|\b[\w-]*\d[\w-]*+"
)


def likeness(error: Checkpoint) -> str:
    """Return a short word that errors of one kind share: by type and text, numbers, ids, paths and quotes left out."""
    said = _VARYING.sub("#", error.text[:_READ].lower())
    whole = f"{error.ref[:200]}\0{' '.join(said.split())}"
    return blake2b(whole.encode("utf-8", "replace"), digest_size=10).hexdigest()
