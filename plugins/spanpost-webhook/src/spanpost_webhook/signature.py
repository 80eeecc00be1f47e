"""The signature of Standard Webhooks 1.0: HMAC-SHA256 over id, timestamp and body. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable


def key_of(secret: str) -> bytes:
    """Return the key of a secret. Raises `ValueError` without any part of the secret."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ and base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError("must hold 24 to 64 bytes, in base64")
    return key


def sign(message_id: str, timestamp: int, body: bytes, keys: Iterable[bytes]) -> str:
    """Return the header ``webhook-signature``: one signature a key, any of which convinces a receiver."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
