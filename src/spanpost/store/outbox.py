"""The outbox: put, list, retry and discard deliveries. `claims` hands them out.

Deliveries are kept in order within an *ordering key*. A transaction that puts, claims or finishes a delivery
first locks the row of its ordering key, then the delivery; rows of ordering keys are locked in sorted order,
and a claim skips those that another transaction holds. While a delivery is being sent, its ordering key is
leased by the database's clock. A lease that ran out is taken over, and its delivery is then marked unsure.

`routing.delivery_states` decides the next state of a delivery, and which delivery of an ordering key goes
first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from spanpost.model.deliveries import DeliveryRow, Mode
from spanpost.routing import delivery_states
from spanpost.routing.delivery_states import LEAST, RANK, OutboxEntry
from spanpost.routing.delivery_transitions import DeliveryState
from spanpost.routing.planned import Again, PlannedDelivery
from spanpost.store import delivery_rows, ordering_key_rows, takeovers
from spanpost.store.takeovers import Takeover

#: A leased ordering key keeps its next call: the outcome updates it. Without a receipt, or for a checkpoint,
#: that call is a post.
_ORDERING_KEYS = """
INSERT INTO ordering_keys AS known (sink, ordering_key, due_at, rank, address, call)
SELECT g.sink, g.ordering_key, now(), g.rank, g.address,
  CASE WHEN g.has_checkpoint OR l.receipt IS NULL THEN 'post' ELSE 'edit' END
FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[], $5::boolean[])
  WITH ORDINALITY AS g(sink, ordering_key, rank, address, has_checkpoint, i)
LEFT JOIN ordering_keys l ON l.sink = g.sink AND l.ordering_key = g.ordering_key ORDER BY g.i
ON CONFLICT (sink, ordering_key) DO UPDATE
SET due_at = CASE WHEN known.lease_until IS NULL THEN least(known.due_at, excluded.due_at) ELSE known.lease_until END,
    rank = CASE WHEN known.due_at IS NULL THEN excluded.rank ELSE least(known.rank, excluded.rank) END,
    address = excluded.address,
    call = CASE WHEN known.lease_until IS NOT NULL THEN 'reconcile'
      WHEN known.due_at IS NULL OR excluded.call = 'post' THEN excluded.call
      ELSE known.call END
RETURNING clock_timestamp() AS now"""
#: Ordering keys under which a checkpoint was sent before its task's message changed: it is edited there.
_SENT_UNDER = """
SELECT d.sink, d.ordering_key FROM unnest($1::text[], $2::text[], $3::text[]) AS g(sink, ordering_key, key)
JOIN deliveries d ON d.sink = g.sink AND d.key = g.key AND d.mode = 'checkpoint'
WHERE d.ordering_key <> g.ordering_key"""
#: Ordering keys whose message was sent or is about to be.
_STATES = """
SELECT d.sink, d.ordering_key FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
JOIN deliveries d ON d.sink = g.sink AND d.ordering_key = g.ordering_key AND d.mode = 'state'"""
_CHECKPOINTS = "SELECT id, at, recorded_at = now() AS is_new FROM agent_checkpoints WHERE id = ANY($1::uuid[])"
#: A delivery that may have arrived stays: if the checkpoint is reported again, it is reconciled or edited.
_WITHDRAW = """
DELETE FROM deliveries WHERE checkpoint_id = ANY($1::uuid[]) AND state = 'waiting' AND receipt IS NULL AND NOT unsure"""
_LIST = """
SELECT d.id, d.sink, d.address, d.ordering_key, d.mode, d.state, coalesce(t.task_id, '') AS task_id,
  coalesce(c.kind, CASE d.mode WHEN 'checkpoint' THEN 'order' ELSE d.mode END) AS kind,
  d.attempt, d.born_at, d.not_before, d.reason, d.error
FROM deliveries d
LEFT JOIN task_redirects r ON r.uid = d.task_uid
LEFT JOIN agent_tasks t ON t.uid = coalesce(r.merged_into, d.task_uid)
LEFT JOIN agent_checkpoints c ON c.id = d.checkpoint_id
WHERE ($1::text IS NULL OR d.state = $1) AND ($2::text IS NULL OR d.sink = $2)
  AND ($4::text IS NULL OR d.tenant = $4)
ORDER BY d.id LIMIT $3"""

_DEAD = """
SELECT id, sink, ordering_key FROM deliveries
WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR sink = $2)"""
_WAITING = "SELECT id, sink, ordering_key FROM deliveries WHERE state = 'waiting' AND id = ANY($1::bigint[])"


async def put(
    connection: Any, deliveries: Sequence[PlannedDelivery], retracted: Sequence[UUID], takeover: Takeover | None = None
) -> tuple[int, dict[str, int]]:
    """Put deliveries into the outbox.

    Return how many, and how many waiting states were replaced by newer ones, by sink. Deliveries of
    retracted checkpoints that were not sent are deleted. A takeover wakes ordering keys and moves deliveries
    (`takeovers`).
    """
    deliveries = await _without_quiet(connection, deliveries)
    counts: list[tuple[str, str, int]] = []
    repeated = [x for x in deliveries if x.again is not Again.NEVER]
    concerned: list[tuple[str, str]] = [*takeover.ordering_keys, *takeover.left] if takeover is not None else []
    if repeated:
        columns = [x.sink for x in repeated], [x.ordering_key for x in repeated], [x.key for x in repeated]
        concerned += [(row[0], row[1]) for row in await connection.fetch(_SENT_UNDER, *columns)]
    if concerned:
        moved = [x for _, _, found in takeover.moves for x in found] if takeover is not None else []
        await takeovers.lock(connection, [*concerned, *((x.sink, x.ordering_key) for x in [*deliveries, *moved])])
    if takeover is not None:
        moved, counts = await takeovers.take(connection, takeover)
        deliveries = [*moved, *deliveries]
    ordering_keys: dict[tuple[str, str], tuple[int, str, bool]] = {}
    for x in deliveries:
        rank, _, has_checkpoint = ordering_keys.get((x.sink, x.ordering_key), (LEAST, "", False))
        has_checkpoint = has_checkpoint or x.mode is Mode.CHECKPOINT
        ordering_keys[x.sink, x.ordering_key] = min(rank, RANK[x.urgency]), x.address, has_checkpoint
    now = None
    if ordering_keys:
        ordered = sorted(ordering_keys)
        figures = (list(column) for column in zip(*(ordering_keys[at] for at in ordered), strict=True))
        now = await connection.fetchval(_ORDERING_KEYS, *ordering_key_rows.columns(ordered), *figures)
    if retracted:  # first: the same checkpoint may be put again, perhaps under another ordering key
        await connection.execute(_WITHDRAW, list(retracted))
    count, coalesced = 0, Counter[str]()
    pending = deliveries
    while pending and now is not None:
        before = {_identity(e): e for e in await delivery_rows.lock_known(connection, {_identity(x) for x in pending})}
        after = await _put(connection, pending, counts, before, now)
        changed = [entry for at, entry in after.items() if at in before and entry is not before[at]]
        inserted = await delivery_rows.insert(connection, [entry for at, entry in after.items() if at not in before])
        await delivery_rows.write(connection, changed)
        count += len(changed) + len(inserted)
        coalesced.update(
            e.sink for e in before.values() if e.is_state and e.state in (DeliveryState.WAITING, DeliveryState.SENDING)
        )
        concerned += [(entry.sink, entry.ordering_key) for entry in changed if not entry.is_state]
        pending = [x for x in pending if _identity(x) not in before and _identity(x) not in inserted]  # lost the race
    concerned += [(x.sink, x.ordering_key) for x in repeated]
    if concerned:
        # The insert above assumed a post or an edit now; an existing delivery may need another call or a
        # later time.
        await ordering_key_rows.refresh(connection, sorted(set(concerned)))
    return count, dict(coalesced)


async def _put(
    connection: Any,
    deliveries: Sequence[PlannedDelivery],
    counts: Sequence[tuple[str, str, int]],
    known: Mapping[tuple[str, str, str], OutboxEntry],
    now: datetime,
) -> dict[tuple[str, str, str], OutboxEntry]:
    """Merge deliveries into the known ones, which are locked; return these as changed, then the new ones."""
    ids = {x.checkpoint_id for x in deliveries if x.again is not Again.NEVER}
    order: dict[UUID | None, tuple[datetime, UUID]] = {}
    fresh: set[UUID | None] = set()
    if ids:
        ids |= {entry.checkpoint_id for entry in known.values()}
        for id, at, is_new in await connection.fetch(_CHECKPOINTS, [id for id in ids if id is not None]):
            order[id] = (at, id)
            if is_new:
                fresh.add(id)
    entries = dict(known)
    for x in deliveries:
        entry = entries.get(_identity(x))
        if entry is None:
            entries[_identity(x)] = delivery_states.begin(x, now)
            continue
        is_newer = delivery_states.comes_after(order.get(x.checkpoint_id), order.get(entry.checkpoint_id))
        entries[_identity(x)] = delivery_states.put(
            entry, x, now, is_newer=is_newer, is_recorded_now=x.checkpoint_id in fresh
        )
    for sink, key, by in counts:
        if (entry := entries.get((Mode.CHECKPOINT, sink, key))) is not None:
            entries[Mode.CHECKPOINT, sink, key] = delivery_states.count_more(entry, by)
    return entries


def _identity(x: PlannedDelivery | OutboxEntry) -> tuple[str, str, str]:
    return delivery_rows.identity(x.mode, x.sink, x.ordering_key, x.key)


async def _without_quiet(connection: Any, deliveries: Sequence[PlannedDelivery]) -> Sequence[PlannedDelivery]:
    """Return the deliveries without quiet ones that would start a message."""
    quiet = sorted({(x.sink, x.ordering_key) for x in deliveries if x.is_quiet})
    if not quiet:
        return deliveries
    begun = {(row[0], row[1]) for row in await connection.fetch(_STATES, *ordering_key_rows.columns(quiet))}
    kept = []
    for x in deliveries:
        if not x.is_quiet or (x.sink, x.ordering_key) in begun:
            kept.append(x)
            if x.mode is Mode.STATE:
                begun.add((x.sink, x.ordering_key))
    return kept


async def listed(
    connection: Any, state: str | None, sink: str | None, limit: int, tenant: str | None = None
) -> list[DeliveryRow]:
    """List deliveries, oldest first."""
    return [DeliveryRow(**dict(row)) for row in await connection.fetch(_LIST, state, sink, limit, tenant)]


async def revive(connection: Any, ids: Sequence[int] | None, sink: str | None) -> int:
    """Set dead deliveries to waiting; return how many."""
    given = list(ids) if ids is not None else None
    return await _change(
        connection, await connection.fetch(_DEAD, given, sink), DeliveryState.DEAD, delivery_states.revive
    )


async def give_up(connection: Any, ids: Sequence[int]) -> int:
    """Set waiting deliveries to dead; return how many."""
    found = await connection.fetch(_WAITING, list(ids))
    return await _change(connection, found, DeliveryState.WAITING, lambda entry, now: delivery_states.discard(entry))


async def _change(
    connection: Any, found: Sequence[Any], state: DeliveryState, event: Callable[[OutboxEntry, datetime], OutboxEntry]
) -> int:
    """Apply an event to the found deliveries that are still in `state`, with their ordering keys locked."""
    ordering_keys = sorted({(row["sink"], row["ordering_key"]) for row in found})
    await takeovers.lock(connection, ordering_keys)
    now = await connection.fetchval("SELECT clock_timestamp()")
    entries = [e for e in await delivery_rows.lock(connection, [row["id"] for row in found]) if e.state is state]
    await delivery_rows.write(connection, [event(entry, now) for entry in entries])
    await ordering_key_rows.refresh(connection, ordering_keys)
    return len(entries)
