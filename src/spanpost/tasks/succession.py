"""Succession: which message shows a task after tasks were merged.

Rules.
1. A message shows one root task, and a root task has one message (in each place that routes name).
2. A task that is merged into another, or becomes a child, gives its message to the root above it, for good,
   if that root has none. If the task becomes a root again, it gets a new message (`given_key`).
3. If the root has a message, the other message ends and names its successor (`takeover`). If its task
   becomes a root again, it gets its own message back.
4. Held checkpoints move the same way.
5. A task that separates from a root with a message is checked again when its own root is announced:
   checkpoints of it may have been planned for a message that was never shown, and are set aside until then.

Theory. No record says who owns an ordering key. Deliveries name the task that they showed first; redirects
lead from there to the task that it was merged into, and that task's row leads to its root. The dispatcher
asks at each claim whether the delivery's message is still the root's, so an early conclusion corrects
itself. This module only reports where to check (`Folded.woken`).
"""

from __future__ import annotations

from uuid import UUID

from msgspec.structs import replace

from spanpost.model.ids import message_of, uuid_of
from spanpost.tasks.amounts import ZERO
from spanpost.tasks.facts import value_of
from spanpost.tasks.folded import Folded
from spanpost.tasks.hierarchy import KeyedTask
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import domain_of, given_key, node_key
from spanpost.tasks.records import Seen, TaskState
from spanpost.tasks.reported import NOWHERE
from spanpost.tasks.work import Key


def is_shown(state: TaskState) -> bool:
    """Tell whether a task is shown: it has a root span, counted calls, or facts beyond attributes."""
    if state.has_root_span or state.amounts.calls > 0 or state.tools.calls or state.metered != ZERO:
        return True
    if state.facts.has_entries(apart_from=("attributes",)):  # routes decide which attributes are kept
        return True
    return value_of(state.facts.status) is not None


def successor_of(states: TaskStates, key: Key) -> KeyedTask | None:
    """Return the task that took over a task's last subtree; if that was merged too, the next one."""
    found: KeyedTask | None = None
    seen = {key}
    state = states.state(key)
    if state is not None and is_shown(state):
        return KeyedTask(key, state)
    while (key := _next(states, key)) and key not in seen:
        seen.add(key)
        state = states.state(key)
        if state is not None:
            found = KeyedTask(key, state)
            if is_shown(state):
                break
    return found


def gone_to(states: TaskStates, key: Key, uid: bytes) -> tuple[UUID, UUID | None]:
    """Return the uid of a task that is gone, and its successor's, if any."""
    successor = successor_of(states, key)
    return uuid_of(uid), uuid_of(successor.state.uid) if successor is not None else None


def _next(states: TaskStates, key: Key) -> Key:
    to = states.went.get(key, b"")
    if to:
        return to
    return states.where_outdone().get(key, b"")


def move_messages(states: TaskStates, out: Folded) -> None:
    """Move the messages of tasks that are gone or no longer roots; collect the tasks to check."""
    for key in sorted(states.went):
        _move_held(states, key, states.dropped.get(key) or states.state(key))
    for key, former in sorted(states.dropped.items()):
        _inherit(states, key, former, out)
    for key in sorted(states.touched):
        state = states.state(key)
        if state is None:
            continue
        if not is_shown(state):
            if state.reported.status:
                _inherit(states, key, state, out)
        elif _has_own(state):
            root = states.root(key, state)
            if root.key != key:
                _take_over(states, key, state, root)


def _has_own(state: TaskState) -> bool:
    """Tell whether a task was a root with a message when it was last shown."""
    before = state.reported
    return before.has_message and before.is_announced and before.shown_below == state.uid


def _inherit(states: TaskStates, key: Key, former: TaskState, out: Folded) -> None:
    """Move a merged task's messages and held checkpoints to its successor."""
    to = successor_of(states, key)
    if former.reported.has_message:
        out.woken.append(uuid_of(to.state.uid if to is not None else former.uid))
    if to is None:
        return
    successor = to.state
    pass_on_held(former, successor)
    if former.reported.has_message:
        shown_below = successor.reported.shown_below or NOWHERE
        successor.reported = replace(successor.reported, has_message=True, shown_below=shown_below)
        if _has_own(former):
            _take_over(states, key, former, states.root(to.key, successor))
            former.reported = replace(former.reported, is_announced=False)  # if it comes back, it is announced again
    states.touch(to.key, successor)


def _take_over(states: TaskStates, key: Key, former: TaskState, to: KeyedTask) -> None:
    """Give a task's message to a root that has none."""
    root = to.state
    if root.reported.is_announced:
        return
    root.reported = replace(
        root.reported,
        message_uid=former.reported.message_uid,
        is_announced=True,
        has_message=True,
        shown_below=root.reported.shown_below or NOWHERE,
    )
    states.touch(to.key, root)
    states.touch_below(to.key)
    if to.key != key:
        given = states.given.get(given_key(key)) or Seen()
        given.at_ns += 1
        states.given.put(given_key(key), given)
        former.reported = replace(former.reported, message_uid=message_of(former.uid, given.at_ns))


def _move_held(states: TaskStates, key: Key, former: TaskState | None) -> None:
    """Move held checkpoints of a task that lost a subtree or a span along with it."""
    if former is None or not former.reported.held:
        return
    stays = []
    for checkpoint in former.reported.held:
        domain = domain_of(former.tenant, checkpoint.trace_id)
        to = states.key_of(node_key(domain, checkpoint.span_id)) if checkpoint.subtree else b""
        successor = states.state(to) if to and to != key else None
        if successor is None:
            stays.append(checkpoint)
        else:
            successor.reported = successor.reported.taking([checkpoint])
            states.touch(to, successor)
    if len(stays) < len(former.reported.held):
        former.reported = replace(former.reported, held=tuple(stays))
        if key not in states.dropped:
            states.states.put(key, former)


def pass_on_held(former: TaskState, successor: TaskState) -> None:
    """Move the held checkpoints and milestones of a task to its successor."""
    if former is not successor and (waits := former.reported.waits):
        successor.reported = successor.reported.taking(waits)
        former.reported = former.reported.holding_nothing()
