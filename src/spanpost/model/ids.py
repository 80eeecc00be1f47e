"""Identities: version 5 UUIDs of what a thing is, so that any order and any repetition finds the same."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "https://spanpost.dev/task")
_SPACE = NAMESPACE.bytes
#: Identities remembered: most are asked for several times in the batches of one run.
_MEMO = 16_384


def named(name: str) -> bytes:
    """Return the 16 bytes of `uuid5(NAMESPACE, name)`, without making the UUID."""
    raw = bytearray(sha1(_SPACE + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


@lru_cache(_MEMO)
def uuid_of(raw: bytes) -> UUID:
    """Return 16 bytes as a UUID; the same object for the same bytes while they are remembered."""
    return UUID(bytes=raw)


@lru_cache(_MEMO)
def explicit_uid(tenant: str, task_id: str) -> bytes:
    """Return the identity of a task that says its own id."""
    return named(f"{tenant}\0task\0{task_id}")


def root_span_uid(tenant: str, trace_id: bytes, span_id: bytes) -> bytes:
    """Return the identity of a task by its box; of a trace without a known box when `span_id` is empty."""
    return named(f"{tenant}\0{trace_id.hex()}\0{span_id.hex()}")


def start_id(root: bytes) -> UUID:
    """Return the id of a segment's start, from its root's unit key."""
    return uuid_of(named(f"start\0{root.hex()}"))


def end_id(root: bytes) -> UUID:
    """Return the id of a segment's end, from its root's unit key."""
    return uuid_of(named(f"end\0{root.hex()}"))


def message_of(uid: bytes, given: int) -> bytes:
    """Return the identity of a task's message, after so many before it were taken over by other tasks."""
    return named(f"message\0{uid.hex()}\0{given}") if given else uid
