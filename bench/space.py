"""Size of a span in the database: bytes by table and by index, rows and WAL, after `spanpost run` recorded a
load.

    python bench/space.py [--spans 20000] [--system] [--load whole|split|stacked|strangers|mixed] [--slices 10] [--wal]

A PostgreSQL of its own for each load. Sizes are those of the files when every span is committed, dead rows
included; rows are those that can be read. WAL is given without the whole pages that PostgreSQL writes once
after each checkpoint, and beside it with them: how many those are depends on how often there is a
checkpoint. With `--slices` a load is sent in equal parts and each has a row: speed, and the gateway's
memory. `--wal` divides the WAL by kind of record (PostgreSQL 15 or newer).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
from gateway import Running, offer
from options import parse, postgres
from stages import batches

from spanpost.store.sql.schema import upgrade

#: Tables with their partitions: rows, then the bytes of the table (with TOAST) and of each index.
_SIZES = """
WITH tables AS (
  SELECT c.oid, coalesce(
    (SELECT p.inhparent::regclass::text FROM pg_inherits p WHERE p.inhrelid = c.oid), c.oid::regclass::text
  ) AS name
  FROM pg_class c
  WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname NOT LIKE 'floor%'
)
SELECT t.name, '' AS index, sum(pg_table_size(t.oid))::float8 AS bytes FROM tables t GROUP BY 1
UNION ALL
SELECT t.name, coalesce(
    (SELECT p.inhparent::regclass::text FROM pg_inherits p WHERE p.inhrelid = i.indexrelid),
    i.indexrelid::regclass::text
  ),
  sum(pg_relation_size(i.indexrelid))::float8 FROM tables t JOIN pg_index i ON i.indrelid = t.oid GROUP BY 1, 2
ORDER BY 1, 2"""
_WAL = "SELECT pg_current_wal_insert_lsn()::text AS lsn, wal_bytes::float8 AS bytes, wal_fpi AS pages FROM pg_stat_wal"
_KINDS = """
SELECT "resource_manager/record_type" AS kind, count, record_size AS bytes, fpi_size AS pages
FROM pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn, true) WHERE count > 0 ORDER BY record_size DESC LIMIT 14"""
_PAGE = 8192


async def recorded(connection: Any) -> None:
    """Wait until the journal is empty."""
    for _ in range(6000):
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM journal)"):
            return
        await asyncio.sleep(0.02)
    raise SystemExit("the journal is not empty after two minutes")


async def wal(connection: Any) -> tuple[str, float, int]:
    await asyncio.sleep(1.2)  # a process reports its WAL to the others once a second
    lsn, total, pages = await connection.fetchrow(_WAL)
    return lsn, total, pages


async def measure(dsn: str, gateway: Running, load: str, asked: argparse.Namespace) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CHECKPOINT")
    before = {(name, index): size for name, index, size in await connection.fetch(_SIZES)}
    lsn, wal_before, pages_before = await wal(connection)
    per, sent = asked.spans // asked.slices, 0
    for number in range(asked.slices):
        bodies = batches(load, per, asked.batch, 1 + number)
        began, cpu = time.perf_counter(), gateway.cpu
        await asyncio.to_thread(offer, [gateway.port], bodies, asked.connections, False)
        sent += per
        await recorded(connection)
        took = time.perf_counter() - began
        if asked.slices > 1:
            print(
                f"{load}: {sent:,} spans, {per / took:,.0f} spans/s, {(gateway.cpu - cpu) / per * 1e6:.0f} µs a span, "
                f"{gateway.memory('VmRSS'):.0f} MiB",
                flush=True,
            )
    until, wal_after, pages_after = await wal(connection)
    print(f"\n{load}: {sent:,} spans in bodies of {asked.batch}; bytes a span\n")
    print("| table | rows a span | all | table | indexes |")
    print("|---|---|---|---|---|")
    found: dict[str, dict[str, float]] = {}
    for name, index, size in await connection.fetch(_SIZES):
        found.setdefault(name, {})[index] = (size - before.get((name, index), 0)) / sent
    total = 0.0
    for name, sizes in sorted(found.items(), key=lambda item: -sum(item[1].values())):
        all_bytes = sum(sizes.values())
        total += all_bytes
        if all_bytes >= 1:
            rows = await connection.fetchval(f"SELECT count(*) FROM {name}")
            indexes = ", ".join(f"{index} {size:.0f}" for index, size in sizes.items() if index and size >= 0.5)
            print(f"| {name} | {rows / sent:.3f} | {all_bytes:.0f} | {sizes['']:.0f} | {indexes} |")
    pages = (pages_after - pages_before) * _PAGE / sent
    written = (wal_after - wal_before) / sent
    print(f"| all | | {total:.0f} | | |")
    tasks, events = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM agent_tasks), (SELECT count(*) FROM agent_events)"
    )
    sessions = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    print(
        f"\n{total * sent / max(1, tasks):,.0f} bytes a task ({sent / max(1, tasks):.1f} spans), "
        f"{total * sent / max(1, events):,.0f} an audit row; "
        f"{gateway.memory('VmHWM'):.0f} MiB of the gateway at most; {sessions - 1} connections"
    )
    print(
        f"\nWAL: {written:.0f} bytes a span, of them about {min(pages, written):.0f} whole pages after a checkpoint\n",
        flush=True,
    )
    if asked.wal:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        for row in await connection.fetch(_KINDS, lsn, until):
            print(
                f"  {row['kind']:28} {row['count'] / sent:6.2f} records, {int(row['bytes']) / sent:6.0f} bytes, "
                f"{int(row['pages']) / sent:6.0f} of pages"
            )
    await connection.close()


def main(asked: argparse.Namespace) -> None:
    for load in asked.load:
        with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
            asyncio.run(upgrade(dsn))
            gateway = Running(dsn, Path(home) / "0", 0, asked.setting)
            try:
                asyncio.run(measure(dsn, gateway, load, asked))
            finally:
                gateway.stop()


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--spans", type=int, default=20_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--connections", type=int, default=4)
    asker.add_argument("--slices", type=int, default=1)
    asker.add_argument("--load", action="append", choices=("whole", "split", "stacked", "strangers", "mixed"))
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asker.add_argument("--wal", action="store_true", help="tell what the WAL is made of, by kind of record")
    asker.add_argument(
        "--setting", action="append", default=[], help="NAME=VALUE, a setting of the gateway by its variable"
    )
    asked = parse(asker, {"spans": 400, "batch": 50})
    asked.load = asked.load or (["whole"] if asked.small else ["whole", "split", "stacked"])
    main(asked)
