"""Identities: version 5 UUIDs derived from what a thing is, the same for any order and any repetition."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "https://spanpost.dev/task")
_SPACE = NAMESPACE.bytes
#: Identities cached: most are needed several times in the batches of one run.
_MEMO = 16_384


def named(name: str) -> bytes:
    """Return the 16 bytes of `uuid5(NAMESPACE, name)` without creating the UUID."""
    raw = bytearray(sha1(_SPACE + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


@lru_cache(_MEMO)
def uuid_of(raw: bytes) -> UUID:
    """Return 16 bytes as a UUID; the same object for the same bytes while it is cached."""
    return UUID(bytes=raw)


@lru_cache(_MEMO)
def explicit_uid(tenant: str, task_id: str) -> bytes:
    """Return the uid of a task with an explicit id."""
    return named(f"{tenant}\0task\0{task_id}")


@lru_cache(_MEMO)
def conversation_uid(tenant: str, service: str, agent: str, conversation: str) -> bytes:
    """Return the uid of the task of a conversation of one agent in one service."""
    return named(f"{tenant}\0conversation\0{service}\0{agent}\0{conversation}")


def root_span_uid(tenant: str, trace_id: bytes, span_id: bytes) -> bytes:
    """Return the uid of a task by its root span; of a trace without one when `span_id` is empty."""
    return named(f"{tenant}\0{trace_id.hex()}\0{span_id.hex()}")


def start_id(root: bytes) -> UUID:
    """Return the checkpoint id of a run's start, from the key of its root's subtree."""
    return uuid_of(named(f"start\0{root.hex()}"))


def end_id(root: bytes) -> UUID:
    """Return the checkpoint id of a run's end, from the key of its root's subtree."""
    return uuid_of(named(f"end\0{root.hex()}"))


def message_of(uid: bytes, given: int) -> bytes:
    """Return the uid of a task's message; `given`: how many of its earlier messages other tasks took over."""
    return named(f"message\0{uid.hex()}\0{given}") if given else uid
