"""What belongs to no task: quarantine, the journal, alerts, and everything else of a whole tenant."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import msgspec

from spanpost.store.erasing.author import Author
from spanpost.store.erasing.columns import TABLES
from spanpost.store.erasing.selection import Selection, Trees

#: Rows of one transaction.
_AT_ONCE: Final = 5_000
_PAUSE: Final = 0.25
#: Rows without a task that a time range selects, by the column of their time.
_OF_TIME: Final = {
    "quarantine": "first_at",
    "alerts": "starts_at",
    "launch_orders": "at",
    "provider_limits": "last_at",
    "evaluations": "at",
}
_IN_RANGE: Final = """
FROM {table} WHERE ($1::text IS NULL OR tenant = $1) AND ($2::timestamptz IS NULL OR {column} >= $2)
  AND ($3::timestamptz IS NULL OR {column} < $3)"""
_QUARANTINED: Final = "SELECT id, tenant, bytes FROM quarantine"
#: Tables of a tenant that hold none of its content: the record of the erasure, and the sealed log's hashes, by which it
#: is proven. Archives are deleted by `archives`.
_KEPT: Final = ("erasures", "archives", "sealed_rows")
_SOME: Final = """
DELETE FROM {table} WHERE tenant = $1 AND ({key}) IN (SELECT {key} FROM {table} WHERE tenant = $1 LIMIT {most})
RETURNING {key}"""
_JOURNAL: Final = "SELECT coalesce(max(id), 0) FROM journal"
_WAITS: Final = "SELECT EXISTS (SELECT FROM journal WHERE id <= $1)"


async def counted(connection: Any, asked: Selection, trees: Trees) -> Counter[str]:
    """Return how many further rows would go, by table."""
    found = Counter({"quarantine": len(await _quarantined(connection, trees))})
    if asked.is_whole_tenant:
        for table in _of_tenant():
            # Rows of tasks are counted with the trees.
            task = TABLES[table].task or "NULL::uuid"
            where = f"tenant = $1 AND NOT coalesce({task} = ANY($2::uuid[]), false)"
            query = f"SELECT count(*) FROM {table} WHERE {where}"
            found[table] += await connection.fetchval(query, asked.tenant, list(trees.uids))
    elif _is_of_time(asked):
        for table, column in _OF_TIME.items():
            query = f"SELECT count(*) {_IN_RANGE.format(table=table, column=column)}"
            found[table] += await connection.fetchval(query, asked.tenant, asked.since, asked.until)
    return +found


async def erase(connection: Any, asked: Selection, trees: Trees, author: Author) -> Counter[str]:
    """Delete what belongs to no task."""
    done: Counter[str] = Counter()
    ids = await _quarantined(connection, trees)
    if ids:
        await connection.execute("DELETE FROM quarantine WHERE id = ANY($1::bigint[])", ids)
    done["quarantine"] = len(ids)
    if asked.is_whole_tenant:
        for table in _of_tenant():
            done[table] += await _all_of(connection, table, asked.tenant or "", author)
    elif _is_of_time(asked):
        for table, column in _OF_TIME.items():
            query = f"DELETE {_IN_RANGE.format(table=table, column=column)}"
            tag = await connection.execute(query, asked.tenant, asked.since, asked.until)
            done[table] += int(tag.rpartition(" ")[2])
    return +done


def _is_of_time(asked: Selection) -> bool:
    return "range" in asked.kinds and not {"task", "person", "also"} & set(asked.kinds)


def _of_tenant() -> list[str]:
    return [
        name
        for name, table in TABLES.items()
        if "tenant" in table.columns and name not in _KEPT and not name.startswith("seal_")
    ]


async def _all_of(connection: Any, table: str, tenant: str, author: Author) -> int:
    """Delete all rows of a tenant, some thousand in a transaction."""
    count = 0
    only = " AND mode <> 'erase'" if table == "deliveries" else ""
    statement = _SOME.format(table=table, key=", ".join(TABLES[table].key), most=_AT_ONCE)
    statement = statement.replace("tenant = $1", f"tenant = $1{only}")
    while True:
        async with connection.transaction():
            rows = await connection.fetch(statement, tenant)
            if table == "audit_rows":
                await author.erased_rows(connection, tenant, [(row[0], row[1], row[2]) for row in rows])
            elif table == "human_interventions":
                await author.erased_acts(connection, tenant, [row[0] for row in rows])
        count += len(rows)
        if len(rows) < _AT_ONCE:
            return count


async def _quarantined(connection: Any, trees: Trees) -> list[int]:
    """Return the quarantined observations of erased traces."""
    if not trees.traces:
        return []
    found = []
    async with connection.transaction():
        async for row in connection.cursor(_QUARANTINED, prefetch=100):
            try:
                held = msgspec.msgpack.decode(row["bytes"])
            except msgspec.DecodeError:
                continue
            if isinstance(held, dict) and (row["tenant"], held.get("trace_id")) in trees.traces:
                found.append(row["id"])
    return found


async def newest_in_journal(connection: Any) -> int:
    """Return the newest row of the journal: requests that are answered and not recorded yet."""
    newest: int = await connection.fetchval(_JOURNAL)
    return newest


async def waits_in_journal(connection: Any, newest: int, longest: float) -> bool:
    """Wait until the journal up to a row is recorded; True when there was something, so that a round must follow.

    Only a gateway can decrypt these bodies: without one that runs, they wait.
    """
    waited = False
    for _ in range(int(longest / _PAUSE)):
        if not await connection.fetchval(_WAITS, newest):
            return waited
        waited = True
        await asyncio.sleep(_PAUSE)
    return False
