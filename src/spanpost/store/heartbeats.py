"""Heartbeats in PostgreSQL: record them, find stalled processes and tasks (rules: `tasks.stall`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from spanpost.model.observations import Observation
from spanpost.model.tasks import Task
from spanpost.routing.routes import Routes, deliveries
from spanpost.store.rows import task_of
from spanpost.tasks import stall
from spanpost.tasks.folded import Folded
from spanpost.tasks.stall import Producer, StallRules

#: Rows of processes are deleted this long after they were declared gone.
_KEPT = "7 days"
_COLUMNS = "key, tenant, producer, seq, at_ns, last_seen_at, lag, heartbeat_interval, roots, gone_at"
_READ = f"SELECT {_COLUMNS} FROM processes WHERE key = ANY($1::bytea[]) ORDER BY key"
_WRITE = """
INSERT INTO processes (key, tenant, producer, seq, at_ns, last_seen_at, lag, heartbeat_interval, roots, traces, gone_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)
ON CONFLICT (key) DO UPDATE SET seq = excluded.seq, at_ns = excluded.at_ns, last_seen_at = excluded.last_seen_at,
  lag = excluded.lag,
  heartbeat_interval = excluded.heartbeat_interval, roots = excluded.roots, traces = excluded.traces, gone_at = NULL"""
_TIMERS = """
INSERT INTO timers (key, at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[]) ON CONFLICT (key) DO NOTHING"""
_LIVING = "SELECT doc FROM agent_tasks WHERE tenant = $1 AND trace_id = ANY($2::bytea[]) AND ended_at IS NULL"
_INTERRUPTED = (
    "SELECT doc FROM agent_tasks WHERE tenant = $1 AND trace_id = ANY($2::bytea[]) AND end_reason = 'interrupted'"
)
_OTHERS = """
SELECT DISTINCT unnest(traces) FROM processes
WHERE gone_at IS NULL AND key <> $1 AND tenant = $2 AND traces && $3::bytea[]"""
_RESUMED = "SELECT resumed_at FROM heartbeats"
#: Notes that the receiver runs. After an outage of the receiver, every stall timeout restarts.
RECEIVER_RUNS = """
UPDATE heartbeats
SET resumed_at = CASE WHEN seen_at < clock_timestamp() - outage THEN clock_timestamp() ELSE resumed_at END,
  seen_at = clock_timestamp()
WHERE seen_at < clock_timestamp() - interval '3 s'"""
RESTART = "UPDATE heartbeats SET resumed_at = clock_timestamp(), seen_at = clock_timestamp()"
SET_RULES = """
UPDATE heartbeats SET stall = $1, call = $2, outage = $3 WHERE (stall, call, outage) IS DISTINCT FROM ($1, $2, $3)"""


async def record(connection: Any, beats: Sequence[Observation], stall_rules: StallRules) -> list[Observation]:
    """Record heartbeats.

    Return the records that resume interrupted tasks of processes that were declared gone.
    """
    fresh = stall.newest(beats)
    keys = [stall.producer_key(b.tenant, b.producer) for b in fresh]
    # An advisory lock per process: for its first heartbeat there is no row to lock yet.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('spanpost:' || encode(key, 'hex'), 0))"
        " FROM unnest($1::bytea[]) AS key",
        keys,
    )
    known = {bytes(row["key"]): _producer(row) for row in await connection.fetch(_READ, keys)}
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    back: list[Observation] = []
    timed: list[tuple[bytes, datetime]] = []
    for key, beat in zip(keys, fresh, strict=True):
        before = known.get(key)
        producer = stall.hear(before, beat, now)
        if producer is None:
            continue
        await connection.execute(_WRITE, *_row(producer))
        timed.append((key, producer.last_seen_at + stall.gone_after(producer, stall_rules)))
        if before is not None and before.gone_at is not None:
            back += await returned(connection, producer)
    if timed:
        await connection.execute(_TIMERS, [key for key, _ in timed], [at for _, at in timed])
    return back


async def returned(connection: Any, producer: Producer) -> list[Observation]:
    """Return the records that resume the interrupted tasks of a process that sends again."""
    rows = await connection.fetch(_INTERRUPTED, producer.tenant, sorted(producer.traces))
    others = await _others(connection, producer)
    tasks = [task for row in rows if stall.is_of(task := task_of(row[0]), producer, others)]
    return [record for task in tasks if (record := stall.revived(task, producer)) is not None]


async def _others(connection: Any, producer: Producer) -> frozenset[bytes]:
    rows = await connection.fetch(_OTHERS, producer.key, producer.tenant, sorted(producer.traces))
    return frozenset(bytes(row[0]) for row in rows)


async def check_processes(
    connection: Any, keys: Sequence[bytes], stall_rules: StallRules
) -> tuple[list[Producer], list[Observation]]:
    """Check processes whose timers are due.

    Return those that are gone and the records that interrupt their tasks. Timers of the others are set to
    their next check.
    """
    gone: list[Producer] = []
    records: list[Observation] = []
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    resumed: datetime = await connection.fetchval(_RESUMED)
    found = {bytes(row["key"]): _producer(row) for row in await connection.fetch(_READ, list(keys))}
    for key in keys:
        producer = found.get(key)
        if producer is None or producer.gone_at is not None:
            await connection.execute("DELETE FROM timers WHERE key = $1", key)
            continue
        after = stall.gone_after(producer, stall_rules)
        due = max(producer.last_seen_at, resumed) + after
        if due > now:
            await connection.execute("UPDATE timers SET at = $2 WHERE key = $1", key, due)
            continue
        others = await _others(connection, producer)
        rows = await connection.fetch(_LIVING, producer.tenant, sorted(producer.traces))
        tasks = [task for row in rows if stall.is_of(task := task_of(row[0]), producer, others)]
        stalled = [record for task in tasks if (record := stall.silenced(task, producer, stall_rules)) is not None]
        if len(stalled) < len(tasks):  # telemetry of a task arrived without heartbeats: check again later
            await connection.execute("UPDATE timers SET at = $2 WHERE key = $1", key, now + after)
        else:
            gone.append(producer)
        records += stalled
    return gone, records


async def give_up(connection: Any, gone: Sequence[Producer]) -> list[Observation]:
    """Mark processes as gone, after their tasks were interrupted.

    Return the records that resume tasks of processes that sent a heartbeat meanwhile.
    """
    back: list[Observation] = []
    for producer in gone:
        done = await connection.fetchval(
            "UPDATE processes SET gone_at = clock_timestamp()"
            " WHERE key = $1 AND seq = $2 AND gone_at IS NULL RETURNING true",
            producer.key,
            producer.seq,
        )
        if done:
            await connection.execute("DELETE FROM timers WHERE key = $1", producer.key)
            continue
        for row in await connection.fetch(_READ, [producer.key]):
            if row["gone_at"] is None:
                back += await returned(connection, _producer(row))
    await connection.execute(f"DELETE FROM processes WHERE gone_at < clock_timestamp() - interval '{_KEPT}'")
    return back


async def watch_tasks(connection: Any, tasks: Sequence[Task], started: Sequence[UUID], stall_rules: StallRules) -> None:
    """Set stall timers for open tasks that started in this batch or have been resumed."""
    new = set(started)
    uids = sorted({t.uid.bytes for t in tasks if t.ended_at is None and (t.uid in new or t.runs > 1)})
    if uids and not stall_rules.is_endless:
        await connection.execute(
            "INSERT INTO timers (key, at) SELECT key, clock_timestamp() + $2 FROM unnest($1::bytea[]) AS key"
            " ON CONFLICT (key) DO NOTHING",
            [stall.stall_key(uid) for uid in uids],
            stall_rules.stall_after,
        )


async def check_tasks(connection: Any, keys: Sequence[bytes], stall_rules: StallRules, routes: Routes) -> Folded:
    """Check tasks whose stall timers are due.

    Return the checkpoints and deliveries of those that have stalled.
    """
    out = Folded()
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    due = await connection.fetch(
        "DELETE FROM timers WHERE key = ANY($1::bytea[]) AND at <= $2 RETURNING key", list(keys), now
    )
    uids = [UUID(bytes=bytes(row[0])[:16]) for row in due]
    rows = await connection.fetch(
        "SELECT t.doc, spanpost_phase(t) AS phase, spanpost_last_active(t) AS last_active_at, root.doc AS root, "
        "spanpost_phase(root) AS root_phase FROM agent_tasks t JOIN agent_tasks root ON root.uid = "
        "coalesce(t.root_uid, t.uid) WHERE t.uid = ANY($1::uuid[]) AND t.ended_at IS NULL ORDER BY t.uid",
        uids,
    )
    timed: list[tuple[bytes, datetime]] = []
    for row in rows:
        task, root = (
            stall.now_shown(task_of(row["doc"]), row["phase"]),
            stall.now_shown(task_of(row["root"]), row["root_phase"]),
        )
        timed.append((stall.stall_key(task.uid.bytes), stall.next_check_at(row["last_active_at"], now, stall_rules)))
        if task.rule != "stall":
            continue
        checkpoint = stall.stalled(task, row["last_active_at"], stall_rules)
        if await connection.fetchval("SELECT true FROM agent_checkpoints WHERE id = $1", checkpoint.id):
            continue
        out.tasks.append(task)
        out.checkpoints.append(checkpoint)
        out.deliveries.extend(deliveries(task, checkpoint, routes, root=root, now=now))
    if timed:
        await connection.execute(_TIMERS, [key for key, _ in timed], [at for _, at in timed])
    return out


def _producer(row: Any) -> Producer:
    roots = tuple((bytes(root)[:16], bytes(root)[16:]) for root in row["roots"])
    return Producer(
        tenant=row["tenant"],
        producer=row["producer"],
        seq=row["seq"],
        at_ns=row["at_ns"],
        last_seen_at=row["last_seen_at"],
        lag=row["lag"],
        interval=row["heartbeat_interval"],
        roots=roots,
        gone_at=row["gone_at"],
    )


def _row(p: Producer) -> tuple[Any, ...]:
    roots = [trace + span for trace, span in p.roots]
    return p.key, p.tenant, p.producer, p.seq, p.at_ns, p.last_seen_at, p.lag, p.interval, roots, sorted(p.traces)


def shown(doc: bytes, phase: str) -> Task:
    """Decode a task and apply its status as of now (`spanpost_phase`)."""
    return stall.now_shown(task_of(doc), phase)
