"""Documents of MessagePack, deflated when they are long enough to gain by it.

The first byte tells: a deflated document begins with 0x78, and a map of MessagePack does not.
"""

from __future__ import annotations

import zlib

#: A shorter document is stored as it is.
_LEAST = 256


def deflated(document: bytes) -> bytes:
    return zlib.compress(document, 1) if len(document) >= _LEAST else document


def inflated(stored: bytes) -> bytes:
    return zlib.decompress(stored) if stored[:1] == b"\x78" else stored
