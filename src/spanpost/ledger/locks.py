"""Locks on domains, until the transaction ends: few and coarse for a large batch, fine for a small one.

A domain's lock is its own (an advisory lock by its hash), taken together with its *stripe* (one of 1,024), shared. Who
touches more than `FINE` domains takes their stripes alone, exclusively: the server has room for some thousand locks in all.
So two batches wait for each other where they touch the same domain, or one of them touches very many.

Stripes come first and domains after them, each sorted, in one statement; what is found out later to be touched too is tried,
not waited for. So nobody deadlocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zlib import crc32

STRIPES = 1024
#: More domains than this are locked by their stripes: of one trace alone, else the ledger takes a batch in parts.
FINE = 512
#: First keys of the advisory locks (arbitrary, fixed); the second are the stripe and the domain's hash.
_STRIPE, _DOMAIN = 0x5350, 0x5351

_LOCK = (
    "SELECT clock_timestamp(), count(CASE WHEN NOT is_fine THEN pg_advisory_xact_lock($1, key)::text"
    " WHEN key < 0 THEN pg_advisory_xact_lock_shared($1, -1 - key)::text ELSE pg_advisory_xact_lock($2, key)::text END)"
    " FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)
#: Whether some of the locks could not be had at once. Who does not wait cannot deadlock, whatever the order.
_TRY_LOCK = (
    "SELECT bool_or(NOT CASE WHEN NOT is_fine THEN pg_try_advisory_xact_lock($1, key)"
    " WHEN key < 0 THEN pg_try_advisory_xact_lock_shared($1, -1 - key) ELSE pg_try_advisory_xact_lock($2, key) END)"
    " FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)


async def lock(connection: Any, domains: Iterable[bytes]) -> datetime:
    """Lock domains until the transaction ends; return the database's time, once they are held."""
    known = set(domains)
    now: datetime = await connection.fetchval(_LOCK, *_keys(known, is_fine=len(known) <= FINE))
    return now


async def try_lock(connection: Any, locked: set[bytes], domains: set[bytes]) -> bool:
    """Lock further domains beside those that are; False when somebody else has them, or they are too many for fine locks."""
    more = domains - locked
    if not more:
        return True
    is_fine = len(locked) <= FINE
    if is_fine and len(locked) + len(more) > FINE:
        return False  # begun anew with all of them, stripes are locked
    return not await connection.fetchval(_TRY_LOCK, *_keys(more, is_fine=is_fine))


def _keys(domains: set[bytes], *, is_fine: bool) -> tuple[int, int, list[int], list[bool]]:
    hashes = {crc32(domain) for domain in domains}
    stripes = sorted({found % STRIPES for found in hashes})
    if not is_fine:
        return _STRIPE, _DOMAIN, stripes, [False] * len(stripes)
    # A stripe to be shared is told by a negative key; a domain's hash keeps 31 bits.
    fine = sorted({found >> 1 for found in hashes})
    keys = [-1 - stripe for stripe in stripes] + fine
    return _STRIPE, _DOMAIN, keys, [True] * len(keys)
