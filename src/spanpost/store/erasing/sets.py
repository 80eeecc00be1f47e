"""Attribute sets that only erased rows named.

A recorder uses the sets that it learned. So recorders are first made to forget them (`tombstones.forget_sets`), under
the locks of all tenants concerned, which waits for those under way. A set that was asked for since stays.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from spanpost.store.erasing import tombstones
from spanpost.store.locks import lock_tenants
from spanpost.tasks.record_keys import tenant_key

_TENANTS: Final = "SELECT DISTINCT tenant FROM attribute_sets WHERE id = ANY($1::bigint[])"
_UNNAMED: Final = """
SELECT s.id FROM attribute_sets s WHERE s.id = ANY($1::bigint[])
  AND NOT EXISTS (SELECT FROM audit_rows r WHERE r.set_id = s.id)"""
_DROP: Final = """
DELETE FROM attribute_sets s WHERE s.id = ANY($1::bigint[]) AND s.used_at < $2
  AND NOT EXISTS (SELECT FROM audit_rows r WHERE r.set_id = s.id)"""


async def drop(connection: Any, named: Collection[int]) -> int:
    """Delete those of these sets that no row names any more; return how many."""
    unnamed = [row[0] for row in await connection.fetch(_UNNAMED, list(named))] if named else []
    if not unnamed:
        return 0
    async with connection.transaction():
        tenants = [row[0] for row in await connection.fetch(_TENANTS, unnamed)]
        await lock_tenants(connection, map(tenant_key, tenants))
        since = await tombstones.forget_sets(connection)
    return int((await connection.execute(_DROP, unnamed, since)).rpartition(" ")[2])
