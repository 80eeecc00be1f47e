"""Move deliveries after a task's message changed: the task was merged, or its parent became known.

The ordering keys of the old messages are woken; what their messages show is decided at the claim
(`routing.message_owner`). Checkpoints that were never sent move from the old message to the new one.
Checkpoints that were sent stay where they are and are edited there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spanpost.model.deliveries import Mode
from spanpost.model.tasks import Task
from spanpost.routing import delivery_states
from spanpost.routing.message_owner import anew, carries
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Routes
from spanpost.store import delivery_rows, ordering_key_rows
from spanpost.store.rows import CHECKPOINT_COLUMNS, checkpoint_of, task_of
from spanpost.tasks.stall import now_shown

_TASKS = """
SELECT asked.uid, t.doc, spanpost_phase(t) FROM unnest($1::uuid[]) AS asked(uid)
LEFT JOIN task_redirects r ON r.uid = asked.uid
JOIN agent_tasks t
  ON t.uid = coalesce((SELECT own.uid FROM agent_tasks own WHERE own.uid = asked.uid), r.merged_into)"""
_STATES = """
SELECT sink, address, ordering_key, task_uid FROM deliveries
WHERE mode = 'state' AND task_uid = ANY($1::uuid[])
ORDER BY sink, ordering_key"""
_UNSEEN = "d.mode = 'checkpoint' AND d.receipt IS NULL AND NOT d.unsure"
_WAITS = f"{_UNSEEN} AND d.state = 'waiting'"
#: Deliveries that were set aside because their task did not exist yet.
_ASIDE = f"{_UNSEEN} AND d.state = 'dead' AND d.reason = 'gone'"
_DELIVERY = "SELECT d.id, d.sink, d.ordering_key, d.task_uid, d.checkpoint_id, d.revision"
_UNSENT = f"""
{_DELIVERY} FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
JOIN deliveries d ON d.sink = g.sink AND d.ordering_key = g.ordering_key WHERE {_WAITS}
UNION ALL {_DELIVERY} FROM deliveries d WHERE d.task_uid = ANY($3::uuid[]) AND {_ASIDE} ORDER BY id"""
_THESE = f"{_DELIVERY} FROM deliveries d WHERE d.id = ANY($1::bigint[]) AND {_WAITS} ORDER BY d.id"
_TAKE = f"DELETE FROM deliveries d WHERE d.id = ANY($1::bigint[]) AND (({_WAITS}) OR ({_ASIDE})) RETURNING d.id"
#: Ordering keys whose message was sent or is about to be.
_BEGUN = """
SELECT l.sink, l.ordering_key FROM unnest($1::text[], $2::text[]) AS g(sink, ordering_key)
JOIN ordering_keys l ON l.sink = g.sink AND l.ordering_key = g.ordering_key
WHERE l.receipt IS NOT NULL OR EXISTS (SELECT FROM deliveries d
  WHERE d.sink = l.sink AND d.ordering_key = l.ordering_key AND d.mode = 'state'
    AND d.state IN ('waiting', 'sending'))"""
_LOCK = """
SELECT FROM ordering_keys l
JOIN unnest($1::text[], $2::text[]) AS g(sink, ordering_key) ON l.sink = g.sink AND l.ordering_key = g.ordering_key
ORDER BY l.sink, l.ordering_key FOR UPDATE OF l"""


class Takeover(NamedTuple):
    """The ordering keys that `take` wakes and the deliveries that it moves."""

    #: (sink, ordering key) to wake.
    ordering_keys: list[tuple[str, str]]
    #: Checkpoint deliveries to move: id, revision, and the deliveries that replace it.
    moves: list[tuple[int, int, list[PlannedDelivery]]]
    #: (sink, ordering key) that they leave.
    left: list[tuple[str, str]]


async def known(connection: Any, uids: Collection[UUID]) -> tuple[dict[UUID, Task], dict[UUID, Task]]:
    """Return the tasks, or their successors, by the given uid; and the root tasks of all by their own uid."""
    tasks = await _tasks(connection, uids)
    roots = {task.uid: task for task in tasks.values()}
    missing = {task.root_uid for task in tasks.values() if task.root_uid is not None} - roots.keys()
    if missing:
        roots |= {task.uid: task for task in (await _tasks(connection, missing)).values()}
    return tasks, roots


async def _tasks(connection: Any, uids: Collection[UUID]) -> dict[UUID, Task]:
    return {uid: now_shown(task_of(doc), phase) for uid, doc, phase in await connection.fetch(_TASKS, list(uids))}


def root_of(task: Task | None, roots: Mapping[UUID, Task]) -> Task | None:
    """Return a task's root task; the task itself while its root is not known."""
    return roots.get(task.root_uid, task) if task is not None and task.root_uid is not None else task


async def plan(connection: Any, woken: Collection[UUID], routes: Routes) -> Takeover | None:
    """Plan what to do about the messages of these tasks; None when they have none.

    Reads only, without locks.
    """
    uids = list(set(woken))
    states = await connection.fetch(_STATES, uids)
    tasks, roots = await known(connection, {row["task_uid"] for row in states}) if states else ({}, {})
    left = []
    for row in states:
        root = root_of(tasks.get(row["task_uid"]), roots)
        if root is None or not carries(row["ordering_key"], row["sink"], row["address"], root, routes):
            left.append((row["sink"], row["ordering_key"]))
    rows = await connection.fetch(_UNSENT, *ordering_key_rows.columns(left), uids)
    if not (states or rows):
        return None
    return await _plan(connection, [(row["sink"], row["ordering_key"]) for row in states], rows, routes)


async def plan_moves(connection: Any, ids: Collection[int], routes: Routes) -> Takeover:
    """Plan where checkpoint deliveries go that wait under another message than their task's."""
    return await _plan(connection, [], await connection.fetch(_THESE, list(ids)), routes)


async def _plan(connection: Any, ordering_keys: list[tuple[str, str]], rows: Sequence[Any], routes: Routes) -> Takeover:
    moves: list[tuple[int, int, list[PlannedDelivery]]] = []
    left: set[tuple[str, str]] = set()
    if rows:
        ids = {row["checkpoint_id"] for row in rows}
        found = await connection.fetch(
            f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints WHERE id = ANY($1::uuid[])", list(ids)
        )
        checkpoints = {row["id"]: checkpoint_of(row) for row in found}
        tasks, roots = await known(connection, {row["task_uid"] for row in rows})
        for row in rows:
            task, checkpoint = tasks.get(row["task_uid"]), checkpoints.get(row["checkpoint_id"])
            root = root_of(task, roots)
            # A root without a message: the delivery is set aside at its claim and moves when the root is
            # announced.
            if task is not None and root is not None and checkpoint is not None and root.is_announced:
                moves.append((row["id"], row["revision"], anew(checkpoint, row["sink"], task, root, routes)))
                left.add((row["sink"], row["ordering_key"]))
    return Takeover(ordering_keys, moves, sorted(left))


async def lock(connection: Any, ordering_keys: Collection[tuple[str, str]]) -> None:
    """Lock the rows of existing ordering keys, in their order."""
    await connection.execute(_LOCK, *ordering_key_rows.columns(sorted(set(ordering_keys))))


async def take(connection: Any, takeover: Takeover) -> tuple[list[PlannedDelivery], list[tuple[str, str, int]]]:
    """Wake ordering keys and take the moving deliveries out of theirs.

    Return the deliveries that replace them, and what to add to their revisions: sink, key, by how much.
    """
    if takeover.ordering_keys:
        asleep = await delivery_rows.lock_known(
            connection, {(Mode.STATE.value, sink, ordering_key) for sink, ordering_key in takeover.ordering_keys}
        )
        now = await connection.fetchval("SELECT clock_timestamp()")
        await delivery_rows.write(connection, [delivery_states.wake(entry, now) for entry in asleep])
    if not takeover.moves:
        return [], []
    taken = {row[0] for row in await connection.fetch(_TAKE, [id for id, _, _ in takeover.moves])}
    deliveries = [delivery for id, _, found in takeover.moves if id in taken for delivery in found]
    messages = sorted({(x.sink, x.ordering_key) for x in deliveries if x.mode is Mode.STATE})
    begun = (
        {
            (row["sink"], row["ordering_key"])
            for row in await connection.fetch(_BEGUN, *ordering_key_rows.columns(messages))
        }
        if messages
        else set()
    )
    deliveries = [x for x in deliveries if x.mode is Mode.CHECKPOINT or (x.sink, x.ordering_key) not in begun]
    counts = [(x.sink, x.key, by) for id, by, found in takeover.moves if id in taken and by for x in found]
    return deliveries, counts
