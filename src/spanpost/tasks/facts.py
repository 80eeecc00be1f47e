"""What is known of a task, as values that merge in any order to the same result.

Rules. A fact is kept by *rank*: the greatest (priority, time, key) stands. Maps merge by key, each entry by rank; where a
map is bounded, the entries that sort first stay. Nothing is ever appended, counted or overwritten here: sums live in
cells, where they can be taken back.

Theory. Every operation is commutative, associative and idempotent, so facts form a semilattice: any order and any
repetition of the same observations gives the same facts. That is the whole proof behind "any order gives the same task",
and the property tests hold it.
"""

from __future__ import annotations

from bisect import insort
from typing import Any

import msgspec

#: (priority, time in ns, tie-break) of a fact.
Rank = tuple[int, int, bytes]
#: A fact: rank and value.
Fact = tuple[int, int, bytes, Any]

#: Entries kept of each map. A task with more is told by its counts.
MAP_CAP = 100
#: Of tool calls, from which steps are made where an agent tells none.
ACTS_CAP = 20
#: What belongs to questions is kept of more of them than are kept: one whose answer is forgotten would be open again.
_OF_QUESTIONS = frozenset({"answers", "told", "awaited", "escalations"})
_CAPS = {"acts": ACTS_CAP} | dict.fromkeys(_OF_QUESTIONS, 4 * MAP_CAP)
#: Model calls of which use is kept, the newest: a forecast looks at seven steps, and layers tell of one call twice.
POINT_CAP = 10
#: Model and tool calls kept with their beginnings, the newest: so many may follow a run's end until nothing is known of its last.
DEED_CAP = 4
#: Characters kept of the end of a log.
LOG_CAP = 8192


#: What a model call was given: (end ns, tie-break, start ns, tokens, model, conversation). Model and conversation are its lane.
Point = tuple[int, bytes, int, int, str, int]
#: A model or tool call that ended: (end ns, tie-break, start ns, is a tool, has failed, outcome, tool's name, call's id); see `deeds`.
Deed = tuple[int, bytes, int, bool, bool, int, str, str]


class Ending(msgspec.Struct, omit_defaults=True, gc=False):
    """How a box ended: each field by rank, so that it merges in any order.

    `said` is an explicit final status: the earliest stands, because final is final. `closed` is the box's own end.
    """

    #: (-time, key, status, reason)
    said: tuple[int, bytes, str] | None = None
    #: (end ns, key, outcome, failure type, failure message); outcome: error, cancelled, ok, unset
    closed: tuple[int, bytes, str, str, str] | None = None
    #: The process is gone with the span open: (time, key).
    gone: tuple[int, bytes] | None = None
    #: Its process was silent until then: (time, key). It stands while nothing was heard since.
    stalled: tuple[int, bytes] | None = None
    #: It has answered and asks for nothing more: (time, key). It stands while nothing is done after it.
    rested: tuple[int, bytes] | None = None

    def merge(self, other: Ending) -> None:
        """Take in what the other knows."""
        if other.said is not None and (self.said is None or other.said > self.said):
            self.said = other.said
        if other.closed is not None and (self.closed is None or other.closed > self.closed):
            self.closed = other.closed
        if other.gone is not None and (self.gone is None or other.gone > self.gone):
            self.gone = other.gone
        if other.stalled is not None and (self.stalled is None or other.stalled > self.stalled):
            self.stalled = other.stalled
        if other.rested is not None and (self.rested is None or other.rested > self.rested):
            self.rested = other.rested


class Facts(msgspec.Struct, omit_defaults=True, gc=False):
    """Facts by name, bounded maps by name, and the ending."""

    first_ns: int = 0
    last_ns: int = 0
    #: Newest sign of work (a call, a tool, an event), as opposed to a start.
    active_ns: int = 0
    latest: dict[str, Fact] = {}
    maps: dict[str, dict[str, Fact]] = {}
    ending: Ending = msgspec.field(default_factory=Ending)
    #: The newest calls, in order of time; and the largest input that each model accepted.
    points: list[Point] = []
    accepted: dict[str, int] = {}
    #: The newest model and tool calls, in order of time.
    deeds: list[Deed] = []

    def note(self, name: str, priority: int, at_ns: int, key: bytes, value: Any) -> None:
        """Keep the value if it ranks above what is known under the name."""
        known = self.latest.get(name)
        if known is not None:
            # By turns, not as slices: this is asked half a dozen times a span.
            if priority != known[0]:
                if priority < known[0]:
                    return
            elif at_ns != known[1]:
                if at_ns < known[1]:
                    return
            elif key <= known[2]:
                return
        self.latest[name] = (priority, at_ns, key, value)

    def point(self, point: Point) -> None:
        """Keep what a model call was given, if it is among the newest."""
        points = self.points
        if not points or point > points[-1]:
            points.append(point)
        elif point in points:
            return
        else:
            insort(points, point)
        if len(points) > POINT_CAP:
            del points[0]

    def deed(self, deed: Deed) -> None:
        """Keep a call that ended, if it is among the newest."""
        deeds = self.deeds
        if not deeds or deed > deeds[-1]:
            deeds.append(deed)
        elif deed in deeds:
            return
        else:
            insort(deeds, deed)
        if len(deeds) > DEED_CAP:
            del deeds[0]

    def accept(self, model: str, used: int) -> None:
        """Keep how large an input the model accepted, if none was larger."""
        accepted = self.accepted
        if used > accepted.get(model, 0):
            accepted[model] = used
            if len(accepted) > MAP_CAP:
                del accepted[max(accepted)]

    def enter(self, map_name: str, entry: str, priority: int, at_ns: int, key: bytes, value: Any) -> None:
        """Keep the value in the map if it ranks above what is known under the entry."""
        self._enter(map_name, entry, (priority, at_ns, key, value))

    def _enter(self, map_name: str, entry: str, fact: Fact) -> None:
        entries = self.maps.get(map_name)
        if entries is None:
            entries = self.maps[map_name] = {}
        known = entries.get(entry)
        if known is None:
            entries[entry] = fact
            cap = _CAPS.get(map_name, MAP_CAP)
            if len(entries) > cap:
                del entries[self._spare(map_name, entries)]
        elif _is_greater(fact, known):
            entries[entry] = fact

    def _spare(self, map_name: str, entries: dict[str, Fact]) -> str:
        """Return the entry that goes, of a map with one too many."""
        if map_name == "asks":
            # Of questions the newest stay: by rank, which only grows, so that this too is the same in any order.
            return min(entries, key=lambda e: (*entries[e][:3], e))
        if map_name in _OF_QUESTIONS:
            # A question that is kept keeps what belongs to it. Of the others the oldest goes.
            asked = set(map(_asking, self.maps.get("asks", ())))
            spare = [e for e in entries if _asking(e) not in asked]
            return max(spare or entries, key=lambda e: (entries[e][1], e))
        return max(entries)

    def merge(self, other: Facts) -> None:
        """Take in what the other knows."""
        if other.first_ns and (not self.first_ns or other.first_ns < self.first_ns):
            self.first_ns = other.first_ns
        if other.last_ns > self.last_ns:
            self.last_ns = other.last_ns
        if other.active_ns > self.active_ns:
            self.active_ns = other.active_ns
        latest = self.latest
        if not latest:
            latest.update(other.latest)
        else:
            for name, fact in other.latest.items():
                known = latest.get(name)
                if known is None or (known is not fact and fact[:3] > known[:3]):
                    latest[name] = fact
        if other.maps:
            for map_name, entries in other.maps.items():
                mine = self.maps.get(map_name, {})
                for entry, fact in entries.items():
                    known = mine.get(entry)
                    if known is None or (known is not fact and fact[:3] > known[:3]):
                        self._enter(map_name, entry, fact)
        if other.points and other.points != self.points:
            self.points = sorted({*self.points, *other.points})[-POINT_CAP:]
        if other.deeds and other.deeds != self.deeds:
            self.deeds = sorted({*self.deeds, *other.deeds})[-DEED_CAP:]
        if other.accepted and other.accepted != self.accepted:
            for model, used in other.accepted.items():
                self.accept(model, used)
        self.ending.merge(other.ending)

    def value(self, name: str) -> Any:
        """Return the value under the name, or None."""
        known = self.latest.get(name)
        return known[3] if known is not None else None

    def at(self, name: str) -> int:
        """Return when the fact was (ns), 0 when unknown."""
        known = self.latest.get(name)
        return known[1] if known is not None else 0


def _asking(entry: str) -> tuple[str, str]:
    """Return the id of a question and the trace that asked it, of an entry about it."""
    return entry.partition("\0")[0], entry.rpartition("\0")[2]


def _is_greater(fact: Fact, known: Fact) -> bool:
    """Compare by rank alone: values need not be comparable."""
    if fact[0] != known[0]:
        return fact[0] > known[0]
    if fact[1] != known[1]:
        return fact[1] > known[1]
    return fact[2] > known[2]
