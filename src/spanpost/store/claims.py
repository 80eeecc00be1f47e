"""Claim deliveries as far as their rate limits allow, and record their outcomes.

A claim is one transaction:
1. Read which sorts of call wait (sink, address, call, urgency): few, however many ordering keys there are.
2. Leave out sorts whose rate limits are closed.
3. Lock the rows of the most urgent ordering keys of the other sorts and read the first delivery of each.
4. Read what these deliveries show: all dispatchers wait at the buckets, so nothing is read while they are locked.
5. Lock the buckets and draw in order of urgency. An ordering key that gets nothing stays as it was.

Locks are taken in one order everywhere: ordering keys, deliveries, buckets by key. Ordering keys that
another transaction has locked are skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from spanpost.model.deliveries import Delivery, Mode, RateLimit, RateLimits, Receipt, SinkCall
from spanpost.model.outcomes import GiveUp, Outcome, RetryAt
from spanpost.model.tasks import Task
from spanpost.routing import claiming, delivery_states, rate_limiting
from spanpost.routing.bucket_levels import BucketLevels
from spanpost.routing.claiming import Claimed
from spanpost.routing.delivery_states import URGENT, OutboxEntry
from spanpost.routing.launch_orders import blank_task
from spanpost.routing.message_owner import last, ordering_keys_of
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.routing.routes import Routes
from spanpost.store import claim_subjects, delivery_rows, ordering_key_rows
from spanpost.store import rate_limit_rows as bucket_rows
from spanpost.store.claim_subjects import Subjects
from spanpost.store.delivery_rows import COLUMNS
from spanpost.store.steady_clock import steady_now

#: Ordering keys of a sort beyond the calls left, and times as many of all sorts: others may have locked the first.
SPARE, WIDER = 4, 4

#: The sorts of call that wait, each with when its first is due: a loose scan of the index of due ordering keys.
_SORTS = """
WITH RECURSIVE sort AS (
  (SELECT sink, address, call, rank, due_at FROM ordering_keys WHERE due_at IS NOT NULL
    ORDER BY sink, address, call, rank, due_at LIMIT 1)
  UNION ALL
  SELECT following.* FROM sort CROSS JOIN LATERAL (
    SELECT l.sink, l.address, l.call, l.rank, l.due_at FROM ordering_keys l
    WHERE l.due_at IS NOT NULL AND (l.sink, l.address, l.call, l.rank) > (sort.sink, sort.address, sort.call, sort.rank)
    ORDER BY l.sink, l.address, l.call, l.rank, l.due_at LIMIT 1
  ) AS following
)
SELECT sink, address, call, rank, due_at, clock_timestamp() AS now FROM sort"""
_PICK = f"""
WITH best AS MATERIALIZED (
  SELECT found.sink, found.ordering_key, found.rank, found.due_at
  FROM unnest($1::text[], $2::text[], $3::text[], $4::int2[], $5::int4[]) AS sort(sink, address, call, rank, most)
  CROSS JOIN LATERAL (
    SELECT l.sink, l.ordering_key, l.rank, l.due_at FROM ordering_keys l
    WHERE l.sink = sort.sink AND l.address = sort.address AND l.call = sort.call AND l.rank = sort.rank
      AND l.due_at <= $6 AND (l.lease_until IS NULL OR l.lease_until <= $6)
    ORDER BY l.due_at LIMIT sort.most
  ) AS found
  ORDER BY found.rank, found.due_at LIMIT $7 * {WIDER}
)
SELECT l.sink, l.ordering_key, l.rank, l.address, l.call, l.receipt::text, l.lease_until IS NOT NULL AS is_expired
FROM best JOIN ordering_keys l USING (sink, ordering_key)
WHERE l.due_at <= $6 AND (l.lease_until IS NULL OR l.lease_until <= $6)
ORDER BY l.rank, l.due_at, l.sink, l.ordering_key LIMIT $7 FOR UPDATE OF l SKIP LOCKED"""
_SENDING = f"""
SELECT {COLUMNS} FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
JOIN deliveries d ON d.sink = g.sink AND d.ordering_key = g.ordering_key WHERE d.state = 'sending' FOR UPDATE OF d"""
#: Locks the ordering key and returns whether a plain success would change one of the buckets.
_OPEN = f"""
SELECT EXISTS (SELECT FROM rate_limits WHERE key = ANY($3::text[]) AND ({bucket_rows.TROUBLED}))
FROM ordering_keys WHERE sink = $1 AND ordering_key = $2 FOR UPDATE"""
_HELD = f"SELECT {COLUMNS}, clock_timestamp() AS now FROM deliveries d WHERE d.id = $1 FOR UPDATE"


async def claim(
    connection: Any,
    sinks: Sequence[str],
    limit: int,
    owner: UUID,
    lease: timedelta,
    rate_limits: RateLimits,
    routes: Routes,
) -> tuple[list[Delivery], list[int]]:
    """Lease the first delivery of each due ordering key that has calls left, most urgent first.

    Also return the ids of checkpoint deliveries under an ordering key whose message is not their task's and
    was never sent. The caller moves them (`takeovers.plan_moves`) in another transaction, because that locks
    other ordering keys.
    """
    sorts = [sort for sort in await connection.fetch(_SORTS) if sort["sink"] in sinks and sort["due_at"] <= sort["now"]]
    if not sorts:
        return [], []
    now: datetime = sorts[0]["now"]
    limits = {at: rate_limits(*at) for at in {_at(sort) for sort in sorts}}
    known = await bucket_rows.read(connection, {b.key for found in limits.values() for b in found})
    levels = BucketLevels(known, now)
    left = [levels.left(limits[_at(sort)], is_urgent=sort["rank"] < URGENT) for sort in sorts]
    able = [(sort, count) for sort, count in zip(sorts, left, strict=True) if count > 0]
    in_turn = rate_limiting.in_turn([(sort["due_at"], limits[_at(sort)]) for sort, _ in able], known)
    # The best ordering keys are of the sorts whose first is among as many best: a thousand channels are not read.
    some = (limit + SPARE) * WIDER
    best = heapq.nsmallest(some, (able[i] for i in in_turn), key=lambda one: (one[0]["rank"], one[0]["due_at"]))
    chosen = [
        (sort["sink"], sort["address"], sort["call"], sort["rank"], min(count, limit) + SPARE) for sort, count in best
    ]
    if not chosen:
        return [], []
    picked = await connection.fetch(_PICK, *(list(column) for column in zip(*chosen, strict=True)), now, limit + SPARE)
    if not picked:
        return [], []
    ordering_keys = {(row["sink"], row["ordering_key"]): row for row in picked}
    expired = [at for at, row in ordering_keys.items() if row["is_expired"]]
    if expired:
        sending = await connection.fetch(_SENDING, *ordering_key_rows.columns(expired))
        entries = [delivery_states.expire(delivery_rows.entry_of(row)) for row in sending]
        await delivery_rows.write(connection, entries)
        await ordering_key_rows.free(connection, expired)
    entries = await ordering_key_rows.first(connection, ordering_keys, now)
    first = {(entry.sink, entry.ordering_key): entry for entry in entries}
    calls = {
        at: (entry.address, claiming.call_of(entry, has_message_receipt=ordering_keys[at]["receipt"] is not None))
        for at, entry in first.items()
    }
    wanted = {at: rate_limits(at[0], *call) for at, call in calls.items()}
    receipts = {at: ordering_key_rows.receipt_of(ordering_keys[at]["receipt"]) for at in first}
    subjects = await claim_subjects.read(connection, [(first[at], receipts[at]) for at in first], routes)
    drawn, changed, now = await _draw(
        connection, {at: wanted[at] for at in ordering_keys if at in wanted}, ordering_keys, limit, lease, now
    )
    if not drawn:
        deliveries, strays = list[Delivery](), list[int]()
    else:
        await bucket_rows.write(connection, changed, {b.key: b for found in wanted.values() for b in found})
        turns = [_Turn(first[at], calls[at][1], receipts[at], keys) for at, keys in drawn.items()]
        deliveries, strays, entries = await _lease(connection, turns, subjects, routes, now, lease, owner)
        await delivery_rows.write(connection, entries)
    leased = [(d.sink, d.ordering_key) for d in deliveries]
    if leased:
        await ordering_key_rows.lease(connection, leased, now + lease)
    hinted = {at: (row["address"], row["call"]) for at, row in ordering_keys.items()}
    wrong = [at for at in ordering_keys if at not in leased and (at in drawn or hinted[at] != calls.get(at))]
    if wrong or expired:
        rest = (at for at in expired if at not in leased and at not in wrong)
        await ordering_key_rows.refresh(connection, [*wrong, *rest])
    return deliveries, strays


async def _draw(
    connection: Any,
    wanted: Mapping[tuple[str, str], tuple[RateLimit, ...]],
    ordering_keys: Mapping[tuple[str, str], Any],
    limit: int,
    lease: timedelta,
    now: datetime,
) -> tuple[dict[tuple[str, str], tuple[str, ...]], dict[str, rate_limiting.Bucket], datetime]:
    """Draw for as many ordering keys as their rate limits allow, in order.

    Return the rate limit keys drawn by ordering key, the changed buckets, and the time after the locks.
    """
    rate_limits = {b.key: b for found in wanted.values() for b in found}
    buckets = await bucket_rows.read(connection, rate_limits)
    # Buckets that only count failures and have none are not locked: all calls of a sink would queue there.
    held = {
        key: b
        for key, b in rate_limits.items()
        if b.rate is not None or (key in buckets and not rate_limiting.is_quiet(buckets[key], now))
    }
    if held:
        locked, now = await bucket_rows.lock(connection, held, buckets)
        buckets.update(locked)
    drawn: dict[tuple[str, str], tuple[str, ...]] = {}
    changed: dict[str, rate_limiting.Bucket] = {}
    for at, found in wanted.items():
        if len(drawn) >= limit:
            break
        new = rate_limiting.draw(buckets, found, now, is_urgent=ordering_keys[at]["rank"] < URGENT, lease=lease)
        if new is not None:
            drawn[at] = tuple(b.key for b in found)
            buckets.update(new)
            changed.update(new)
    return drawn, changed, now


async def due_in(connection: Any, sinks: Sequence[str] | None, rate_limits: RateLimits) -> float | None:
    """Return the seconds until a delivery may be claimed or a timer is due; None when nothing waits."""
    timer = await connection.fetchval("SELECT extract(epoch FROM min(at) - clock_timestamp())::float8 FROM timers")
    waits = [] if timer is None else [float(timer)]
    sorts = [sort for sort in await connection.fetch(_SORTS) if sinks is None or sort["sink"] in sinks]
    if sorts:
        limits = {at: rate_limits(*at) for at in {_at(sort) for sort in sorts}}
        known = await bucket_rows.read(connection, {b.key for found in limits.values() for b in found})
        now = sorts[0]["now"]
        levels = BucketLevels(known, now)
        for sort in sorts:
            opens = levels.open_at(limits[_at(sort)], is_urgent=sort["rank"] < URGENT)
            waits.append((max(sort["due_at"], opens) - now).total_seconds())
    return max(0.0, min(waits)) if waits else None


class _Turn(NamedTuple):
    """A delivery whose call was drawn, and the receipt of its ordering key's message."""

    entry: OutboxEntry
    call: SinkCall
    message_receipt: Receipt | None
    drawn: tuple[str, ...]


async def _lease(
    connection: Any,
    turns: Sequence[_Turn],
    subjects: Subjects,
    routes: Routes,
    now: datetime,
    lease: timedelta,
    owner: UUID,
) -> tuple[list[Delivery], list[int], list[OutboxEntry]]:
    """Lease deliveries whose calls were drawn.

    Return them, the ids that the caller must move, and all changed entries.
    """
    out: list[Delivery] = []
    strays: list[int] = []
    changed: list[OutboxEntry] = []
    moved: dict[int, Task | None] = {}
    for entry, call, message_receipt, drawn in turns:
        task, root, checkpoint, order, alert = subjects.of(entry)
        carrier = subjects.carriers.get(entry.id)
        if entry.is_state and carrier is None:
            moved[entry.id], task = root, root or Task(uid=entry.task_uid, tenant=entry.tenant, task_id="")
        elif entry.is_state:
            task = root
        elif order is not None:
            task = task or blank_task(order)
        elif entry.mode is Mode.ERASE:
            task = Task(uid=entry.task_uid, tenant=entry.tenant, task_id="")
        has_subject = task is not None and (entry.mode is not Mode.CHECKPOINT or bool(checkpoint or order))
        match claiming.decide_claim(
            entry,
            has_subject=has_subject,
            is_carried=carrier is not None,
            is_bound=checkpoint is not None,
            has_message_receipt=message_receipt is not None,
        ):
            case Claimed.SKIP:
                changed.append(delivery_states.skip(entry))
                continue
            case Claimed.GONE:
                changed.append(delivery_states.set_aside(entry, delivery_states.NO_SUBJECT))
                continue
            case Claimed.WITHDRAWN:
                await connection.execute("DELETE FROM deliveries WHERE id = $1", entry.id)
                continue
            case Claimed.STRAY:
                if root is not None and root.is_announced:
                    strays.append(entry.id)  # keeps waiting until it is moved
                else:
                    changed.append(delivery_states.set_aside(entry, delivery_states.NO_MESSAGE))
                continue
        assert task is not None
        changed.append(delivery_states.claim(entry, call, now, lease, owner))
        out.append(
            claiming.as_delivery(
                changed[-1],
                sent_before=entry.sent_at,
                task=task,
                children=tuple(subjects.children.get(task.uid, ())),
                checkpoint=checkpoint,
                order=order,
                alert=alert,
                message_receipt=message_receipt,
                drawn=drawn,
            )
        )
    return (await _moved(connection, out, moved, routes) if moved else out), strays, changed


async def _moved(
    connection: Any, deliveries: Sequence[Delivery], moved: Mapping[int, Task | None], routes: Routes
) -> list[Delivery]:
    """Return the deliveries with those of moved tasks (`moved`) as the last states of their messages."""
    asked = {
        d.id: list(ordering_keys_of(d.sink, root, routes)) for d in deliveries if (root := moved.get(d.id)) is not None
    }
    ordering_keys = sorted({(d.sink, ordering_key) for d in deliveries for ordering_key in asked.get(d.id, ())})
    receipts = await ordering_key_rows.receipts(connection, ordering_keys) if ordering_keys else {}
    out = []
    for d in deliveries:
        if d.id in moved:
            receipt = next((receipts[d.sink, key] for key in asked.get(d.id, ()) if (d.sink, key) in receipts), None)
            d = last(d, moved[d.id], receipt)
        out.append(d)
    return out


async def finish(
    connection: Any,
    delivery: Delivery,
    outcome: Outcome,
    owner: UUID,
    rate_limits: Mapping[str, RateLimit],
    jitter: float,
) -> tuple[bool, list[OpenCircuit]]:
    """Record the outcome of a claimed delivery.

    Return whether its lease still held, and the circuits that it stopped. A delivery that another process
    has claimed since keeps its state. If it was sent nevertheless, it is marked to be reconciled once more.
    """
    ordering_key = (delivery.sink, delivery.ordering_key)
    is_troubled = await connection.fetchval(_OPEN, *ordering_key, list(delivery.drawn))
    row = await connection.fetchrow(_HELD, delivery.id)
    entry = delivery_rows.entry_of(row) if row is not None else None
    is_held = entry is not None and delivery_states.is_held(entry, delivery, owner)
    closed: list[OpenCircuit] = []
    is_paced = False
    # This outcome was recorded before and only the commit's answer was lost: do not count it twice.
    is_repeat = entry is not None and delivery_states.is_same_claim(entry, delivery) and not is_held
    wait = delivery_states.wait_of(outcome, steady_now())
    if (
        not is_repeat
        and (is_troubled or not rate_limiting.is_plain(outcome))
        and (is_held or not rate_limiting.is_uncalled(outcome))
    ):
        closed, is_paced = await _answer(connection, delivery, outcome, rate_limits, wait, jitter)
    if entry is not None and is_held:
        new = delivery_states.finish(
            entry, outcome, row["now"], wait=wait, sent_before=delivery.sent_at, is_paced=is_paced
        )
        await delivery_rows.write(connection, [new])
        receipt = delivery_states.kept_receipt(outcome) if entry.is_state else None
        await ordering_key_rows.end_lease(connection, ordering_key, receipt)
        return True, closed
    if entry is not None and entry.claimed_at != delivery.claimed_at and delivery_states.has_sent(delivery, outcome):
        await delivery_rows.write(connection, [delivery_states.report_late(entry)])
    await ordering_key_rows.refresh(connection, [ordering_key])
    return False, closed


async def _answer(
    connection: Any,
    delivery: Delivery,
    outcome: Outcome,
    rate_limits: Mapping[str, RateLimit],
    wait: timedelta,
    jitter: float,
) -> tuple[list[OpenCircuit], bool]:
    """Apply the sink's answer to the call's buckets.

    Return the circuits that stopped, and whether they pace the retry.
    """
    concerned = {
        key: rate_limits.get(key) or RateLimit(key=key) for key in rate_limiting.concerned(delivery.drawn, outcome)
    }
    known = await bucket_rows.read(connection, concerned)
    said = outcome if isinstance(outcome, (RetryAt, GiveUp)) else None
    made = {
        key
        for key, b in concerned.items()
        if said is not None and (key in said.closes or (said.is_failure and b.is_breaker))
    }
    concerned = {key: b for key, b in concerned.items() if key in known or key in made}
    locked, now = await bucket_rows.lock(connection, concerned, known)
    changed, closed = rate_limiting.after_outcome(
        locked, concerned, outcome, now, claimed_at=delivery.claimed_at, wait=wait, jitter=jitter
    )
    await bucket_rows.write(connection, changed, concerned)
    return closed, rate_limiting.is_held((locked | changed).values(), outcome)


def _at(sort: Any) -> tuple[str, str, SinkCall]:
    return sort["sink"], sort["address"], SinkCall(sort["call"])
