"""Look-up of bearer tokens by their hashes."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeVar

T = TypeVar("T")
#: Longer tokens are unknown; hashing them would let a stranger cause work.
_LONGEST: Final = 1024


def digest_of(token: str) -> bytes:
    """Return the stored form of a token: its SHA-256. A slow hash adds nothing for 256 random bits."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def holder_of(token: str, known: Iterable[tuple[T, bytes]]) -> T | None:
    """Return the holder of a token among `known`; None: unknown."""
    if not token or len(token) > _LONGEST:
        return None
    digest = digest_of(token)
    found: T | None = None
    for holder, each in known:  # compare all, each in constant time: the duration reveals nothing
        if hmac.compare_digest(digest, each):
            found = holder
    return found
