"""The letters: put, claimed, settled, listed.

A *lane* is the unit of order. Its row is locked by whoever puts, claims or settles one of its letters, always before the
letters themselves, and lanes in the order of their keys; a claim skips lanes that somebody else has. While a letter is under
way its lane is leased, on the database's clock; a lease that ran out is taken over, and its letter is then marked unsure.

Within a lane the state goes first until it was delivered once (news needs a message to hang below), then news in the order
in which it was put, then the state. A lane has one row of state: a newer one counts its revision up, and what is newer than
what was claimed is sent after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Delivery, Mode, Receipt, Urgency
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold.letters import Letter
from spanpost.fold.mend import mend_text
from spanpost.ledger.base import DeliveryRow
from spanpost.ledger.rows import CHECKPOINT_COLUMNS, checkpoint_of, json_text, task_of

RANK = {Urgency.APPROVAL: 0, Urgency.END: 1, Urgency.ERROR: 2, Urgency.NORMAL: 3}
_ROW = "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::uuid[], $8::uuid[])"
_GIVEN = f"FROM {_ROW} WITH ORDINALITY AS g(sink, address, lane, key, urgency, rank, task_uid, checkpoint_id, i)"
_TENANT = "coalesce((SELECT t.tenant FROM agent_tasks t WHERE t.uid = g.task_uid), 'default')"

_LANES = """
INSERT INTO lanes AS known (sink, lane, due_at, rank)
SELECT sink, lane, now(), rank FROM unnest($1::text[], $2::text[], $3::int2[]) AS g(sink, lane, rank)
ON CONFLICT (sink, lane) DO UPDATE
SET due_at = least(known.due_at, excluded.due_at),
    rank = CASE WHEN known.due_at IS NULL THEN excluded.rank ELSE least(known.rank, excluded.rank) END"""
_NEWS = f"""
INSERT INTO deliveries (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, checkpoint_id, born_at)
SELECT {_TENANT}, sink, address, lane, 'news', key, urgency, rank, task_uid, checkpoint_id, clock_timestamp() {_GIVEN} ORDER BY i
ON CONFLICT (sink, key) WHERE mode = 'news' DO NOTHING"""
_STATE = f"""
INSERT INTO deliveries AS known (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, checkpoint_id, born_at)
SELECT {_TENANT}, sink, address, lane, 'state', key, urgency, rank, task_uid, checkpoint_id, clock_timestamp() {_GIVEN} ORDER BY i
ON CONFLICT (sink, lane) WHERE mode = 'state' DO UPDATE
SET revision = known.revision + 1, address = excluded.address, key = excluded.key, task_uid = excluded.task_uid,
    urgency = CASE WHEN known.state = 'waiting' AND known.rank < excluded.rank THEN known.urgency ELSE excluded.urgency END,
    rank = CASE WHEN known.state = 'waiting' THEN least(known.rank, excluded.rank) ELSE excluded.rank END,
    state = CASE WHEN known.state = 'sending' THEN 'sending' ELSE 'waiting' END,
    attempt = CASE WHEN known.state IN ('delivered', 'dead') THEN 0 ELSE known.attempt END,
    born_at = CASE WHEN known.state IN ('delivered', 'dead') THEN excluded.born_at ELSE known.born_at END,
    not_before = CASE WHEN known.state IN ('delivered', 'dead') THEN NULL ELSE known.not_before END,
    error = CASE WHEN known.state IN ('delivered', 'dead') THEN '' ELSE known.error END"""

_OF_LANE = """
SELECT d.id, d.not_before, d.rank FROM deliveries d
WHERE d.sink = l.sink AND d.lane = l.lane AND d.state = 'waiting'
ORDER BY CASE WHEN d.mode = 'news' THEN 1 WHEN l.receipt IS NULL THEN 0 ELSE 2 END, d.id"""
#: Brings the lanes named by $1, $2 up to date: when each has something to deliver, and how urgent.
_REFRESH = f"""
UPDATE lanes AS target SET due_at = coalesce(head.not_before, CASE WHEN head.id IS NOT NULL THEN now() END),
  rank = coalesce(head.most, 3)
FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane
LEFT JOIN LATERAL (
  SELECT first.*, (SELECT min(d.rank) FROM deliveries d WHERE d.sink = l.sink AND d.lane = l.lane AND d.state = 'waiting') AS most
  FROM ({_OF_LANE} LIMIT 1) AS first
) AS head ON true
WHERE target.sink = l.sink AND target.lane = l.lane"""

_PICK = """
SELECT sink, lane, receipt::text FROM lanes
WHERE sink = ANY($1::text[]) AND due_at <= clock_timestamp() AND (lease_until IS NULL OR lease_until <= clock_timestamp())
ORDER BY rank, due_at, sink, lane LIMIT $2 FOR UPDATE SKIP LOCKED"""
_TAKE_OVER = """
UPDATE deliveries d SET state = 'waiting', unsure = true, owner = NULL, lease_until = NULL
FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
WHERE d.sink = g.sink AND d.lane = g.lane AND d.state = 'sending'"""
_CLAIM = f"""
UPDATE deliveries AS claimed
SET state = 'sending', attempt = attempt + 1, owner = $3, lease_until = clock_timestamp() + $4::interval,
    claimed_revision = revision
FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane
CROSS JOIN LATERAL ({_OF_LANE} LIMIT 1) AS head
WHERE claimed.id = head.id AND (head.not_before IS NULL OR head.not_before <= clock_timestamp())
RETURNING claimed.id, claimed.tenant, claimed.sink, claimed.address, claimed.lane, claimed.mode, claimed.key, claimed.urgency,
  claimed.task_uid, claimed.checkpoint_id, claimed.attempt, claimed.unsure, claimed.born_at, claimed.not_before,
  claimed.receipt::text, claimed.lease_until, l.rank AS lane_rank"""
_LEASE = """
UPDATE lanes SET lease_until = g.until FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS g(sink, lane, until)
WHERE lanes.sink = g.sink AND lanes.lane = g.lane"""

_TASKS = """
SELECT asked.uid, t.doc FROM unnest($1::uuid[]) AS asked(uid)
LEFT JOIN task_redirects r ON r.uid = asked.uid
JOIN agent_tasks t ON t.uid = coalesce((SELECT own.uid FROM agent_tasks own WHERE own.uid = asked.uid), r.merged_into)"""
_BELOW = "SELECT root_uid, doc FROM agent_tasks WHERE root_uid = ANY($1::uuid[]) AND uid <> root_uid ORDER BY started_at, uid"

_FENCE = """
SELECT id, revision > claimed_revision AS is_behind FROM deliveries
WHERE id = $1 AND owner = $2 AND attempt = $3 AND state = 'sending' FOR UPDATE"""
_DELIVERED = """
UPDATE deliveries SET state = CASE WHEN $3 THEN 'waiting' ELSE 'delivered' END, attempt = CASE WHEN $3 THEN 0 ELSE attempt END,
  born_at = CASE WHEN $3 THEN clock_timestamp() ELSE born_at END, receipt = coalesce($2::text::jsonb, receipt), unsure = false,
  reason = '', error = '', not_before = NULL, owner = NULL, lease_until = NULL, settled_at = clock_timestamp()
WHERE id = $1"""
_LATER = """
UPDATE deliveries SET state = 'waiting', not_before = clock_timestamp() + $2::interval, reason = $3, error = $4,
  unsure = unsure OR $5, owner = NULL, lease_until = NULL, settled_at = clock_timestamp()
WHERE id = $1"""
_DEAD = """
UPDATE deliveries SET state = 'dead', reason = $2, error = $3, owner = NULL, lease_until = NULL, settled_at = clock_timestamp()
WHERE id = $1"""
_WITHDRAW = "DELETE FROM deliveries WHERE checkpoint_id = ANY($1::uuid[]) AND state = 'waiting'"
_OF_NOTHING = """
UPDATE deliveries SET state = 'dead', error = 'what it told of is no more', reason = 'gone', owner = NULL, lease_until = NULL
WHERE id = ANY($1::bigint[])"""
_LANE_RECEIPT = "UPDATE lanes SET receipt = $3::text::jsonb WHERE sink = $1 AND lane = $2"
_LIST = """
SELECT d.id, d.sink, d.address, d.lane, d.mode, d.state, coalesce(t.task_id, '') AS task_id, coalesce(c.kind, 'state') AS kind,
  d.attempt, d.born_at, d.not_before, d.error
FROM deliveries d
LEFT JOIN task_redirects r ON r.uid = d.task_uid
LEFT JOIN agent_tasks t ON t.uid = coalesce(r.merged_into, d.task_uid)
LEFT JOIN agent_checkpoints c ON c.id = d.checkpoint_id
WHERE ($1::text IS NULL OR d.state = $1) AND ($2::text IS NULL OR d.sink = $2)
ORDER BY d.id LIMIT $3"""


async def put(connection: Any, letters: Sequence[Letter], retracted: Sequence[UUID]) -> int:
    """Put letters into their lanes; return how many were new. News that was taken back and not yet sent is withdrawn."""
    newest: dict[tuple[str, str], Letter] = {}
    for letter in letters:
        at = (letter.sink, letter.lane if letter.mode is Mode.STATE else "\0" + letter.key)
        before = newest.get(at)
        if before is not None and RANK[before.urgency] < RANK[letter.urgency]:
            letter = msgspec.structs.replace(letter, urgency=before.urgency)
        newest[at] = letter
    lanes: dict[tuple[str, str], int] = {}
    for letter in newest.values():
        lane = (letter.sink, letter.lane)
        lanes[lane] = min(lanes.get(lane, 3), RANK[letter.urgency])
    if lanes:
        ordered = sorted(lanes)
        await connection.execute(_LANES, *_columns(ordered), [lanes[lane] for lane in ordered])
    count = 0
    for statement, mode in ((_NEWS, Mode.NEWS), (_STATE, Mode.STATE)):
        chosen = [x for x in newest.values() if x.mode is mode]
        if chosen:
            columns = [
                [x.sink for x in chosen], [x.address for x in chosen], [x.lane for x in chosen], [x.key for x in chosen],
                [x.urgency.value for x in chosen], [RANK[x.urgency] for x in chosen], [x.task_uid for x in chosen],
                [x.checkpoint_id for x in chosen],
            ]  # fmt: skip
            count += _affected(await connection.execute(statement, *columns))
    if retracted:
        await connection.execute(_WITHDRAW, list(retracted))
    return count


async def claim(connection: Any, sinks: Sequence[str], limit: int, owner: UUID, lease: timedelta) -> list[Delivery]:
    """Lease the first letter of each lane that is due, most urgent lanes first."""
    picked = await connection.fetch(_PICK, list(sinks), limit)
    if not picked:
        return []
    receipts = {(row[0], row[1]): _receipt(row[2]) for row in picked}
    lanes = sorted(receipts)
    await connection.execute(_TAKE_OVER, *_columns(lanes))
    rows = await connection.fetch(_CLAIM, *_columns(lanes), owner, lease)
    await connection.execute(_LEASE, *_columns([(r["sink"], r["lane"]) for r in rows]), [r["lease_until"] for r in rows])
    deliveries = await _deliveries(connection, rows, receipts)
    lost = [r["id"] for r in rows if r["id"] not in {d.id for d in deliveries}]
    if lost:
        await connection.execute(
            _OF_NOTHING,
            lost,
        )
        freed = [(r["sink"], r["lane"]) for r in rows if r["id"] in lost]
        await connection.execute(_LEASE, *_columns(freed), [None] * len(freed))
    await connection.execute(_REFRESH, *_columns(lanes))
    return deliveries


async def _deliveries(connection: Any, rows: Sequence[Any], receipts: dict[tuple[str, str], Receipt | None]) -> list[Delivery]:
    uids = list({r["task_uid"] for r in rows})
    tasks: dict[UUID, Task] = {uid: task_of(doc) for uid, doc in await connection.fetch(_TASKS, uids)}
    children: dict[UUID, list[Task]] = {}
    for root_uid, doc in await connection.fetch(_BELOW, [t.uid for t in tasks.values()]):
        children.setdefault(root_uid, []).append(task_of(doc))
    told: dict[UUID, Checkpoint] = {}
    ids = [r["checkpoint_id"] for r in rows if r["checkpoint_id"] is not None]
    if ids:
        for row in await connection.fetch(f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints WHERE id = ANY($1::uuid[])", ids):
            told[row["id"]] = checkpoint_of(row)
    out = []
    for r in sorted(rows, key=lambda r: (r["lane_rank"], r["id"])):
        task, checkpoint = tasks.get(r["task_uid"]), told.get(r["checkpoint_id"])
        if task is None or (r["mode"] == Mode.NEWS and checkpoint is None):
            continue
        out.append(
            Delivery(
                id=r["id"],
                tenant=r["tenant"],
                sink=r["sink"],
                address=r["address"],
                lane=r["lane"],
                mode=Mode(r["mode"]),
                key=r["key"],
                urgency=Urgency(r["urgency"]),
                task=task,
                children=tuple(children.get(task.uid, ())),
                checkpoint=checkpoint,
                attempt=r["attempt"],
                is_unknown=r["unsure"],
                born_at=r["born_at"],
                not_before=r["not_before"],
                lane_receipt=receipts[r["sink"], r["lane"]],
                receipt=_receipt(r["receipt"]),
            )
        )
    return out


async def settle(connection: Any, delivery: Delivery, outcome: Outcome, owner: UUID) -> bool:
    """Write down what became of a claimed letter; False when its lease was lost to another, and nothing was written."""
    lane = ([delivery.sink], [delivery.lane])
    await connection.execute("SELECT FROM lanes WHERE sink = $1 AND lane = $2 FOR UPDATE", delivery.sink, delivery.lane)
    held = await connection.fetchrow(_FENCE, delivery.id, owner, delivery.attempt)
    if held is None:
        return False
    match outcome:
        case Receipt():
            is_kept = bool(outcome.ref) or not outcome.skipped
            receipt = json_text(outcome) if is_kept else None
            is_behind = delivery.mode is Mode.STATE and held["is_behind"]
            await connection.execute(_DELIVERED, delivery.id, receipt, is_behind)
            if is_kept and delivery.mode is Mode.STATE:
                await connection.execute(_LANE_RECEIPT, delivery.sink, delivery.lane, receipt)
        case RetryAt():
            # A moment of the caller's clock becomes a distance, so that clocks that differ change nothing.
            wait = max(outcome.at - datetime.now(UTC), timedelta(0))
            reason, error = _clean(outcome.reason), _clean(outcome.error or outcome.reason)
            await connection.execute(_LATER, delivery.id, wait, reason, error, outcome.reconcile)
        case GiveUp():
            await connection.execute(_DEAD, delivery.id, _clean(outcome.reason), _clean(outcome.error or outcome.reason))
    await connection.execute(_LEASE, *lane, [None])
    await connection.execute(_REFRESH, *lane)
    return True


async def listed(connection: Any, state: str | None, sink: str | None, limit: int) -> list[DeliveryRow]:
    """List letters, oldest first."""
    return [DeliveryRow(**dict(row)) for row in await connection.fetch(_LIST, state, sink, limit)]


async def revive(connection: Any, ids: Sequence[int] | None, sink: str | None) -> int:
    """Set dead letters waiting again."""
    rows = await connection.fetch(
        "UPDATE deliveries SET state = 'waiting', attempt = 0, not_before = NULL, born_at = clock_timestamp()"
        " WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR sink = $2) RETURNING sink, lane",
        list(ids) if ids is not None else None,
        sink,
    )
    return await _changed(connection, rows)


async def give_up(connection: Any, ids: Sequence[int]) -> int:
    """Bury waiting letters by hand."""
    rows = await connection.fetch(
        "UPDATE deliveries SET state = 'dead', error = 'buried by hand', reason = 'buried'"
        " WHERE state = 'waiting' AND id = ANY($1::bigint[]) RETURNING sink, lane",
        list(ids),
    )
    return await _changed(connection, rows)


async def _changed(connection: Any, rows: Iterable[Any]) -> int:
    lanes = [(row[0], row[1]) for row in rows]
    await connection.execute(_REFRESH, *_columns(sorted(set(lanes))))
    return len(lanes)


def _columns(lanes: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [sink for sink, _ in lanes], [lane for _, lane in lanes]


def _receipt(text: str | None) -> Receipt | None:
    return msgspec.json.decode(text, type=Receipt) if text is not None else None


def _affected(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


def _clean(text: str) -> str:
    return mend_text(text, 4000)[0]
