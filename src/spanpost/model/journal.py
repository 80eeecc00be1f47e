"""What goes into the journal, and what waits there."""

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
    """The outcome of an append: all entries are durable but the refused ones."""

    #: Positions of entries that cannot be journaled: they are to be recorded directly.
    refused: frozenset[int] = frozenset()
    #: Bytes that each tenant's entries take in the journal.
    sizes: dict[str, int] = {}
    #: Secrets that were taken out, and tasks whose process was heard again: what is counted at once.
    recorded: Recorded


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in the journal of one tenant: rows, their bytes and observations, and the age of the oldest in seconds."""

    tenant: str
    rows: int
    size: int
    observations: int
    age: float
