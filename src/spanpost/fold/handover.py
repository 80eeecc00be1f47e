"""Whose message is whose, when tasks turn out to be one.

Rules.
1. A message tells of one root task, and a root task has one message (in each place that routes name).
2. What becomes part of another task, or comes to hang below one, hands its message to the root above it, for good, where that
   has none. Its own message, should it be a root again, is a new one (`given_key`).
3. Where the root has a message, the other one ends: it says where it went on (`carrying`). Should its task be a root again,
   the message is its own again.
4. News that was held back for want of a message goes the same way.
5. What comes loose from a root that had a message is looked at once more when its own root is announced: some news of it may have
   been on its way to a message that was never shown, and is set aside until then.

Theory. Nobody is told who owns a lane. A lane's letters name the task that it told of first; redirects lead from there to the task
that this became part of, and that task's row to its root. Whether the root's message is this very lane is asked whenever a letter
of it is handed out: so what was concluded too early is put right by looking again, and all that is told here is where to
look (`Folded.woken`).
"""

from __future__ import annotations

from spanpost.domain.checkpoints import Checkpoint
from spanpost.fold.batch import Folded
from spanpost.fold.flow import ZERO
from spanpost.fold.groups import Groups
from spanpost.fold.ids import message_of, uuid_of
from spanpost.fold.records import NOWHERE, Group, Seen, cell_key, domain_of, given_key
from spanpost.fold.work import Key

#: News held back for a task that is not announced yet; older news gives way.
HELD_CAP = 50


def is_shown(group: Group) -> bool:
    """A task without a box is shown when something was done in it that counts."""
    if group.has_box or group.flow[0] > 0 or any(group.tools) or group.metered != ZERO:
        return True
    if group.facts.maps.keys() - {"attributes"}:  # which of these are kept is a matter of routes
        return True
    return group.facts.value("status") is not None


def heir_of(groups: Groups, key: Key) -> tuple[Key, Group | None]:
    """Return the task that took over what another lost last; of one that handed it on, the next."""
    found: tuple[Key, Group | None] = b"", None
    seen = {key}
    group = groups.group(key)
    if group is not None and is_shown(group):
        return key, group
    while (key := _next(groups, key)) and key not in seen:
        seen.add(key)
        group = groups.group(key)
        if group is not None:
            found = key, group
            if is_shown(group):
                break
    return found


def _next(groups: Groups, key: Key) -> Key:
    to = groups.went.get(key, b"")
    if to:
        return to
    return groups.where_outdone().get(key, b"")


def hand_over(groups: Groups, out: Folded) -> None:
    """Have the messages of tasks that are no more, or no root any more, go where they belong; tell which lanes are concerned."""
    for key in sorted(groups.went):
        _lead_held(groups, key, groups.dropped.get(key) or groups.group(key))
    for key, former in sorted(groups.dropped.items()):
        _inherit(groups, key, former, out)
    for key in sorted(groups.touched):
        group = groups.group(key)
        if group is None:
            continue
        if not is_shown(group):
            if group.status:
                _inherit(groups, key, group, out)
        elif _has_own(group):
            root_key, root = groups.root(key, group)
            if root_key != key:
                _take_over(groups, key, group, root_key, root)


def _has_own(group: Group) -> bool:
    """Tell whether a task was a root with a message when it was shown last."""
    return group.has_message and group.is_announced and group.shown_below == group.uid


def _inherit(groups: Groups, key: Key, former: Group, out: Folded) -> None:
    """Have the task that took over what there was of another look after its messages and what was held of its news."""
    heir_key, heir = heir_of(groups, key)
    if former.has_message:
        out.woken.append(uuid_of(heir.uid if heir is not None else former.uid))
    if heir is None:
        return
    pass_on_held(former, heir)
    if former.has_message:
        heir.has_message, heir.shown_below = True, heir.shown_below or NOWHERE
        if _has_own(former):
            _take_over(groups, key, former, *groups.root(heir_key, heir))
            former.is_announced = False  # should something come of it after all, it is announced anew
    groups.touch(heir_key, heir)


def _take_over(groups: Groups, key: Key, former: Group, root_key: Key, root: Group) -> None:
    """Give a task's message to a root that has none."""
    if root.is_announced:
        return
    root.message_uid, root.is_announced, root.has_message = former.message_uid, True, True
    root.shown_below = root.shown_below or NOWHERE
    groups.touch(root_key, root)
    groups.touch_below(root_key)
    if root_key != key:
        given = groups.given.get(given_key(key)) or Seen()
        given.at_ns += 1
        groups.given.put(given_key(key), given)
        former.message_uid = message_of(former.uid, given.at_ns)


def _lead_held(groups: Groups, key: Key, former: Group | None) -> None:
    """Have news that was held in a task that lost a part go with that part."""
    if former is None or not former.held:
        return
    stays = []
    for checkpoint in former.held:
        domain = domain_of(former.tenant, checkpoint.trace_id)
        to = groups.key_of(cell_key(domain, checkpoint.unit)) if checkpoint.unit else b""
        heir = groups.group(to) if to and to != key else None
        if heir is None:
            stays.append(checkpoint)
        else:
            _hold(heir, [checkpoint])
            groups.touch(to, heir)
    if len(stays) < len(former.held):
        former.held = stays
        if key not in groups.dropped:
            groups.groups.put(key, former)


def pass_on_held(former: Group, heir: Group) -> None:
    """Hand on what was held of a task's news: until it is announced, or until its time has come."""
    waits = [held.checkpoint for held in former.held_back.values() if held.checkpoint is not None]
    if former is heir or not (former.held or waits):
        return
    _hold(heir, [*former.held, *waits])
    former.held, former.held_back = [], {}


def _hold(heir: Group, news: list[Checkpoint]) -> None:
    known = {c.id for c in heir.held}
    heir.held = sorted([*heir.held, *(c for c in news if c.id not in known)], key=lambda c: (c.at, c.id))[-HELD_CAP:]
