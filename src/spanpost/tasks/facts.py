"""What is known of a task, as values that merge in any order to the same result.

Rules. A fact is kept by *rank*: the greatest (priority, time, key) stands. Maps merge by key, each entry by
rank; a bounded map keeps the entries that sort first. Nothing is appended, counted or overwritten here: sums
are kept at the spans' nodes, where they can be taken back.

Theory. Every operation is commutative, associative and idempotent, so facts form a semilattice: any order
and any repetition of the same observations gives the same facts. The property tests check it.
"""

from __future__ import annotations

from bisect import insort
from typing import Any

import msgspec

#: (priority, time in ns, tie-break) of a fact.
Rank = tuple[int, int, bytes]
#: A fact: rank and value.
Fact = tuple[int, int, bytes, Any]

#: Entries kept of each map. Beyond that, a task shows only counts.
MAP_CAP = 100
#: Tool calls kept: steps are made of them where an agent reports no steps.
ACTS_CAP = 20
#: Maps about questions keep more entries than there are questions: a question whose answer is forgotten
#: would be open again.
_QUESTION_MAPS = frozenset({"answers", "reported", "awaited", "escalations"})
_CAPS = {"acts": ACTS_CAP} | dict.fromkeys(_QUESTION_MAPS, 4 * MAP_CAP)
#: Newest model calls of which the use is kept: a forecast needs seven steps, and instrumentations report a
#: call twice.
POINT_CAP = 10
#: Newest model and tool calls kept with their starts: as many may follow a run's end before its last call is
#: forgotten.
DEED_CAP = 4
#: Characters kept of the end of a log.
LOG_CAP = 8192


#: Input of a model call: (end ns, tie-break, start ns, tokens, model, conversation). The last two name its
#: context window.
Point = tuple[int, bytes, int, int, str, int]
#: A model or tool call that ended: (end ns, tie-break, start ns, is a tool, has failed, outcome, tool's
#: name, call's id).
Deed = tuple[int, bytes, int, bool, bool, int, str, str]


class Ending(msgspec.Struct, omit_defaults=True, gc=False):
    """How a root span ended: each field by rank, so that it merges in any order.

    `said` is an explicit final status: the earliest stands, because final is final. `closed` is the span's
    own end.
    """

    #: (-time, key, status)
    said: tuple[int, bytes, str] | None = None
    #: (end ns, key, outcome, failure type, failure message); outcome: error, cancelled, ok, unset
    closed: tuple[int, bytes, str, str, str] | None = None
    #: The process is gone with the span open: (time, key).
    gone: tuple[int, bytes] | None = None
    #: Its process sent nothing until then: (time, key). It stands until something is received.
    stalled: tuple[int, bytes] | None = None
    #: It has answered and asks for nothing more: (time, key). It stands until something is done after it.
    rested: tuple[int, bytes] | None = None

    def merge(self, other: Ending) -> None:
        """Add what the other knows."""
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
    #: Newest activity (a call, a tool, an event), as opposed to a start.
    active_ns: int = 0
    latest: dict[str, Fact] = {}
    maps: dict[str, dict[str, Fact]] = {}
    ending: Ending = msgspec.field(default_factory=Ending)
    #: The newest calls in order of time; and the largest input that each model accepted.
    points: list[Point] = []
    accepted: dict[str, int] = {}
    #: The newest model and tool calls, in order of time.
    deeds: list[Deed] = []

    def note(self, name: str, priority: int, at_ns: int, key: bytes, value: Any) -> None:
        """Keep the value if it ranks above the known one."""
        known = self.latest.get(name)
        if known is not None:
            # Field by field, not by slices: this runs half a dozen times a span.
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
        """Keep a model call's input if it is among the newest."""
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
        """Keep a call that ended if it is among the newest."""
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
        """Keep the largest input that the model accepted."""
        accepted = self.accepted
        if used > accepted.get(model, 0):
            accepted[model] = used
            if len(accepted) > MAP_CAP:
                del accepted[max(accepted)]

    def enter(self, map_name: str, entry: str, priority: int, at_ns: int, key: bytes, value: Any) -> None:
        """Keep the value in the map if it ranks above the entry's known one."""
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
                del entries[self._entry_to_remove(map_name, entries)]
        elif _is_greater(fact, known):
            entries[entry] = fact

    def _entry_to_remove(self, map_name: str, entries: dict[str, Fact]) -> str:
        """Return the entry to remove from a map with one too many."""
        if map_name == "asks":
            # The newest questions stay: by rank, which only grows, so the result is the same in any order.
            return min(entries, key=lambda e: (*entries[e][:3], e))
        if map_name in _QUESTION_MAPS:
            # A kept question keeps its entries. Of the others the oldest goes.
            asked = set(map(_question_of, self.maps.get("asks", ())))
            spare = [e for e in entries if _question_of(e) not in asked]
            return max(spare or entries, key=lambda e: (entries[e][1], e))
        return max(entries)

    def merge(self, other: Facts) -> None:
        """Add what the other knows."""
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
        """Return the time of the fact (ns), 0 when unknown."""
        known = self.latest.get(name)
        return known[1] if known is not None else 0


def _question_of(entry: str) -> tuple[str, str]:
    """Return the id of the question and the trace that asked it, from the key of an entry."""
    return entry.partition("\0")[0], entry.rpartition("\0")[2]


def _is_greater(fact: Fact, known: Fact) -> bool:
    """Compare by rank alone: values may not be comparable."""
    if fact[0] != known[0]:
        return fact[0] > known[0]
    if fact[1] != known[1]:
        return fact[1] > known[1]
    return fact[2] > known[2]
