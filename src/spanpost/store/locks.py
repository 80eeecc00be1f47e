"""Locks on domains, until the transaction ends: few and coarse for a large batch, fine for a small one.

A domain's lock is its own (an advisory lock by its hash), taken together with its *tenant's* lock, shared. Who touches more than
`FINE` domains takes the locks of its tenants alone, exclusively: the server has room for some thousand locks in all. So two
batches wait for each other where they touch the same domain, or where they are of one tenant and one of them touches very many.

Tenants come first and domains after them, each sorted, in one statement; what is found out later to be touched too is tried,
not waited for. So nobody deadlocks. Whoever can do part of its work sooner tries them all first, and waits for the rest in a transaction of
its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from zlib import crc32

from spanpost.tasks.records import is_tenant

#: More domains than this are locked by their tenants: of one trace alone, else the store takes a batch in parts.
FINE = 512
#: First keys of the advisory locks (arbitrary, fixed); the second are the tenant's and the domain's hash.
_TENANT, _DOMAIN = 0x5350, 0x5351

_LOCK = (
    "SELECT clock_timestamp(), count(CASE WHEN NOT is_fine THEN pg_advisory_xact_lock($1, key)::text"
    " WHEN key < 0 THEN pg_advisory_xact_lock_shared($1, -1 - key)::text ELSE pg_advisory_xact_lock($2, key)::text END)"
    " FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)
#: Which of the locks somebody else has; the others are held from now on. Who does not wait cannot deadlock, whatever the order.
_TRY_LOCK = (
    "SELECT clock_timestamp(), array_agg(key) FILTER (WHERE NOT CASE WHEN NOT is_fine THEN pg_try_advisory_xact_lock($1, key)"
    " WHEN key < 0 THEN pg_try_advisory_xact_lock_shared($1, -1 - key) ELSE pg_try_advisory_xact_lock($2, key) END)"
    " FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)


async def lock(connection: Any, domains: Iterable[bytes]) -> datetime:
    """Lock domains, and their tenants with them (`records.tenant_key`), until the transaction ends; return the database's time then."""
    known = set(domains)
    now: datetime = await connection.fetchval(_LOCK, *_keys(known, is_fine=is_few(known)))
    return now


async def lock_free(connection: Any, domains: set[bytes]) -> tuple[datetime, set[bytes]]:
    """Lock those of at most `FINE` domains that nobody else has; return the database's time, and the domains that others have.

    Who then waits for those deadlocks with others: it is for what begins anew.
    """
    now, refused = await connection.fetchrow(_TRY_LOCK, *_keys(domains, is_fine=True))
    taken = set(refused or ())
    return now, {domain for domain in domains if taken and _fine(domain) in taken}


async def try_lock(connection: Any, locked: set[bytes], domains: set[bytes]) -> bool:
    """Lock further domains beside those that are; False when somebody else has them, or they are too many for fine locks."""
    is_fine = is_few(locked)
    more = {domain for domain in domains - locked if is_fine or is_tenant(domain)}
    if not more:
        return True
    if is_fine and not is_few(locked | more):
        return False  # begun anew with all of them, their tenants are locked
    _, refused = await connection.fetchrow(_TRY_LOCK, *_keys(more, is_fine=is_fine))
    return not refused


def is_few(domains: Collection[bytes]) -> bool:
    """Tell whether domains are locked one by one."""
    return len(domains) <= FINE or sum(not is_tenant(domain) for domain in domains) <= FINE


def _keys(domains: set[bytes], *, is_fine: bool) -> tuple[int, int, list[int], list[bool]]:
    tenants = {_fine(domain) for domain in domains if is_tenant(domain)}
    if not is_fine:
        return _TENANT, _DOMAIN, sorted(-1 - key for key in tenants), [False] * len(tenants)
    # The tenants first, and then the domains.
    keys = sorted(tenants) + sorted({_fine(domain) for domain in domains if not is_tenant(domain)})
    return _TENANT, _DOMAIN, keys, [True] * len(keys)


def _fine(domain: bytes) -> int:
    """Return the key of a fine lock, 31 bits of a hash; that of a tenant, which is shared, is negative."""
    found = crc32(domain) >> 1
    return -1 - found if is_tenant(domain) else found
