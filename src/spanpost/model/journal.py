"""Values of the journal: its entries, the outcome of an append, and the backlog."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Observations of one request, of one tenant."""

    tenant: str
    observations: Sequence[Observation]


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an append: all entries are durable, except the refused ones."""

    #: Positions of entries that cannot be journaled: record them directly.
    refused: frozenset[int] = frozenset()
    #: Bytes of each tenant's entries in the journal.
    sizes: dict[str, int] = {}
    #: What counts at once: redacted secrets, and tasks whose process was seen again.
    recorded: Recorded


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's waiting journal entries: rows, bytes, observations, age of the oldest in seconds."""

    tenant: str
    rows: int
    size: int
    observations: int
    age: float
