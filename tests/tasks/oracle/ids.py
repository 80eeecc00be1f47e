"""Identities, as the documentation of identities states them."""

from __future__ import annotations

from hashlib import blake2b
from uuid import NAMESPACE_URL, UUID, uuid5

_SPACE = uuid5(NAMESPACE_URL, "https://spanpost.dev/task")


def named(*parts: object) -> UUID:
    """Return the identity that these parts name."""
    return uuid5(_SPACE, "\0".join(map(str, parts)))


def domain(tenant: str, trace_id: bytes) -> bytes:
    """Return the 16 bytes that stand for a trace in keys."""
    return blake2b(trace_id + tenant.encode(), digest_size=16).digest()


def candidates(tenant: str, kind: str, id: str) -> bytes:
    """Return the key under which runs find one another: by a tool call (``a``) or by a conversation (``c``)."""
    return (
        blake2b(f"{tenant}\0{kind}\0{id}".encode(), digest_size=16, person=b"meeting").digest() + b"r" + kind.encode()
    )
