"""Lanes whose message may have changed hands: looked at anew, and news that still waits there sent where it goes now.

What a lane is told is decided when its letter is handed out (`fold.carrying`); here it is only woken. News that was never sent
leaves a message that ended; what was told there stays, and is changed there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spanpost.dispatch import states
from spanpost.domain.deliveries import Mode
from spanpost.domain.tasks import Task
from spanpost.fold.carrying import anew, carries
from spanpost.fold.letters import Letter
from spanpost.fold.routes import Routes
from spanpost.fold.silence import now_shown
from spanpost.ledger import delivery_rows
from spanpost.ledger.rows import CHECKPOINT_COLUMNS, checkpoint_of, task_of

_TASKS = """
SELECT asked.uid, t.doc, spanpost_phase(t) FROM unnest($1::uuid[]) AS asked(uid)
LEFT JOIN task_redirects r ON r.uid = asked.uid
JOIN agent_tasks t ON t.uid = coalesce((SELECT own.uid FROM agent_tasks own WHERE own.uid = asked.uid), r.merged_into)"""
_STATES = """
SELECT sink, address, lane, task_uid FROM deliveries WHERE mode = 'state' AND task_uid = ANY($1::uuid[]) ORDER BY sink, lane"""
_UNSEEN = "d.mode = 'news' AND d.receipt IS NULL AND NOT d.unsure"
_WAITS = f"{_UNSEEN} AND d.state = 'waiting'"
#: Of nothing, as yet.
_ASIDE = f"{_UNSEEN} AND d.state = 'dead' AND d.reason = 'gone'"
_LETTER = "SELECT d.id, d.sink, d.lane, d.task_uid, d.checkpoint_id, d.revision"
_NEWS = f"""
{_LETTER} FROM unnest($1::text[], $2::text[]) AS g(sink, lane)
JOIN deliveries d ON d.sink = g.sink AND d.lane = g.lane WHERE {_WAITS}
UNION ALL {_LETTER} FROM deliveries d WHERE d.task_uid = ANY($3::uuid[]) AND {_ASIDE} ORDER BY id"""
_THESE = f"{_LETTER} FROM deliveries d WHERE d.id = ANY($1::bigint[]) AND {_WAITS} ORDER BY d.id"
_TAKE = f"DELETE FROM deliveries d WHERE d.id = ANY($1::bigint[]) AND (({_WAITS}) OR ({_ASIDE})) RETURNING d.id"
#: Messages that stand, or are about to.
_BEGUN = """
SELECT l.sink, l.lane FROM unnest($1::text[], $2::text[]) AS g(sink, lane) JOIN lanes l ON l.sink = g.sink AND l.lane = g.lane
WHERE l.receipt IS NOT NULL OR EXISTS (SELECT FROM deliveries d
  WHERE d.sink = l.sink AND d.lane = l.lane AND d.mode = 'state' AND d.state IN ('waiting', 'sending'))"""
_LOCK = """
SELECT FROM lanes l JOIN unnest($1::text[], $2::text[]) AS g(sink, lane) ON l.sink = g.sink AND l.lane = g.lane
ORDER BY l.sink, l.lane FOR UPDATE OF l"""


class Handover(NamedTuple):
    """Lanes to be woken, news to be taken out of lanes: number, how often it was counted, the letters by which it goes now; and these."""

    lanes: list[tuple[str, str]]
    news: list[tuple[int, int, list[Letter]]]
    left: list[tuple[str, str]]


async def known(connection: Any, uids: Collection[UUID]) -> tuple[dict[UUID, Task], dict[UUID, Task]]:
    """Return tasks, or those that they became part of, by the uid that was asked for, and the roots of all by their own."""
    tasks = await _tasks(connection, uids)
    roots = {task.uid: task for task in tasks.values()}
    missing = {task.root_uid for task in tasks.values() if task.root_uid is not None} - roots.keys()
    if missing:
        roots |= {task.uid: task for task in (await _tasks(connection, missing)).values()}
    return tasks, roots


async def _tasks(connection: Any, uids: Collection[UUID]) -> dict[UUID, Task]:
    return {uid: now_shown(task_of(doc), phase) for uid, doc, phase in await connection.fetch(_TASKS, list(uids))}


def root_of(task: Task | None, roots: Mapping[UUID, Task]) -> Task | None:
    """Return a task's root; the task itself while that is not known."""
    return roots.get(task.root_uid, task) if task is not None and task.root_uid is not None else task


async def look(connection: Any, woken: Collection[UUID], routes: Routes) -> Handover | None:
    """Find what is to be done about the messages of tasks; None when they have none. Changes nothing, and locks nothing."""
    uids = list(set(woken))
    states = await connection.fetch(_STATES, uids)
    tasks, roots = await known(connection, {row["task_uid"] for row in states}) if states else ({}, {})
    left = []
    for row in states:
        root = root_of(tasks.get(row["task_uid"]), roots)
        if root is None or not carries(row["lane"], row["sink"], row["address"], root, routes):
            left.append((row["sink"], row["lane"]))
    rows = await connection.fetch(_NEWS, *_columns(left), uids)
    if not (states or rows):
        return None
    return await _led(connection, [(row["sink"], row["lane"]) for row in states], rows, routes)


async def look_at(connection: Any, numbers: Collection[int], routes: Routes) -> Handover:
    """Find where news goes that waits in a lane which is not its task's message."""
    return await _led(connection, [], await connection.fetch(_THESE, list(numbers)), routes)


async def _led(connection: Any, lanes: list[tuple[str, str]], rows: Sequence[Any], routes: Routes) -> Handover:
    news: list[tuple[int, int, list[Letter]]] = []
    left: set[tuple[str, str]] = set()
    if rows:
        ids = {row["checkpoint_id"] for row in rows}
        found = await connection.fetch(f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints WHERE id = ANY($1::uuid[])", list(ids))
        told = {row["id"]: checkpoint_of(row) for row in found}
        tasks, roots = await known(connection, {row["task_uid"] for row in rows})
        for row in rows:
            task, checkpoint = tasks.get(row["task_uid"]), told.get(row["checkpoint_id"])
            root = root_of(task, roots)
            # Of a root without a message: it stays, is set aside when its turn comes, and goes on when the root is announced.
            if task is not None and root is not None and checkpoint is not None and root.is_announced:
                news.append((row["id"], row["revision"], anew(checkpoint, row["sink"], task, root, routes)))
                left.add((row["sink"], row["lane"]))
    return Handover(lanes, news, sorted(left))


async def lock(connection: Any, lanes: Collection[tuple[str, str]]) -> None:
    """Lock the lanes that are there, in their order."""
    await connection.execute(_LOCK, *_columns(sorted(set(lanes))))


async def take(connection: Any, handover: Handover) -> tuple[list[Letter], list[tuple[str, str, int]]]:
    """Wake lanes and take news out of lanes; return its letters, and what is to be added to their counts: sink, key, by how much."""
    if handover.lanes:
        asleep = await delivery_rows.lock_known(connection, {(Mode.STATE.value, sink, lane) for sink, lane in handover.lanes})
        now = await connection.fetchval("SELECT clock_timestamp()")
        await delivery_rows.write(connection, [states.wake(entry, now) for entry in asleep])
    if not handover.news:
        return [], []
    taken = {row[0] for row in await connection.fetch(_TAKE, [number for number, _, _ in handover.news])}
    letters = [letter for number, _, found in handover.news if number in taken for letter in found]
    messages = sorted({(x.sink, x.lane) for x in letters if x.mode is Mode.STATE})
    begun = {(row["sink"], row["lane"]) for row in await connection.fetch(_BEGUN, *_columns(messages))} if messages else set()
    letters = [x for x in letters if x.mode is Mode.NEWS or (x.sink, x.lane) not in begun]
    counts = [(x.sink, x.key, by) for number, by, found in handover.news if number in taken and by for x in found]
    return letters, counts


def _columns(lanes: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [sink for sink, _ in lanes], [lane for _, lane in lanes]
