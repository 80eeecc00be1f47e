"""Locks on domains, held until the transaction ends: coarse for a large batch, fine for a small one.

A small batch takes an advisory lock for each domain (by hash), and its *tenant's* lock in shared mode. A
batch that touches more than `FINE` domains takes only its tenants' locks, exclusively: the server's lock table is
for some thousand locks in all. So two batches wait for each other when they touch the same domain, or when
they belong to one tenant and one of them touches very many domains.

No deadlocks: one statement takes the tenants first and then the domains, each sorted; domains found later
are tried, not waited for. A batch that can do part of its work at once tries all locks first, and waits for
the rest in a second transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from zlib import crc32

from spanpost.tasks.record_keys import is_tenant

#: More domains than this are locked by their tenants. Only a single trace has more: larger batches are split.
FINE = 512
#: First keys of the advisory locks (arbitrary, fixed); the second key is the hash of the tenant or the
#: domain.
_TENANT, _DOMAIN = 0x5350, 0x5351

_LOCK = (
    "SELECT clock_timestamp(), count(CASE WHEN NOT is_fine THEN pg_advisory_xact_lock($1, key)::text"
    " WHEN key < 0 THEN pg_advisory_xact_lock_shared($1, -1 - key)::text ELSE pg_advisory_xact_lock($2, key)::text END)"
    " FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)
#: Takes the free locks and returns the others. Trying does not wait, so the order cannot cause a deadlock.
_TRY_LOCK = (
    "SELECT clock_timestamp(), array_agg(key) FILTER (WHERE NOT CASE WHEN NOT is_fine THEN "
    "pg_try_advisory_xact_lock($1, key) WHEN key < 0 THEN pg_try_advisory_xact_lock_shared($1, -1 - key) ELSE "
    "pg_try_advisory_xact_lock($2, key) END) FROM unnest($3::int4[], $4::boolean[]) AS given(key, is_fine)"
)


async def lock(connection: Any, domains: Iterable[bytes]) -> datetime:
    """Lock domains and their tenants (`record_keys.tenant_key`) until the transaction ends.

    Return the time after that.
    """
    known = set(domains)
    now: datetime = await connection.fetchval(_LOCK, *_keys(known, is_fine=is_few(known)))
    return now


async def lock_tenants(connection: Any, tenants: Iterable[bytes]) -> None:
    """Wait for all recorders of these tenants (`record_keys.tenant_key`); hold others until the transaction ends."""
    await connection.fetchval(_LOCK, *_keys(set(tenants), is_fine=False))


async def lock_free(connection: Any, domains: set[bytes]) -> tuple[datetime, set[bytes]]:
    """Lock the free ones of at most `FINE` domains.

    Return the database's time and the domains that others hold. Never wait for those in the same
    transaction, which could deadlock: start a new one.
    """
    now, refused = await connection.fetchrow(_TRY_LOCK, *_keys(domains, is_fine=True))
    taken = set(refused or ())
    return now, {domain for domain in domains if taken and _fine(domain) in taken}


async def try_lock(connection: Any, locked: set[bytes], domains: set[bytes]) -> bool:
    """Lock further domains.

    False when another transaction has one of them, or they are too many for fine locks.
    """
    is_fine = is_few(locked)
    more = {domain for domain in domains - locked if is_fine or is_tenant(domain)}
    if not more:
        return True
    if is_fine and not is_few(locked | more):
        return False  # the restart locks their tenants
    _, refused = await connection.fetchrow(_TRY_LOCK, *_keys(more, is_fine=is_fine))
    return not refused


def is_few(domains: Collection[bytes]) -> bool:
    """Return whether domains are few enough to be locked one by one."""
    return len(domains) <= FINE or sum(not is_tenant(domain) for domain in domains) <= FINE


def _keys(domains: set[bytes], *, is_fine: bool) -> tuple[int, int, list[int], list[bool]]:
    tenants = {_fine(domain) for domain in domains if is_tenant(domain)}
    if not is_fine:
        return _TENANT, _DOMAIN, sorted(-1 - key for key in tenants), [False] * len(tenants)
    # The tenants first, and then the domains.
    keys = sorted(tenants) + sorted({_fine(domain) for domain in domains if not is_tenant(domain)})
    return _TENANT, _DOMAIN, keys, [True] * len(keys)


def _fine(domain: bytes) -> int:
    """Return the key of a fine lock: 31 bits of a hash; negative for a tenant, whose lock is shared."""
    found = crc32(domain) >> 1
    return -1 - found if is_tenant(domain) else found
