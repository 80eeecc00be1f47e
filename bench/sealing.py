"""Sealing: rows a second, the lag behind a running load, and what recording pays.

    python bench/sealing.py [--rows 1000000] [--spans 50000] [--batch 512] [--rounds 3] [--system]

Recording: the same spans into a database as it is, and into one without the column and the indexes by which the sealer
finds rows, batch by batch in turn. Sealing: copies of the rows make up the number; a sealer in a process of its own
(nice 10, as the gateway starts it) seals them while spans are recorded. The ratios are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import loads
from options import parse, postgres

from spanpost.model.observations import Observation
from spanpost.receivers.decode import decode_traces
from spanpost.settings.sealing import SealingSettings
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.verifying import verify
from spanpost.store.sql.schema import upgrade

_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
WHERE attrelid = 'audit_rows'::regclass AND attnum > 0
  AND attname NOT IN ('event_id', 'content_hash', 'written_in')"""
_SIZES = """
SELECT c.relname, pg_total_relation_size(c.oid)::int8 FROM pg_class c
WHERE c.relname = ANY(ARRAY['sealed_rows', 'seal_entries', 'seal_tiles'])"""
_UNSEALED = "SELECT EXISTS (SELECT FROM audit_rows WHERE written_in >= (SELECT sealed_before FROM seal_state))"
_WITHOUT = (
    "ALTER TABLE audit_rows DROP COLUMN written_in",
    "ALTER TABLE human_interventions DROP COLUMN written_in",
)


def batches(spans: int, size: int, seed: int) -> list[list[Observation]]:
    """Return batches of observations."""
    found = loads.agents(spans, seed, time.time_ns())
    return [decode_traces(loads.body(part)).observations for part in loads.whole(found, size)]


async def recording(dsn: str, bare: str, asked: argparse.Namespace) -> None:
    """Compare recording with what the sealer needs, and without."""
    stores = [PostgresStore(dsn), PostgresStore(bare)]
    connection = await asyncpg.connect(bare)
    for statement in _WITHOUT:
        await connection.execute(statement)
    await connection.close()
    for store in stores:
        await store.open()
    ratios, cpu = [], []
    for number in range(asked.rounds):
        took = [0.0, 0.0]
        spent = [0.0, 0.0]
        for at, batch in enumerate(batches(asked.spans, asked.batch, number)):
            for which in (0, 1) if at % 2 else (1, 0):
                began, own = time.perf_counter(), time.process_time()
                await stores[which].record(batch)
                took[which] += time.perf_counter() - began
                spent[which] += time.process_time() - own
        ratios.append(took[0] / took[1])
        cpu.append(spent[0] / spent[1])
    for store in stores:
        await store.close()
    print(
        f"recording with what the sealer needs: {statistics.median(ratios):.3f} times the time of recording without"
        f" ({', '.join(f'{each:.3f}' for each in ratios)}); processor time of the process {statistics.median(cpu):.3f}"
    )


async def sealing(dsn: str, asked: argparse.Namespace) -> None:
    """Seal rows while spans are recorded."""
    store = PostgresStore(dsn)
    await store.open()
    connection = await asyncpg.connect(dsn)
    own = await connection.fetchval("SELECT count(*) FROM audit_rows")
    await connection.execute("CREATE TEMP TABLE first AS SELECT * FROM audit_rows")
    columns = await connection.fetchval(_COLUMNS)
    for _ in range(max(0, asked.rows // own - 1)):
        await connection.execute(
            f"INSERT INTO audit_rows (event_id, content_hash, {columns})"
            f" SELECT gen_random_uuid(), (random() * 9e18)::bigint, {columns} FROM first"
        )
    await connection.execute("VACUUM ANALYZE")
    rows = await connection.fetchval("SELECT count(*) FROM audit_rows")
    given = batches(asked.spans, asked.batch, 77)
    alone = [await timed(store, batch) for batch in given[: len(given) // 3]]
    section = SealingSettings(enabled=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spanpost.runtime.sealing", stdin=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    begun = {
        "dsn": dsn,
        "key": base64.b64encode(os.urandom(32)).decode(),
        "is_file": False,
        "sealing": section.model_dump(mode="json", exclude={"key"}),
    }
    began = time.perf_counter()
    child.stdin.write(json.dumps(begun).encode() + b"\n")
    await child.stdin.drain()
    beside, at = [], 0
    while await connection.fetchval("SELECT coalesce(sum(size), 0)::int8 FROM seal_logs") < rows:
        beside.append(await timed(store, given[len(given) // 3 + at % (2 * len(given) // 3)]))
        at += 1
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    lags = []
    for batch in batches(asked.spans // 10, asked.batch, 99):
        await store.record(batch)
        lags.append(await lag(connection))
    child.kill()
    await child.wait()
    again = [await timed(store, batch) for batch in given[: len(given) // 3]]
    calm = statistics.median(alone + again)
    print(f"sealed {rows:,} rows in {took:.0f} s beside recording: {rows / took:,.0f} rows a second")
    ratio = statistics.median(beside) / calm
    print(f"a batch beside the sealer: {ratio:.2f} times its time without ({len(beside)} batches)")
    print(f"lag after a batch, seconds: median {statistics.median(lags):.1f}, worst {max(lags):.1f}")
    leaves = await connection.fetchval("SELECT sum(size)::int8 FROM seal_logs")
    for name, size in await connection.fetch(_SIZES):
        print(f"{name}: {size / leaves:.0f} bytes a row")
    began = time.perf_counter()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await verify(connection)
    print(f"verified {found.leaves:,} leaves in {time.perf_counter() - began:.0f} s, {len(found.findings)} findings")
    await connection.close()
    await store.close()


async def timed(store: PostgresStore, batch: list[Observation]) -> float:
    began = time.perf_counter()
    await store.record(batch)
    return time.perf_counter() - began


async def lag(connection: Any) -> float:
    """Wait until all rows have leaves; return the seconds."""
    began = time.perf_counter()
    is_waiting = True
    while is_waiting:
        is_waiting = await connection.fetchval(_UNSEALED)
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def second(dsn: str) -> str:
    """Make a second database on the same server; return its URL."""
    connection = await asyncpg.connect(dsn)
    name = f"bare_{os.getpid()}"
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


def main(asked: argparse.Namespace) -> None:
    with postgres(asked) as dsn:
        bare = asyncio.run(second(dsn))
        for each in (dsn, bare):
            asyncio.run(upgrade(each))
        asyncio.run(recording(dsn, bare, asked))
        asyncio.run(sealing(dsn, asked))


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--rows", type=int, default=1_000_000)
    asker.add_argument("--spans", type=int, default=50_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--rounds", type=int, default=3, help="rounds of recording in both databases")
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    main(parse(asker, {"rows": 3000, "spans": 1000, "batch": 50, "rounds": 1}))
