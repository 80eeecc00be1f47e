"""The tasks of a batch and their units, and which task hangs below which.

Rules. A task hangs below the task of the box above its leader. Where several segments say another, the earliest that has a
parent stands. The root of a task is the topmost of those above it, of which `DEPTH` are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spanpost.fold.kin import Kin
from spanpost.fold.placing import box_above
from spanpost.fold.records import DEPTH, Group, Members, Offspring, Seen, Unit, given_key, members_key, offspring_key
from spanpost.fold.work import Key, Shelf, Work

#: Tasks whose rows are made anew at once because of a task above them.
BELOW_CAP = 10_000


class Kins(dict[bytes, Kin]):
    """The kin of each trace domain."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self._tick = tick

    def __missing__(self, domain: bytes) -> Kin:
        kin = self[domain] = Kin(self._work, domain, self._tick)
        return kin


class Family:
    """The records of the tasks that one transaction touches, and how they are related."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        self.work = work
        #: Called in each loop over what may be much: whoever waits for the fold may end it there.
        self.tick = tick
        self.kins = Kins(work, tick)
        self.groups = Shelf(work, Group)
        # By domain and by key. Asked for a dozen times a span, so that what is at hand is found without a call of ours.
        self.kin: Callable[[bytes], Kin] = self.kins.__getitem__
        self.group: Callable[[Key], Group | None] = self.groups.__getitem__
        self._members = Shelf(work, Members)
        self._offspring = Shelf(work, Offspring)
        #: How often a task's message was taken over, by `given_key`.
        self.given = Shelf(work, Seen)
        #: Tasks whose row may have changed.
        self.touched: dict[Key, None] = {}
        #: Tasks below which rows are to be made anew, and how far down that was done by now.
        self._to_touch: dict[Key, None] = {}
        self._levels: dict[Key, int] = {}

    # --- records --------------------------------------------------------------------------------------------------

    def unit(self, key: Key) -> Unit | None:
        """Return a unit by its whole key."""
        return self.kin(key[:16]).units.get(key[17:])

    def key_of(self, cell: Key) -> Key:
        """Return the key of the task in which a span (by its cell's key) is shown now; empty for none."""
        kin = self.kin(cell[:16])
        unit = kin.units.get(kin.boundary(cell[17:]))
        return unit.group if unit is not None else b""

    def group_of(self, domain: bytes, span_id: bytes) -> Group | None:
        """Return the task in which a span is shown now."""
        kin = self.kin(domain)
        unit = kin.units.get(kin.boundary(span_id))
        return self.group(unit.group) if unit is not None else None

    def members(self, key: Key) -> Members:
        return self._members.get(members_key(key)) or Members()

    def put_members(self, key: Key, members: Members) -> None:
        """Keep a task's units; a task without units has no such record."""
        if members.units:
            self._members.put(members_key(key), members)
        else:
            self._members.drop(members_key(key))

    def offspring(self, key: Key) -> Offspring:
        return self._offspring.get(offspring_key(key)) or Offspring()

    def put_offspring(self, key: Key, offspring: Offspring) -> None:
        self._offspring.put(offspring_key(key), offspring)

    def touch(self, key: Key, group: Group) -> None:
        self.groups.put(key, group)
        self.touched[key] = None

    def want(self, keys: Iterable[Key]) -> None:
        """Say that tasks, their units and those below them will be asked for."""
        asked = [key for key in dict.fromkeys(keys) if key and key not in self.groups]
        if asked:
            self.work.want([of(key) for key in asked for of in (bytes, members_key, offspring_key, given_key)])

    def forget(self, key: Key) -> None:
        """Drop a task that is no more."""
        self.groups.drop(key)
        self._offspring.drop(offspring_key(key))
        self.touched.pop(key, None)

    def flush(self) -> None:
        """Hand all that changed to the work."""
        for kin in self.kins.values():
            kin.flush()
        for shelf in (self.groups, self._members, self._offspring, self.given):
            shelf.flush()

    # --- who hangs below whom -----------------------------------------------------------------------------------------

    def relate(self, kin: Kin, unit: Unit) -> None:
        """Hang a leader's task below the task of the box above it."""
        group = self.group(unit.group)
        if group is None:
            return
        above = box_above(kin, unit)[1]
        # A run that goes on with another hangs where that one does.
        linked_to = b"" if unit.joined else unit.linked_to
        parent = above.group if above is not None else linked_to
        if parent == unit.group:
            parent = b""
        rank = (unit.start_ns, unit.root)
        has_changed, unit.parent_group = unit.parent_group != parent, parent
        if has_changed:
            self.kin(unit.root[:16]).units.put(unit.root[17:], unit)
        if group.parent and group.parent_rank[1] == unit.root and (has_changed or group.parent_rank != rank):
            self._hang(unit.group, group, *self._earliest_parent(unit.group))
        elif parent and (not group.parent or rank < group.parent_rank):
            self._hang(unit.group, group, parent, rank)

    def _earliest_parent(self, key: Key) -> tuple[Key, tuple[int, Key]]:
        """Return the parent that the earliest segment with one says, and that segment's rank."""
        found: tuple[tuple[int, Key], Key] | None = None
        for own in self.members(key).units:
            unit = self.unit(own)
            if unit is not None and unit.root == own and unit.parent_group:
                rank = (unit.start_ns, own)
                if found is None or rank < found[0]:
                    found = (rank, unit.parent_group)
        return (found[1], found[0]) if found is not None else (b"", (0, b""))

    def _hang(self, key: Key, group: Group, parent: Key, rank: tuple[int, Key]) -> None:
        group.parent_rank = rank
        if parent != group.parent:
            if group.parent:
                siblings = self.offspring(group.parent)
                siblings.at_work.pop(key, None)
                if siblings.tasks.pop(key, None) is not None:
                    self.put_offspring(group.parent, siblings)
                    self.touched[group.parent] = None
            group.parent = parent
            if parent:
                siblings = self.offspring(parent)
                siblings.tasks[key] = group.is_failed
                self.put_offspring(parent, siblings)
                self.touched[parent] = None
        self.touch(key, group)
        self.touch_below(key)

    def root(self, key: Key, group: Group) -> tuple[Key, Group]:
        """Return the topmost task above; where tasks hang in a circle, the one whose key sorts first."""
        seen = {key: group}
        while group.parent and len(seen) < DEPTH:
            if group.parent in seen:
                # Of the circle alone: what hangs below it is no part of it, and has the same root.
                way = list(seen)
                key = min(way[way.index(group.parent) :])
                return key, seen[key]
            above = self.group(group.parent)
            if above is None:
                break
            key, group = group.parent, above
            seen[key] = group
        return key, group

    def touch_below(self, key: Key) -> None:
        """Have the rows of a task's child tasks made anew, by `touch_all_below`: what they say of their root has changed."""
        self._to_touch[key] = None

    def touch_all_below(self) -> list[Key]:
        """Touch what lies below the tasks that `touch_below` named, as far down as a root is looked for; return what was not before."""
        waiting = [(key, DEPTH) for key in self._to_touch]
        self._to_touch.clear()
        new = []
        for at, levels in waiting:  # grows while it is walked: level by level, so that no task is met from farther above later
            self.tick()
            if self._levels.get(at, 0) >= levels or len(waiting) > BELOW_CAP:
                continue
            self._levels[at] = levels
            below = self.offspring(at).tasks
            self.want(below)
            for child in below:
                if child not in self.touched:
                    self.touched[child] = None
                    new.append(child)
                waiting.append((child, levels - 1))
        return new
