"""Whether a lane is its root task's message, and what becomes of one that is not any more (`handover` says when).

A store asks `carries` whenever it hands out a delivery of state, with the task that the delivery names as it is then. What is not
carried is shown its end (`last`), where it was ever shown, and what news still waited there goes where the task's news goes
now (`anew`). News is asked about as well, in a lane where nothing was ever shown; it is set aside while its root has no message.
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

#: What of a task says which it is, and by which route it goes.
_NAMES = (
    "tenant", "task_id", "aliases", "message_uid", "trace_id", "span_id", "name", "type", "agent_name", "agent_id", "agent_version",
    "service", "environment", "repo", "topic", "requested_by", "session_id", "is_announced", "started_at", "last_event_at",
    "attributes",
)  # fmt: skip


def carries(ordering_key: str, sink: str, address: str, root: Task, routes: Routes) -> bool:
    """Tell whether a lane is where a root task's message stands."""
    if not root.is_announced or ordering_key != ordering_key_of(sink, address, root):
        return False
    if sink not in routes.sinks:  # nobody says where its messages go
        return True
    if any(route.address == address for route in chosen(root, routes, sink=sink)):
        return True
    # What asks for a passing state: its message stays when that has passed.
    return any(r.match.is_passing for r in routes.routes if (r.sink, r.address) == (sink, address))


def ordering_key_of(sink: str, address: str, root: Task) -> str:
    """Return the lane of a root task's message in one place."""
    return f"{sink}|{address}|{root.message_uid or root.uid}"


def ordering_keys_of(sink: str, root: Task, routes: Routes) -> Iterator[str]:
    """Yield the lanes in which a root task's message stands by now, those for good first."""
    found = sorted(chosen(root, routes, sink=sink), key=lambda route: route.match.is_passing)
    yield from (ordering_key_of(sink, route.address, root) for route in found)


def last(delivery: Delivery, root: Task | None, installed_apps: Receipt | None) -> Delivery:
    """Return a delivery of state as the end of its message (`Delivery.has_moved`); `root` is where it went on, if that is known."""
    ordering_key_uid = delivery.ordering_key.rpartition("|")[2]
    try:
        uid = UUID(ordering_key_uid)
    except ValueError:
        uid = delivery.task.uid
    # Which task it is stays, because routes go by it; what the other message tells is not told twice.
    names = {name: getattr(root, name) for name in _NAMES} if root is not None else {"tenant": delivery.tenant, "task_id": ""}
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
    return msgspec.structs.replace(delivery, task=task, children=(), has_moved=True, moved_to=installed_apps)


def anew(checkpoint: Checkpoint, sink: str, task: Task, root: Task, routes: Routes) -> list[PlannedDelivery]:
    """Return the deliveries by which news goes that was addressed to a message that ended before it was told.

    With it the state of the message below which it is told: where routes let little through, that may begin with this news.
    """
    found = [x for x in deliveries(task, checkpoint, routes, root=root, is_milestone=True) if x.sink == sink]
    ordering_keys = {x.ordering_key for x in found if x.mode is Mode.CHECKPOINT and x.checkpoint_id == checkpoint.id}
    return [x for x in found if x.ordering_key in ordering_keys and (x.mode is Mode.STATE or x.checkpoint_id == checkpoint.id)]
