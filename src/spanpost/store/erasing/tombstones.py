"""Tombstones of erased traces: what a sender sends again of them is not recorded.

A tombstone is a keyed hash (BLAKE2b, by the database's key): the table alone does not show which trace was
erased. An erasure writes it under the lock of the trace's domain, in the transaction that deletes the trace's rows. A
recorder reads tombstones after it has the lock, with the records of its traces, so that no row slips in between.

The row with the empty key says when something was last erased. Recorders ask for attribute sets anew after that,
because an erasure deletes those that no row names; streams of events forget what they have read.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

#: Most tombstones that are kept; the oldest go first.
MOST: Final = 1_000_000
#: Key of the row that makes recorders forget their attribute sets.
SETS: Final = b""
_LAST: Final = "SELECT erased_at FROM erased_traces WHERE key = ''"
_WRITE: Final = """
INSERT INTO erased_traces (key) SELECT DISTINCT * FROM unnest($1::bytea[]) AS g(key) ORDER BY 1
ON CONFLICT (key) DO UPDATE SET erased_at = excluded.erased_at RETURNING erased_at"""
_BOUND: Final = """
DELETE FROM erased_traces WHERE key <> '' AND erased_at < (
  SELECT erased_at FROM erased_traces WHERE key <> '' ORDER BY erased_at DESC OFFSET $1 LIMIT 1)"""


def tombstone(domain: bytes, key: bytes) -> bytes:
    """Return the key of a trace's tombstone, from the trace's domain and the database's key."""
    # A hash that has taken the key is copied: a recorder makes one for each trace of each batch.
    made = _keyed(key).copy()
    made.update(domain)
    return made.digest()


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> blake2b:
    return blake2b(key=key, digest_size=16, person=b"erased")


def of(domains: Iterable[bytes], key: bytes) -> dict[bytes, bytes]:
    """Return domains by the keys that recorders ask for: their tombstones, and the row about attribute sets."""
    found = {SETS: SETS}
    for domain in domains:
        found[tombstone(domain, key)] = domain
    return found


async def last(connection: Any) -> datetime | None:
    """Return when something was last erased."""
    at: datetime | None = await connection.fetchval(_LAST)
    return at


async def write(connection: Any, domains: Iterable[bytes], key: bytes) -> None:
    """Write the tombstones of traces whose domains are locked."""
    await connection.fetch(_WRITE, [tombstone(domain, key) for domain in domains])


async def forget_sets(connection: Any) -> datetime:
    """Tell recorders to forget their attribute sets; return since when."""
    since: datetime = await connection.fetchval(_WRITE, [SETS])
    return since


async def bound(connection: Any, most: int = MOST) -> None:
    """Delete the oldest tombstones beyond `most`."""
    await connection.execute(_BOUND, most - 1)
