"""Archiving: rows a second, bytes in PostgreSQL and in Parquet, the cost on recording, and queries of archives.

    python bench/archive.py [--rows 1000000] [--spans 50000] [--batch 512] [--share 0.25] [--alone] [--sealed]
        [--system]

Spans of agents (`loads.agents`) are recorded 300 days ago; copies of their audit rows with other ids and times make up
the number of rows. Then the same spans are recorded anew, batch by batch, while an archive is written in a process of
its own (nice 10, as the gateway does it) and before and after that: the ratio is that of one run. With `--sealed` the
rows have leaves in the sealed log, and the files are verified with it afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import loads
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from options import parse, postgres

from spanpost.model.observations import Observation
from spanpost.receivers.decode import decode_traces
from spanpost.settings.retention import RetentionSettings
from spanpost.store.archiving import listing, querying
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.sealer import Sealer
from spanpost.store.sealing.verifying import verify
from spanpost.store.sql.schema import upgrade

AGO = timedelta(days=300)
_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
WHERE attrelid = 'audit_rows'::regclass AND attnum > 0
  AND attname NOT IN ('occurred_at', 'received_at', 'event_id', 'content_hash', 'trace_id')"""
_OWNER = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'audit_rows'::regclass"
#: A copy has other ids, and its own time.
_COPY = """
INSERT INTO audit_rows (occurred_at, received_at, event_id, content_hash, trace_id, {columns})
SELECT occurred_at + $1::int * interval '3 s', received_at, gen_random_uuid(), (random() * 9e18)::bigint,
  decode(md5(encode(trace_id, 'hex') || $1::int), 'hex'), {columns} FROM first"""
_SIZE = """
SELECT sum(pg_total_relation_size(i.inhrelid))::int8, sum(pg_table_size(i.inhrelid))::int8
FROM pg_inherits i WHERE i.inhparent = 'audit_rows'::regclass"""
#: Text that a dashboard or an auditor asks for.
QUERIES = {
    "rows by name": "SELECT name, count(*) FROM audit_rows GROUP BY 1 ORDER BY 2 DESC",
    "one trace": "SELECT * FROM audit_rows WHERE trace_id = (SELECT max(trace_id) FROM audit_rows)",
    "tokens by model": "SELECT json_extract_string(attributes, '$.\"gen_ai.request.model\"') AS model, "
    "sum(json_extract_string(attributes, '$.\"gen_ai.usage.input_tokens\"')::BIGINT) FROM audit_rows GROUP BY 1",
}


def batches(spans: int, size: int, seed: int) -> list[list[Observation]]:
    """Return batches of observations."""
    found = loads.agents(spans, seed, time.time_ns())
    return [decode_traces(loads.body(part)).observations for part in loads.whole(found, size)]


async def fill(store: PostgresStore, connection: Any, asked: argparse.Namespace) -> None:
    """Record spans, make copies of their rows, and date all of them back."""
    for batch in batches(asked.spans, asked.batch, 1):
        await store.record(batch)
    await connection.execute("CREATE TEMP TABLE first AS SELECT * FROM audit_rows")
    recorded = await connection.fetchval("SELECT count(*) FROM first")
    columns = await connection.fetchval(_COLUMNS)
    month = await connection.fetchval("SELECT date_trunc('month', now() - $1::interval) + interval '1 day'", AGO)
    await connection.execute(f"SET ROLE {await connection.fetchval(_OWNER)}")
    await connection.execute("SELECT spanpost_add_month($1)", month)
    await connection.execute("RESET ROLE")
    await connection.execute(
        "UPDATE first SET occurred_at = $1::timestamptz + (occurred_at - (SELECT min(occurred_at) FROM first)),"
        " received_at = received_at - $2::interval",
        month, AGO,
    )  # fmt: skip
    await connection.execute("TRUNCATE audit_rows")
    for number in range(max(1, asked.rows // recorded)):
        await connection.execute(_COPY.format(columns=columns), number * 3600)
    for table, column in (("agent_tasks", "updated_at"), ("agent_checkpoints", "recorded_at"), ("model_usage", "at")):
        await connection.execute(f"UPDATE {table} SET {column} = {column} - $1::interval", AGO)
    await connection.execute("VACUUM ANALYZE")


async def record(store: PostgresStore, given: Sequence[list[Observation]], until: asyncio.Event | None) -> list[float]:
    """Record batches, until the event if there is one; return the seconds of each."""
    took = []
    for batch in given:
        began = time.perf_counter()
        await store.record(batch)
        took.append(time.perf_counter() - began)
        if until is not None and until.is_set():
            break
    return took


async def archive(dsn: str, directory: Path, share: float) -> dict[str, Any]:
    """Run retention as a gateway does."""
    section = RetentionSettings(directory=directory, tasks=timedelta(days=183), share=share)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spanpost.runtime.retention",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps({"dsn": dsn, "rules": section.model_dump(mode="json")}).encode() + b"\n")
    await child.stdin.drain()
    answer: dict[str, Any] = json.loads(await child.stdout.read())
    await child.wait()
    return answer


async def measure(dsn: str, directory: Path, asked: argparse.Namespace) -> None:
    store = PostgresStore(dsn)
    await store.open()
    connection = await asyncpg.connect(dsn)
    await fill(store, connection, asked)
    rows = await connection.fetchval("SELECT count(*) FROM audit_rows")
    if asked.sealed:
        await seal(connection)
    whole, table = await connection.fetchrow(_SIZE)
    given = batches(asked.spans * asked.again, asked.batch, 2)
    quiet = asked.quiet
    load = os.getloadavg()[0]
    before = await record(store, given[:quiet], None)
    ended = asyncio.Event()
    began = time.perf_counter()

    async def run() -> dict[str, Any]:
        answer = await archive(dsn, directory, asked.share)
        ended.set()
        return answer

    running = asyncio.create_task(run())
    beside = await record(store, given[quiet:-quiet] if not asked.alone else (), ended)
    answer = await running
    took = time.perf_counter() - began
    if "error" in answer:
        raise SystemExit(answer["error"])
    after = await record(store, given[-quiet:], None)
    listed = await listing.archives(connection)
    files = sum(a.size for a in listed if a.source.startswith("audit_rows"))
    print(f"load {load:.1f}; {rows:,} audit rows; {answer['rows']:,} rows archived in {took:.1f} s "
          f"(share {asked.share:g}{', alone' if asked.alone else ', beside recording'}): "
          f"{answer['rows'] / took:,.0f} rows/s\n")  # fmt: skip
    print("| bytes a row | |\n|---|---|")
    print(f"| PostgreSQL, with indexes | {whole / rows:.0f} |\n| PostgreSQL, table alone | {table / rows:.0f} |")
    print(f"| Parquet | {files / rows:.0f} (1/{whole / files:.1f}) |\n")
    median = statistics.median
    base = median(before + after)
    if beside:
        print(f"recording a batch of {asked.batch}: {base * 1000:.1f} ms without, {median(beside) * 1000:.1f} ms "
              f"beside archiving ({median(beside) / base:.2f} times; {len(beside)} batches)\n")  # fmt: skip
    print("| query of the archive | seconds |\n|---|---|")
    for name, sql in QUERIES.items():
        began = time.perf_counter()
        found = querying.query(directory, listed, sql)[1]
        print(f"| {name} ({len(found)} rows) | {time.perf_counter() - began:.2f} |")
    if asked.sealed:
        await verified(connection, directory)
    await connection.close()
    await store.close()


async def seal(connection: Any) -> None:
    """Seal all rows."""
    began = time.perf_counter()
    sealer = Sealer(connection, "bench", Ed25519PrivateKey.generate())
    while (await sealer.step()).has_more:
        pass
    await sealer.sign()
    print(f"sealed in {time.perf_counter() - began:.0f} s", file=sys.stderr)


async def verified(connection: Any, directory: Path) -> None:
    """Verify the log with its archives."""
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await verify(connection, directory=directory)
    took = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown
    assert not found.findings
    print(f"\nverified {found.leaves:,} leaves, {found.archived:,} of them in {found.archives} archives, in {took:.0f}"
          f" s ({found.leaves / took:,.0f} leaves/s; memory grew by {grown / 1024:.0f} MB)")  # fmt: skip


def main(asked: argparse.Namespace) -> None:
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        asyncio.run(measure(dsn, Path(home) / "archive", asked))


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--rows", type=int, default=1_000_000)
    asker.add_argument("--spans", type=int, default=50_000)
    asker.add_argument("--batch", type=int, default=512)
    asker.add_argument("--again", type=int, default=4, help="how many times as many spans are recorded beside it")
    asker.add_argument("--quiet", type=int, default=40, help="batches before and after it")
    asker.add_argument("--share", type=float, default=0.25, help="share of the time in which the run works")
    asker.add_argument("--sealed", action="store_true", help="seal the rows before, and verify them afterwards")
    asker.add_argument("--alone", action="store_true", help="record nothing beside it")
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    main(parse(asker, {"rows": 5000, "spans": 1000, "batch": 50, "quiet": 4, "again": 2}))
