"""Keys of the fold's records (`work.Key`): domain, one byte for the kind, rest."""

from __future__ import annotations

from hashlib import blake2b

from spanpost.tasks.work import Key


def domain_of(tenant: str, trace_id: bytes) -> bytes:
    """Return the 16 bytes under which a trace's records are stored and locked."""
    return blake2b(trace_id + tenant.encode("utf-8", "replace"), digest_size=16).digest()


def tenant_key(tenant: str) -> bytes:
    """Return the tenant's key: locked (shared) with its domains, or in place of very many of them."""
    return blake2b(tenant.encode("utf-8", "replace"), digest_size=16, person=b"tenant").digest() + b"t"


def is_tenant(domain: bytes) -> bool:
    """Tell whether a lock key is a tenant's, not a domain."""
    return len(domain) > 16


def node_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"c" + span_id


def subtree_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"u" + span_id


def child_roots_key(domain: bytes, span_id: bytes) -> Key:
    return domain + b"k" + span_id


def state_key(domain: bytes, span_id: bytes = b"") -> Key:
    """Return a task's key: of a root span, of a trace without one, of an explicit id (its own domain)."""
    return domain + b"g" + span_id


def members_key(state: Key) -> Key:
    return state[:16] + b"m" + state[17:]


def members_page_key(state: Key, page: int) -> Key:
    """Return the key of a further page of a task's members."""
    return members_key(state) + b"p" + bytes((page,))


def child_tasks_key(state: Key) -> Key:
    return state[:16] + b"n" + state[17:]


def duplicates_key(tenant: str, response_id: str) -> Key:
    return blake2b(f"{tenant}\0response\0{response_id}".encode("utf-8", "replace"), digest_size=16).digest() + b"s"


def candidates_key(tenant: str, kind: bytes, id: str) -> Key:
    """Return the key under which runs are matched: by tool call id (kind ``a``) or conversation (``c``)."""
    raw = f"{tenant}\0{kind.decode()}\0{id}".encode("utf-8", "replace")
    return blake2b(raw, digest_size=16, person=b"meeting").digest() + b"r" + kind


def linked_traces_key(domain: bytes) -> Key:
    return domain + b"l"


def seen_key(domain: bytes, id: bytes) -> Key:
    """Return the key of a reported occurrence."""
    return domain + b"o" + id


def given_key(state: Key) -> Key:
    """Return the key of the count of other tasks that took over this task's message (`Seen.at_ns`).

    The count outlives the task: a task that comes back must not write into a message that belongs to another
    now.
    """
    return state[:16] + b"o" + blake2b(state, digest_size=16, person=b"given").digest()


def span_keys(domain: bytes, span_id: bytes) -> tuple[Key, Key, Key]:
    """Return the keys of the records that the fold reads of an owning span."""
    return node_key(domain, span_id), subtree_key(domain, span_id), child_roots_key(domain, span_id)


def task_keys(state: Key) -> tuple[Key, Key, Key, Key]:
    """Return the keys of the records that the fold reads of a task."""
    return state, members_key(state), child_tasks_key(state), given_key(state)
