"""Whether an ordering key is the key of its root task's message, and the effects when it no longer is.

`tasks.succession` says when that is. The store asks `carries` for each delivery of a state that it hands
out, with the current task of the delivery. A message that is no longer carried is edited to its end
(`last`), if it was ever posted, and checkpoints that wait under its key go to the task's current message
(`anew`). The same holds for checkpoints under a key without a message; they are set aside while their root
has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.tasks import MERGED, Task
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Routes, chosen, deliveries
from spanpost.semconv import COMPLETE

#: Fields that identify a task, and those by which it is routed.
_NAMES = (
    "tenant", "task_id", "aliases", "message_uid", "trace_id", "span_id", "name", "type", "agent_name", "agent_id",
    "agent_version", "service", "environment", "repo", "topic", "requested_by", "session_id", "is_announced",
    "started_at", "last_event_at", "attributes",
)  # fmt: skip


def carries(ordering_key: str, sink: str, address: str, root: Task, routes: Routes) -> bool:
    """Return whether an ordering key is that of a root task's message."""
    if not root.is_announced or ordering_key != ordering_key_of(sink, address, root):
        return False
    if sink not in routes.sinks:  # no route says where its messages go
        return True
    if any(route.address == address for route in chosen(root, routes, sink=sink)):
        return True
    # A route that matches a passing state: its message stays when the state has passed.
    return any(r.is_passing for r in routes.routes if (r.sink, r.address) == (sink, address))


def ordering_key_of(sink: str, address: str, root: Task) -> str:
    """Return the ordering key of a root task's message at one address."""
    return f"{sink}|{address}|{root.message_uid or root.uid}"


def ordering_keys_of(sink: str, root: Task, routes: Routes) -> Iterator[str]:
    """Yield the ordering keys of a root task's messages at present, permanent ones first."""
    found = sorted(chosen(root, routes, sink=sink), key=lambda route: route.is_passing)
    yield from (ordering_key_of(sink, route.address, root) for route in found)


def last(delivery: Delivery, root: Task | None, message_receipt: Receipt | None) -> Delivery:
    """Return a delivery of state as the end of its message (`Delivery.has_moved`).

    `root` is the task that its root was merged into, if it is known; `message_receipt` that task's message.
    """
    ordering_key_uid = delivery.ordering_key.rpartition("|")[2]
    try:
        uid = UUID(ordering_key_uid)
    except ValueError:
        uid = delivery.task.uid
    # The task keeps its identity, because routes match on it; its content is in the other message.
    names = (
        {name: getattr(root, name) for name in _NAMES}
        if root is not None
        else {"tenant": delivery.tenant, "task_id": ""}
    )
    task = Task(
        uid=uid,
        root_uid=root.uid if root is not None else uid,
        status=COMPLETE,
        end_reason=MERGED,
        is_inferred=True,
        rule=MERGED,
        ended_at=root.last_event_at if root is not None else None,
        **names,
    )
    return msgspec.structs.replace(delivery, task=task, children=(), has_moved=True, moved_to=message_receipt)


def anew(checkpoint: Checkpoint, sink: str, task: Task, root: Task, routes: Routes) -> list[PlannedDelivery]:
    """Return the deliveries of a checkpoint whose message ended before the checkpoint was sent.

    They include the state of the new message: where routes let little through, that may begin with this
    checkpoint.
    """
    found = [x for x in deliveries(task, checkpoint, routes, root=root, is_milestone=True) if x.sink == sink]
    ordering_keys = {x.ordering_key for x in found if x.mode is Mode.CHECKPOINT and x.checkpoint_id == checkpoint.id}
    return [
        x
        for x in found
        if x.ordering_key in ordering_keys and (x.mode is Mode.STATE or x.checkpoint_id == checkpoint.id)
    ]
