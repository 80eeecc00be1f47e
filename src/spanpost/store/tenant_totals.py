"""What each tenant has stored and open in PostgreSQL. One process at a time measures it into `tenant_totals`.

Each table with a column `tenant` counts, as for row policies: the stored size of the tenant's rows, and of the indexes
in proportion. The space of deleted rows counts for none: it is used again. Of a large table only some pages are read
(`_PAGES`), at random. Tables without a tenant, such as the state of traces, count for none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from spanpost.model.tenant_limits import FORGOTTEN, TenantStorage
from spanpost.semconv import ALERT
from spanpost.store import row_policies
from spanpost.store.transactions import Transact

#: Pages of a table that are read: 200 MB, 250,000 wide rows.
_PAGES: Final = 25_000
#: First key of the advisory lock of the process that measures (arbitrary, fixed); the second is the schema's.
_LOCK: Final = 0x5352
_TURN: Final = f"""
SELECT pg_try_advisory_xact_lock({_LOCK}, hashtext(current_schema())) AND NOT EXISTS (
  SELECT FROM tenant_totals WHERE measured_at > clock_timestamp() - $1::interval)"""
#: Sizes of a table with its partitions: all of it; without indexes; and the pages with its rows.
_SIZE: Final = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::int8, coalesce(sum(pg_table_size(relid)), 0)::int8,
  coalesce(sum(pg_relation_size(relid)), 0)::int8
FROM (SELECT relid FROM pg_partition_tree($1::text::regclass) UNION SELECT $1::text::regclass) AS whole"""
_COLUMNS: Final = """
SELECT attname, attlen FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"""
_MAY_READ: Final = "SELECT has_table_privilege($1::text, 'SELECT')"
_PAGE_SIZE: Final = "SELECT current_setting('block_size')::int8"
#: A row's head, about.
_HEAD: Final = 28
_KEEP: Final = """
INSERT INTO tenant_totals (tenant, rows, bytes, measured_at)
SELECT tenant, rows, bytes, clock_timestamp() FROM unnest($1::text[], $2::int8[], $3::int8[]) AS t(tenant, rows, bytes)
ON CONFLICT (tenant) DO UPDATE SET rows = excluded.rows, bytes = excluded.bytes, measured_at = excluded.measured_at"""
_FORGET: Final = "DELETE FROM tenant_totals WHERE tenant <> ALL ($1::text[])"
_STORED: Final = "SELECT tenant, rows, bytes AS size FROM tenant_totals ORDER BY tenant"
_OPEN: Final = f"""
FROM agent_tasks WHERE status NOT IN ('complete', 'error', 'cancelled')
  AND last_seen_at > clock_timestamp() - $1::interval
  AND NOT (type IS NOT DISTINCT FROM '{ALERT}' AND agent_name IS NULL)"""
_OPEN_TASKS: Final = f"SELECT tenant, count(*) {_OPEN} GROUP BY tenant"
_OPEN_TRACES: Final = f"SELECT DISTINCT trace_id {_OPEN} AND tenant = $2 AND trace_id IS NOT NULL"


class PostgresTenantTotals:
    """`TenantTotals` of one database."""

    def __init__(self, run: Transact) -> None:
        self._run = run

    async def measure(self, every: timedelta) -> bool:
        """Measure what each tenant has stored. See `TenantTotals.measure`."""

        async def work(connection: Any) -> bool:
            if not await connection.fetchval(_TURN, every):
                return False
            rows: dict[str, float] = {}
            sizes: dict[str, float] = {}
            page = await connection.fetchval(_PAGE_SIZE)
            for table in await row_policies.tables(connection):
                if table != "tenant_totals" and await connection.fetchval(_MAY_READ, table):
                    await _add(connection, table, page, rows, sizes)
            tenants = sorted(rows)
            counted = [round(rows[tenant]) for tenant in tenants], [round(sizes[tenant]) for tenant in tenants]
            await connection.execute(_KEEP, tenants, *counted)
            await connection.execute(_FORGET, tenants)
            return True

        return await self._run(work)

    async def stored(self) -> list[TenantStorage]:
        """Return what was last measured."""
        return [TenantStorage(**dict(row)) for row in await self._run(lambda c: c.fetch(_STORED))]

    async def open_tasks(self) -> dict[str, int]:
        """Count the open tasks of each tenant."""
        return {row[0]: row[1] for row in await self._run(lambda c: c.fetch(_OPEN_TASKS, FORGOTTEN))}

    async def open_traces(self, tenant: str) -> frozenset[bytes]:
        """Return the traces of a tenant's open tasks."""
        found = await self._run(lambda c: c.fetch(_OPEN_TRACES, FORGOTTEN, tenant))
        return frozenset(row[0] for row in found)


async def _add(connection: Any, table: str, page: int, rows: dict[str, float], sizes: dict[str, float]) -> None:
    """Add what each tenant has in one table."""
    whole, table_size, pages = await connection.fetchrow(_SIZE, table)
    if not pages:
        return
    share = min(_PAGES * page / pages, 1.0)
    sample = f" TABLESAMPLE SYSTEM ({100 * share})" if share < 1.0 else ""
    columns = await connection.fetch(_COLUMNS, table)
    fixed = _HEAD + sum(row["attlen"] for row in columns if row["attlen"] > 0)
    # Of a value that is stored apart this is its stored size; it is not read.
    sized = [f'coalesce(pg_column_size("{row["attname"]}"), 0)' for row in columns if row["attlen"] < 0]
    weight = " + ".join([str(fixed), *sized])
    found = await connection.fetch(f'SELECT tenant, count(*), sum({weight})::int8 FROM "{table}"{sample} GROUP BY 1')
    for tenant, count, weighed in found:
        if tenant is None:  # a token of no tenant
            continue
        rows[tenant] = rows.get(tenant, 0.0) + count / share
        sizes[tenant] = sizes.get(tenant, 0.0) + weighed / share * whole / table_size
