"""Values of the journal: its rows, the contents of a row, and the backlog."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spanpost.model.observations import Observation


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Request bodies of one tenant as they came, encrypted."""

    tenant: str
    #: Id of the key that decrypts it.
    key: bytes
    #: About how many observations it holds.
    observations: int
    body: bytes


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a row."""

    observations: Sequence[Observation] = ()
    #: Entries that cannot be read: where from, the error, and the beginning of each.
    unreadable: Sequence[tuple[str, str, bytes]] = ()
    #: Number of spans, records, events and points that are left out, by reason.
    dropped: dict[str, int] = {}
    #: Number of metric data points that no dialect reads.
    metric_points: int = 0
    #: Bytes of the request bodies, uncompressed.
    size: int = 0


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's waiting rows of the journal: rows, bytes, observations, age of the oldest in seconds.

    `undecryptable` of the rows have a key that the gateway does not have; `own_age` is the age of the oldest
    of the others, 0 without any.
    """

    tenant: str
    rows: int
    size: int
    observations: int
    age: float
    undecryptable: int = 0
    own_age: float = 0.0
