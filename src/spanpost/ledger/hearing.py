"""Who is heard, in PostgreSQL: heartbeats come in, silence is found when its time has come. What it means: `fold.silence`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from spanpost.domain.observations import Observation
from spanpost.domain.tasks import Task
from spanpost.fold import silence
from spanpost.fold.batch import Folded
from spanpost.fold.routes import Routes, letters
from spanpost.fold.silence import Patience, Producer
from spanpost.ledger.rows import task_of

#: Processes that were given up this long ago are forgotten.
_KEPT = "7 days"
_COLUMNS = "key, tenant, producer, seq, at_ns, heard_at, lag, beats_every, roots, gone_at"
_READ = f"SELECT {_COLUMNS} FROM producers WHERE key = ANY($1::bytea[]) ORDER BY key"
_WRITE = """
INSERT INTO producers (key, tenant, producer, seq, at_ns, heard_at, lag, beats_every, roots, traces, gone_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)
ON CONFLICT (key) DO UPDATE SET seq = excluded.seq, at_ns = excluded.at_ns, heard_at = excluded.heard_at, lag = excluded.lag,
  beats_every = excluded.beats_every, roots = excluded.roots, traces = excluded.traces, gone_at = NULL"""
_TIMERS = """
INSERT INTO timers (key, at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[]) ON CONFLICT (key) DO NOTHING"""
_LIVING = "SELECT doc FROM agent_tasks WHERE tenant = $1 AND trace_id = ANY($2::bytea[]) AND ended_at IS NULL"
_INTERRUPTED = "SELECT doc FROM agent_tasks WHERE tenant = $1 AND trace_id = ANY($2::bytea[]) AND end_reason = 'interrupted'"
_OTHERS = """
SELECT DISTINCT unnest(traces) FROM producers WHERE gone_at IS NULL AND key <> $1 AND tenant = $2 AND traces && $3::bytea[]"""
_RESUMED = "SELECT resumed_at FROM watch"
#: Somebody listens. After an outage of ours everybody's patience begins anew.
PULSE = """
UPDATE watch SET resumed_at = CASE WHEN seen_at < clock_timestamp() - outage THEN clock_timestamp() ELSE resumed_at END,
  seen_at = clock_timestamp()
WHERE seen_at < clock_timestamp() - interval '3 s'"""
ANEW = "UPDATE watch SET resumed_at = clock_timestamp(), seen_at = clock_timestamp()"
BEARS = """
UPDATE watch SET stall = $1, call = $2, outage = $3 WHERE (stall, call, outage) IS DISTINCT FROM ($1, $2, $3)"""


async def hear(connection: Any, beats: Sequence[Observation], patience: Patience) -> list[Observation]:
    """Take heartbeats in; return the records that bring tasks back of processes that had been given up."""
    fresh = silence.newest(beats)
    keys = [silence.producer_key(b.tenant, b.producer) for b in fresh]
    # One at a time for each process, also for the first: the row to lock is not there yet.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('spanpost:' || encode(key, 'hex'), 0)) FROM unnest($1::bytea[]) AS key", keys
    )
    known = {bytes(row["key"]): _producer(row) for row in await connection.fetch(_READ, keys)}
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    back: list[Observation] = []
    timed: list[tuple[bytes, datetime]] = []
    for key, beat in zip(keys, fresh, strict=True):
        before = known.get(key)
        heard = silence.hear(before, beat, now)
        if heard is None:
            continue
        await connection.execute(_WRITE, *_row(heard))
        timed.append((key, heard.heard_at + silence.gone_after(heard, patience)))
        if before is not None and before.gone_at is not None:
            back += await returned(connection, heard)
    if timed:
        await connection.execute(_TIMERS, [key for key, _ in timed], [at for _, at in timed])
    return back


async def returned(connection: Any, producer: Producer) -> list[Observation]:
    """Return the records that bring back what was interrupted of a process that is heard."""
    rows = await connection.fetch(_INTERRUPTED, producer.tenant, sorted(producer.traces))
    others = await _others(connection, producer)
    tasks = [task for row in rows if silence.is_of(task := task_of(row[0]), producer, others)]
    return [record for task in tasks if (record := silence.revived(task, producer)) is not None]


async def _others(connection: Any, producer: Producer) -> frozenset[bytes]:
    rows = await connection.fetch(_OTHERS, producer.key, producer.tenant, sorted(producer.traces))
    return frozenset(bytes(row[0]) for row in rows)


async def overdue(connection: Any, keys: Sequence[bytes], patience: Patience) -> tuple[list[Producer], list[Observation]]:
    """Look at processes whose time has come: those that are gone and the records that interrupt their tasks; others wait on."""
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
        after = silence.gone_after(producer, patience)
        due = max(producer.heard_at, resumed) + after
        if due > now:
            await connection.execute("UPDATE timers SET at = $2 WHERE key = $1", key, due)
            continue
        others = await _others(connection, producer)
        rows = await connection.fetch(_LIVING, producer.tenant, sorted(producer.traces))
        tasks = [task for row in rows if silence.is_of(task := task_of(row[0]), producer, others)]
        silent = [record for task in tasks if (record := silence.silenced(task, producer, patience)) is not None]
        if len(silent) < len(tasks):  # something was heard of it without its heartbeats: later, then
            await connection.execute("UPDATE timers SET at = $2 WHERE key = $1", key, now + after)
        else:
            gone.append(producer)
        records += silent
    return gone, records


async def give_up(connection: Any, gone: Sequence[Producer]) -> list[Observation]:
    """Note that processes are gone, after their tasks were interrupted; return what brings tasks back of those heard meanwhile."""
    back: list[Observation] = []
    for producer in gone:
        done = await connection.fetchval(
            "UPDATE producers SET gone_at = clock_timestamp() WHERE key = $1 AND seq = $2 AND gone_at IS NULL RETURNING true",
            producer.key,
            producer.seq,
        )
        if done:
            await connection.execute("DELETE FROM timers WHERE key = $1", producer.key)
            continue
        for row in await connection.fetch(_READ, [producer.key]):
            if row["gone_at"] is None:
                back += await returned(connection, _producer(row))
    await connection.execute(f"DELETE FROM producers WHERE gone_at < clock_timestamp() - interval '{_KEPT}'")
    return back


async def watch_tasks(connection: Any, tasks: Sequence[Task], started: Sequence[UUID], patience: Patience) -> None:
    """Have tasks looked at for silence: those that began, and those that began once more."""
    new = set(started)
    uids = sorted({t.uid.bytes for t in tasks if t.ended_at is None and (t.uid in new or t.segments > 1)})
    if uids and not patience.is_endless:
        await connection.execute(
            "INSERT INTO timers (key, at) SELECT key, clock_timestamp() + $2 FROM unnest($1::bytea[]) AS key"
            " ON CONFLICT (key) DO NOTHING",
            [silence.stall_key(uid) for uid in uids],
            patience.stall,
        )


async def look(connection: Any, keys: Sequence[bytes], patience: Patience, routes: Routes) -> Folded:
    """Look at tasks whose time has come; return what is told of those that fell silent."""
    out = Folded()
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    due = await connection.fetch("DELETE FROM timers WHERE key = ANY($1::bytea[]) AND at <= $2 RETURNING key", list(keys), now)
    uids = [UUID(bytes=bytes(row[0])[:16]) for row in due]
    rows = await connection.fetch(
        "SELECT t.doc, spanpost_phase(t) AS phase, spanpost_heard(t) AS heard_at, root.doc AS root, spanpost_phase(root) AS root_phase"
        " FROM agent_tasks t JOIN agent_tasks root ON root.uid = coalesce(t.root_uid, t.uid)"
        " WHERE t.uid = ANY($1::uuid[]) AND t.ended_at IS NULL ORDER BY t.uid",
        uids,
    )
    timed: list[tuple[bytes, datetime]] = []
    for row in rows:
        task, root = (
            silence.now_shown(task_of(row["doc"]), row["phase"]),
            silence.now_shown(task_of(row["root"]), row["root_phase"]),
        )
        timed.append((silence.stall_key(task.uid.bytes), silence.look_again(row["heard_at"], now, patience)))
        if task.rule != "silence":
            continue
        told = silence.stalled(task, row["heard_at"], patience)
        if await connection.fetchval("SELECT true FROM agent_checkpoints WHERE id = $1", told.id):
            continue
        out.tasks.append(task)
        out.checkpoints.append(told)
        out.letters.extend(letters(task, told, routes, root=root, now=now))
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
        heard_at=row["heard_at"],
        lag=row["lag"],
        interval=row["beats_every"],
        roots=roots,
        gone_at=row["gone_at"],
    )


def _row(p: Producer) -> tuple[Any, ...]:
    roots = [trace + span for trace, span in p.roots]
    return p.key, p.tenant, p.producer, p.seq, p.at_ns, p.heard_at, p.lag, p.interval, roots, sorted(p.traces)


def shown(doc: bytes, phase: str) -> Task:
    """Return a task as it was written, under its status of now."""
    return silence.now_shown(task_of(doc), phase)
