"""Bearer tokens, of which only hashes are known here: whose one is."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeVar

T = TypeVar("T")
#: Longer ones are nobody's, and hashing them would be somebody else's choice of our work.
_LONGEST: Final = 1024


def digest_of(token: str) -> bytes:
    """Return what is kept of a token: its SHA-256. (Of 256 random bits a slow hash is worth nothing more.)"""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def holder_of(token: str, known: Iterable[tuple[T, bytes]]) -> T | None:
    """Return whose token it is, of those whose hashes are known; None for nobody's."""
    if not token or len(token) > _LONGEST:
        return None
    digest = digest_of(token)
    found: T | None = None
    for holder, each in known:  # all of them, each in constant time: how long it takes says nothing
        if hmac.compare_digest(digest, each):
            found = holder
    return found
