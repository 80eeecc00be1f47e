"""Which runs of different traces belong to one task: those that go on with one that waits, and those that messages join.

Rules. A *run* is a box without a box above it and without a task id of its own. Runs meet by the id of a tool call, by their
conversation, by the strand of traces that links of a framework's own messages join, and by a link of their own: of their box, or
of a span above it (the consumer of a queue). Of those that meet
- a run goes on with the one that ended, before it began, waiting for a person: if it begins with the tool call that was left
  open, without a model call before; or, where the wait was said and no tool call was left open, if it is the same agent's.
  Each wait is gone on with by one run, the earliest;
- runs of one strand are one task where they are the same agent's; those of other agents hang below the earliest;
- a run that links to another trace goes on with the same agent's run there, else it hangs below the earliest run that began
  before it. A span that links to several traces (the consumer of a batch) joins nothing.

Theory. What a run is (`Run`) is a function of the facts of its own units, never of what it was joined to; who goes on with
whom is a function of the runs that meet. Both are asked anew whenever they may have changed, so any order comes to the same.
"""

from __future__ import annotations

from heapq import nlargest
from typing import NamedTuple

from spanpost.fold.deeds import last, last_by
from spanpost.fold.facts import Facts
from spanpost.fold.groups import Groups
from spanpost.fold.kin import Kin
from spanpost.fold.placing import box_above
from spanpost.fold.records import DEPTH, Group, Meeting, Run, Segment, Strand, Unit, meeting_key, strand_key
from spanpost.fold.tasks import how_it_waits
from spanpost.fold.work import Key, Shelf

#: Runs remembered of one meeting; of more, those that wait for nobody are forgotten first, the oldest first.
RUNS_CAP = 32
#: Runs of one strand that are joined, the earliest, and as many that link to it; others are tasks of their own.
STRAND_CAP = 256

#: Where runs of one agent meet whose totals are of its lifetime, by the end of its key.
_TOTALS = b"rt"
#: By which rule runs of a meeting go on with one another, the strongest first, by the end of its key.
RULES = {
    b"ra": "the tool call that was left open",
    b"rc": "the conversation's run that waited",
    b"l": "a link to the former's trace",
}


class _Met(NamedTuple):
    """A meeting as it was before."""

    runs: dict[Key, Run]
    guests: dict[Key, Run]
    is_joined: bool


class Joining:
    """The runs that one transaction touches, and those that they meet."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.meetings = Shelf(groups.work, Meeting)
        self.strands = Shelf(groups.work, Strand)
        #: Meetings that changed, and the runs that met there before: whoever goes on as before is left alone.
        self._changed: dict[Key, _Met] = {}
        self._has_moved = False
        #: The runs that changed, and where they are to be found, as what.
        self._wanted: list[tuple[Key, Unit, dict[Key, Run], Key]] = []
        #: The facts of each run of tasks that have several, since they were asked for.
        self._facts: dict[Key, dict[Key, Facts]] = {}

    def flush(self) -> None:
        """Hand what changed to the work."""
        self.meetings.flush()
        self.strands.flush()

    def examine(self) -> None:
        """Find out where the runs that changed are to be found."""
        groups, self._has_moved = self.groups, False
        self._facts.clear()
        for domain, other in groups.links:
            self._tie(domain, other)
        groups.links.clear()
        for key, left in groups.withdrawn.items():
            for meeting in left:
                self._withdraw(meeting, key)
        groups.withdrawn.clear()
        runs, groups.runs = sorted(groups.runs), set()
        for key in runs:
            unit = groups.unit(key)
            wanted = self._wants(key, unit) if unit is not None else None
            if unit is not None and wanted is not None:
                self._wanted.append((key, unit, *wanted))

    def join(self) -> bool:
        """Have runs that changed meet others; return whether one of them is now shown elsewhere."""
        asked = [meeting for _, _, wanted, _ in self._wanted for meeting in wanted]
        self.meetings.want(meeting for meeting in asked if meeting[16:17] != b"l")
        self.strands.want(meeting for meeting in asked if meeting[16:17] == b"l")
        for key, unit, wanted, guest_of in self._wanted:
            self._meet(key, unit, wanted, guest_of)
        self._wanted.clear()
        changed, self._changed = self._changed, {}
        for meeting, before in changed.items():
            self._decide(meeting, before)
        return self._has_moved

    # --- who meets where ----------------------------------------------------------------------------------------------

    def _wants(self, key: Key, unit: Unit) -> tuple[dict[Key, Run], Key] | None:
        """Return the meetings at which a run is to be found, as what, and at which of them as a guest; None while that cannot be said."""
        kin = self.groups.kin(key[:16])
        is_run = unit.is_box and unit.root == key and not unit.task_id and box_above(kin, unit)[1] is None
        if not is_run:
            return {}, b""
        group = self.groups.group(unit.group)
        if group is None:
            return None
        run, meets = self._run(key, unit, group)
        wanted = dict.fromkeys(meets, run)
        # A strand needs no more than who it was and when: what changes with every batch is not written there.
        own, strand = self._strand(key[:16])
        wanted[own] = Run(unit.start_ns, 0, unit.group, unit.agent_name)
        other = self._strand(link)[0] if not strand.is_joined and (link := self._link(kin, key[17:])) else own
        if other == own:
            return wanted, b""
        wanted[other] = wanted[own]
        return wanted, other

    def _meet(self, key: Key, unit: Unit, wanted: dict[Key, Run], guest_of: Key) -> None:
        for meeting in [m for m in unit.meetings if m not in wanted]:
            self._withdraw(meeting, key)
            del unit.meetings[meeting]
            if meeting[16:] == b"l":
                unit.linked_to = b""
            self._show(key, unit)
        for meeting, as_run in wanted.items():
            if self._enter(meeting, key, as_run, is_guest=meeting == guest_of) and meeting not in unit.meetings:
                unit.meetings[meeting] = b""
                self.groups.kin(key[:16]).units.put(key[17:], unit)

    def _run(self, key: Key, unit: Unit, group: Group) -> tuple[Run, list[Key]]:
        """Return what others may go by, and the meetings at which the run is to be found."""
        segment = group.segments.get(key) or Segment()
        facts = group.facts if len(group.segments) <= 1 else self._facts_of(key, unit)
        waits = how_it_waits(facts, segment)
        if segment.waited != (waits > 0) and key in group.segments:
            segment.waited = waits > 0
            self.groups.touch(unit.group, group)
        first, closed = facts.value("first"), segment.ending.closed
        began_with = (first[1], first[2]) if first is not None and first[0] == "tool" else None
        pending = ("", "")
        done = last_by(facts, closed[0]) if closed is not None else last(facts)
        if waits and done.tool is not None and (done.tool.outcome == 1 or done.call is None or done.tool.at > done.call.at):
            pending = (done.tool.name, done.tool.id)
        run = Run(
            segment.start_ns or unit.start_ns,
            closed[0] if closed is not None else 0,
            unit.group,
            unit.agent_name,
            waits,
            pending,
            began_with,
            first is None,
            totals_of(facts, group) if closed is not None else None,
        )
        meets = []
        for call_id in (pending[1], began_with[1] if began_with is not None else ""):
            if call_id:
                meets.append(meeting_key(unit.tenant, b"a", call_id))
        conversation = facts.value("conversation")
        if conversation:
            meets.append(meeting_key(unit.tenant, b"c", conversation))
        if run.totals is not None:
            meets.append(meeting_key(unit.tenant, b"t", facts.value("totals_of")))
        return run, meets

    def _facts_of(self, root: Key, unit: Unit) -> Facts:
        """Return the facts of one run of a task that has several."""
        runs = self._facts.get(unit.group)
        if runs is None:
            runs = self._facts[unit.group] = {}
            self.groups.work.want(self.groups.members(unit.group).units)
            for own in self.groups.members(unit.group).units:
                self.groups.tick()
                one = self.groups.unit(own)
                if one is not None and one.root[:16] == own[:16]:
                    for facts in one.all_facts:
                        runs.setdefault(one.root, Facts()).merge(facts)
        return runs.get(root) or Facts()

    def _enter(self, meeting: Key, key: Key, run: Run, *, is_guest: bool) -> bool:
        if meeting[16:17] == b"l":
            strand = self.strands.get(meeting) or Strand()
            runs = strand.guests if is_guest else strand.runs
            if runs.get(key) == run:
                return True
            self._change(meeting)
            runs[key] = run
            self.strands.put(meeting, strand)
            return key not in self._let_go(meeting, runs)
        runs = self._runs(meeting)
        if runs.get(key) == run:
            return True
        self._change(meeting)
        runs[key] = run
        if len(runs) > RUNS_CAP:
            del runs[min(runs, key=lambda k: (runs[k].waits > 0, runs[k].start_ns, k))]
        self.meetings.put(meeting, self.meetings.get(meeting) or Meeting(runs=runs))
        return True

    def _let_go(self, strand: Key, runs: dict[Key, Run]) -> list[Key]:
        """Have the latest runs of a strand be tasks of their own where it has too many; return them."""
        gone = nlargest(len(runs) - STRAND_CAP, runs, key=lambda k: (runs[k].start_ns, k))
        for key in gone:
            del runs[key]
            unit = self.groups.unit(key)
            if unit is not None and unit.meetings.pop(strand, None) is not None:
                unit.linked_to = b""
                self._show(key, unit)
        return gone

    def _change(self, meeting: Key) -> None:
        """Remember a meeting as it was when it was last decided who goes on with whom."""
        if meeting not in self._changed:
            strand = self.strands.get(meeting) if meeting[16:17] == b"l" else None
            guests, is_joined = (dict(strand.guests), strand.is_joined) if strand is not None else ({}, False)
            self._changed[meeting] = _Met(dict(self._runs(meeting)), guests, is_joined)

    def _withdraw(self, meeting: Key, key: Key) -> None:
        if meeting[16:17] == b"l":
            meeting = self._strand(meeting[:16])[0]
            strand = self.strands.get(meeting)
            if strand is None or not (key in strand.runs or key in strand.guests):
                return
            self._change(meeting)
            if strand.runs.pop(key, None) is None:
                del strand.guests[key]
            self.strands.put(meeting, strand)
            return
        met = self.meetings.get(meeting)
        if met is None or key not in met.runs:
            return
        self._change(meeting)
        del met.runs[key]
        self.meetings.put(meeting, met)
        unit = self.groups.unit(key) if meeting[16:] == _TOTALS else None
        group = self.groups.group(unit.group) if unit is not None else None
        if unit is not None and group is not None and group.before is not None:
            # The task is no run of its own any more: nothing is taken off its total.
            group.before = None
            self.groups.touch(unit.group, group)

    def _runs(self, meeting: Key) -> dict[Key, Run]:
        record = self.strands.get(meeting) if meeting[16:17] == b"l" else self.meetings.get(meeting)
        return record.runs if record is not None else {}

    def _link(self, kin: Kin, span_id: bytes) -> bytes:
        """Return the domain to which a run links: by its box, or the nearest span above it that links anywhere."""
        for _ in range(DEPTH):
            cell = kin.cells.get(span_id)
            if cell is None:
                return b""
            if cell.link or not cell.parent or cell.is_cut:
                return cell.link
            span_id = cell.parent
        return b""

    # --- strands ------------------------------------------------------------------------------------------------------

    def _strand(self, domain: bytes) -> tuple[Key, Strand]:
        """Return the strand of a trace: of those that were joined, the one that speaks for all."""
        strand = Strand()
        for _ in range(DEPTH):
            strand = self.strands.get(strand_key(domain)) or Strand()
            if not strand.into:
                break
            domain = strand.into
        return strand_key(domain), strand

    def _tie(self, domain: bytes, other: bytes) -> None:
        (a, mine), (b, its) = self._strand(domain), self._strand(other)
        if a == b:
            return
        if (-len(its.runs) - len(its.guests), b) < (-len(mine.runs) - len(mine.guests), a):  # the fewer move
            (a, mine), (b, its) = (b, its), (a, mine)
        self._change(a)
        for of, to in ((its.runs, mine.runs), (its.guests, mine.guests)):
            for key, run in of.items():
                self.groups.tick()
                to[key] = run
                unit = self.groups.unit(key)
                if unit is not None and unit.meetings.pop(b, None) is not None:
                    unit.meetings[a] = b""
                    self.groups.kin(key[:16]).units.put(key[17:], unit)
            self._let_go(a, to)
        mine.is_joined, its.into, its.runs, its.guests = True, a[:16], {}, {}
        self.groups.runs.update(mine.runs)  # whoever was a guest elsewhere is so no more
        self.strands.put(a, mine)
        self.strands.put(b, its)

    # --- who goes on with whom ----------------------------------------------------------------------------------------

    def _decide(self, meeting: Key, former: _Met) -> None:
        if meeting[16:17] == b"l":
            strand = self.strands.get(meeting)
            if strand is None:
                return
            on, below, runs = of_links(strand.runs, strand.guests, strand.is_joined)
            was_on, was_below, were = of_links(former.runs, former.guests, former.is_joined)
        elif meeting[16:] == _TOTALS:
            self._take_off(self._runs(meeting))
            return
        else:
            runs, were = self._runs(meeting), former.runs
            on, was_on = continued(runs), continued(were)
            below = was_below = {}
        is_talk = meeting[16:] == b"rc"
        for key in sorted(runs):
            is_held = is_talk and may_go_on(runs, key, on)
            if (
                key in were
                and on.get(key) == was_on.get(key)
                and below.get(key) == was_below.get(key)
                and is_held == (is_talk and may_go_on(were, key, was_on))
            ):
                continue  # not even asked for: a long conversation has many runs
            unit = self.groups.unit(key)
            if unit is None:
                continue
            to = on.get(key, b"")
            if is_talk and unit.is_held != is_held:
                unit.is_held = is_held
                self.groups.kin(key[:16]).units.put(key[17:], unit)
                group = self.groups.group(unit.group)
                if group is not None:
                    self.groups.touch(unit.group, group)
            known = unit.meetings.get(meeting, b"")
            is_linked = meeting[16:17] == b"l" and unit.linked_to != below.get(key, b"")
            if known == to and not is_linked:
                continue
            unit.meetings[meeting] = to
            if is_linked:
                unit.linked_to = below.get(key, b"")
            self._show(key, unit)

    def _take_off(self, runs: dict[Key, Run]) -> None:
        """Say of each run what its agent had used before it: the total of the run that ended before it, unless it is the greater."""
        before: tuple[int, int] | None = None
        for key in sorted(runs, key=lambda key: (runs[key].end_ns, key)):
            totals, group = runs[key].totals, self.groups.group(runs[key].group)
            assert totals is not None
            less = before if before is not None and before[0] <= totals[0] and before[1] <= totals[1] else None
            before = totals
            if group is not None and group.before != less:
                group.before = less
                self.groups.touch(runs[key].group, group)

    def _show(self, key: Key, unit: Unit) -> None:
        """Show a run where its meetings, and links, say."""
        kin = self.groups.kin(key[:16])
        self._has_moved = True
        before, unit.joined, unit.joined_by = unit.joined, b"", ""
        for end, rule in RULES.items():
            for meeting, to in sorted(unit.meetings.items()):
                if to and not unit.joined and meeting[16:] == end:
                    unit.joined, unit.joined_by = to, rule
        if not any(meeting[16:17] == b"l" for meeting in unit.meetings):
            unit.linked_to = b""
        kin.units.put(key[17:], unit)
        if bool(before) != bool(unit.joined):  # where it is shown need not change by it; how its beginning is told does
            self.groups.stale.add(unit.group)
        self.groups.regroup(kin, key[17:])


def totals_of(facts: Facts, group: Group) -> tuple[int, int] | None:
    """Return the lifetime totals that a run told at its end, where no call of it tells tokens."""
    total = facts.value("aggregate")
    if facts.value("totals_of") is None or total is None or group.flow[0]:
        return None
    return (total[0] or 0, total[1] or 0)


def continued(runs: dict[Key, Run]) -> dict[Key, Key]:
    """Return for each run that goes on with another the task of that other."""
    out: dict[Key, Key] = {}
    waiting: list[Key] = []
    for key in sorted(runs, key=lambda key: (runs[key].start_ns, key)):
        run, best = runs[key], b""
        for former in waiting:
            before = runs[former]
            if before.end_ns > run.start_ns or not goes_on(before, run):
                continue
            if not best or (before.end_ns, former) > (runs[best].end_ns, best):
                best = former
        if best:
            waiting.remove(best)
            out[key] = runs[best].group
        if run.waits and run.end_ns:
            waiting.append(key)
    return out


def may_go_on(runs: dict[Key, Run], key: Key, on: dict[Key, Key]) -> bool:
    """Tell whether a run that did nothing yet may turn out to go on with one that waits."""
    run = runs[key]
    if not run.is_idle or run.end_ns or key in on:
        return False
    return any(former.waits and 0 < former.end_ns <= run.start_ns for former in runs.values())


def goes_on(before: Run, run: Run) -> bool:
    """Tell whether a run does what the one that waits left open."""
    name, call_id = before.pending
    if not name and not call_id and before.waits == 2:
        return not before.agent_name or not run.agent_name or before.agent_name == run.agent_name
    if run.began_with is None:
        return False
    its_name, its_id = run.began_with
    if call_id and its_id:
        return call_id == its_id
    return not name or not its_name or name == its_name


def of_links(
    runs: dict[Key, Run], guests: dict[Key, Run], is_joined: bool
) -> tuple[dict[Key, Key], dict[Key, Key], dict[Key, Run]]:
    """Return of a strand and its guests who goes on with which task, who hangs below which, and of whom that says anything."""
    on, below = of_guests(runs, guests)
    if not is_joined:  # of one trace, which its own spans tell
        return on, below, guests
    one, other = of_strand(runs)
    return {**on, **one}, {**below, **other}, {**guests, **runs}


def of_guests(runs: dict[Key, Run], guests: dict[Key, Run]) -> tuple[dict[Key, Key], dict[Key, Key]]:
    """Return for each run that links to a trace the task there that it goes on with, else the one that it hangs below."""
    on: dict[Key, Key] = {}
    below: dict[Key, Key] = {}
    hosts = sorted((run.start_ns, host) for host, run in runs.items())
    by_agent: dict[str, list[tuple[int, Key]]] = {}
    for at in hosts:
        by_agent.setdefault(runs[at[1]].agent_name, []).append(at)
    for key, guest in guests.items():
        began = (guest.start_ns, key)
        same = _earliest(by_agent.get(guest.agent_name, []), began) if guest.agent_name else b""
        if same:
            on[key] = runs[same].group
        elif first := _earliest(hosts, began):
            below[key] = runs[first].group
    return on, below


def _earliest(hosts: list[tuple[int, Key]], began: tuple[int, Key]) -> Key:
    """Return the first of some runs that began before, in another trace; empty for none."""
    return next((host for at, host in hosts if host[:16] != began[1][:16] and (at, host) < began), b"")


def of_strand(runs: dict[Key, Run]) -> tuple[dict[Key, Key], dict[Key, Key]]:
    """Return for each run the task that it goes on with, and for the first run of each agent the task it hangs below."""
    on: dict[Key, Key] = {}
    below: dict[Key, Key] = {}
    first: dict[str, Key] = {}
    for key in sorted(runs, key=lambda key: (runs[key].start_ns, key)):
        agent = runs[key].agent_name
        if agent in first:
            on[key] = runs[first[agent]].group
        else:
            if first:
                below[key] = runs[next(iter(first.values()))].group
            first[agent] = key
    return on, below
