"""What the deliveries of a claim show: their tasks and what hangs on them, by few queries for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import Receipt
from spanpost.model.launch_orders import Order
from spanpost.model.tasks import Task
from spanpost.routing.claiming import alert_of
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.message_owner import carries
from spanpost.routing.routes import Routes
from spanpost.store import alert_rows, launch_order_rows, takeovers
from spanpost.store.rows import CHECKPOINT_COLUMNS, checkpoint_of, task_of
from spanpost.tasks.stall import now_shown

_NONE = UUID(int=0)
_BELOW = """
SELECT root_uid, doc, spanpost_phase(agent_tasks) FROM agent_tasks
WHERE root_uid = ANY($1::uuid[]) AND uid <> root_uid ORDER BY started_at, uid"""
_CHECKPOINTS = f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints WHERE id = ANY($1::uuid[])"


class Subject(NamedTuple):
    """What one delivery is about, each as far as it is recorded."""

    #: Its task, or the task with which that was merged.
    task: Task | None
    #: The root of that task.
    root: Task | None
    checkpoint: Checkpoint | None
    order: Order | None
    alert: Alert | None


class Subjects(NamedTuple):
    """What the deliveries of a claim are about."""

    #: By the uid that a delivery names.
    tasks: Mapping[UUID, Task]
    #: Root tasks by their own uid.
    roots: Mapping[UUID, Task]
    #: By id of a state, or of a checkpoint that was never shown: the task whose message has it, or none.
    carriers: Mapping[int, Task | None]
    #: All tasks below a root, by its uid, oldest first.
    children: Mapping[UUID, Sequence[Task]]
    checkpoints: Mapping[UUID, Checkpoint]
    orders: Mapping[UUID, Order]
    alerts: Mapping[UUID, Alert]

    def of(self, entry: OutboxEntry) -> Subject:
        """Return what a delivery is about."""
        about = entry.checkpoint_id or _NONE
        task, checkpoint = self.tasks.get(entry.task_uid), self.checkpoints.get(about)
        return Subject(
            task=task,
            root=takeovers.root_of(task, self.roots),
            checkpoint=checkpoint,
            order=self.orders.get(about),
            alert=self.alerts.get(alert_of(task, checkpoint) or _NONE),
        )


async def read(connection: Any, entries: Sequence[tuple[OutboxEntry, Receipt | None]], routes: Routes) -> Subjects:
    """Return what deliveries are about; each comes with the receipt of its ordering key's message."""
    tasks, roots = await takeovers.known(connection, {entry.task_uid for entry, _ in entries})
    carriers: dict[int, Task | None] = {}
    for entry, message_receipt in entries:
        if not entry.is_state and (message_receipt is not None or not entry.is_unseen):
            continue  # its message exists
        root = takeovers.root_of(tasks.get(entry.task_uid), roots)
        has_it = root is not None and carries(entry.ordering_key, entry.sink, entry.address, root, routes)
        carriers[entry.id] = root if has_it else None
    shown = {task.uid for task in tasks.values()}
    shown |= {root.uid for entry, _ in entries if entry.is_state and (root := carriers[entry.id]) is not None}
    children: dict[UUID, list[Task]] = {}
    for root_uid, doc, phase in await connection.fetch(_BELOW, list(shown)):
        children.setdefault(root_uid, []).append(now_shown(task_of(doc), phase))
    ids = [entry.checkpoint_id for entry, _ in entries if entry.checkpoint_id is not None]
    found = await connection.fetch(_CHECKPOINTS, ids) if ids else []
    checkpoints: dict[UUID, Checkpoint] = {row["id"]: checkpoint_of(row) for row in found}
    orders = await launch_order_rows.known(connection, {id for id in ids if id not in checkpoints})
    about = {alert_of(tasks.get(e.task_uid), checkpoints.get(e.checkpoint_id or _NONE)) for e, _ in entries}
    alerts = await alert_rows.read(connection, sorted(id for id in about if id is not None))
    return Subjects(tasks, roots, carriers, children, checkpoints, orders, alerts)
