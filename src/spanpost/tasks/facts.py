"""What is known of a task, as values that merge in any order to the same result.

Rules. A fact is kept by *rank*: the greatest (priority, time, key) stands. Maps merge by key, each entry by
rank; a bounded map keeps the entries that sort first. Nothing is appended, counted or overwritten here: sums
are kept at the spans' nodes, where they can be taken back.

Theory. Every operation is commutative, associative and idempotent, so facts form a semilattice: any order
and any repetition of the same observations gives the same facts. The property tests check it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import astuple

from spanpost.tasks.fact_values import (
    ActFact,
    CallEnd,
    Deed,
    FailureWords,
    FinalStatus,
    FirstCall,
    KeptAnswer,
    KeptArtifact,
    KeptEvaluation,
    KeptVote,
    LifetimeTokens,
    QuestionFact,
    Sign,
    SpanEnd,
    StepBegin,
    StepNow,
    ToolAct,
    UsePoint,
)
from spanpost.tasks.loop_facts import LoopFacts

#: Entries kept of each map. Beyond that, a task shows only counts.
MAP_CAP = 100
#: Tool calls kept: steps are made of them where an agent reports no steps.
ACTS_CAP = 20
#: Evaluations kept: the newest of people, then the newest of telemetry.
EVALUATIONS_CAP = 50
#: Maps about questions keep more entries than there are questions: a question whose answer is forgotten
#: would be open again.
_QUESTION_MAPS = frozenset({"answers", "claimed_answers", "awaited", "escalations", "votes", "passed_on"})
_CAPS = {"acts": ACTS_CAP, "evaluations": EVALUATIONS_CAP} | dict.fromkeys(_QUESTION_MAPS, 4 * MAP_CAP)
#: Newest model calls of which the use is kept: a forecast needs seven steps, and instrumentations report a
#: call twice.
POINT_CAP = 10
#: Newest model and tool calls kept with their starts: as many may follow a run's end before its last call is
#: forgotten.
DEED_CAP = 4
#: Characters kept of the end of a log.
LOG_CAP = 8192

T = TypeVar("T")


class Fact(msgspec.Struct, Generic[T], frozen=True, array_like=True, gc=False):
    """A value and its rank: priority, time (ns), tie-break."""

    priority: int
    at_ns: int
    key: bytes
    value: T

    @property
    def rank(self) -> tuple[int, int, bytes]:
        return self.priority, self.at_ns, self.key


def newest(known: Fact[T] | None, priority: int, at_ns: int, key: bytes, value: T) -> Fact[T]:
    """Return the known fact, or the new one if it ranks above."""
    if known is not None:
        # Field by field: this runs half a dozen times a span.
        if priority != known.priority:
            if priority < known.priority:
                return known
        elif at_ns != known.at_ns:
            if at_ns < known.at_ns:
                return known
        elif key <= known.key:
            return known
    return Fact(priority, at_ns, key, value)


def value_of(fact: Fact[T] | None) -> T | None:
    """Return the value of a fact; None when unknown."""
    return fact.value if fact is not None else None


def time_of(fact: Fact[Any] | None) -> int:
    """Return the time of a fact (ns); 0 when unknown."""
    return fact.at_ns if fact is not None else 0


class Ending(msgspec.Struct, omit_defaults=True, gc=False):
    """How a root span ended: each field by rank, so that it merges in any order."""

    said: FinalStatus | None = None
    closed: SpanEnd | None = None
    #: The process is gone with the span open.
    gone: Sign | None = None
    #: Its process sent nothing until then. It stands until something is received.
    stalled: Sign | None = None
    #: It has answered and asks for nothing more. It stands until something is done after it.
    rested: Sign | None = None
    #: It said in an event that it stopped at its maximum of steps.
    limited: Sign | None = None

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
        if other.limited is not None and (self.limited is None or other.limited > self.limited):
            self.limited = other.limited


class Facts(msgspec.Struct, omit_defaults=True, gc=False):
    """What is known: single facts, bounded maps, and the ending."""

    first_ns: int = 0
    last_ns: int = 0
    #: Newest activity (a call, a tool, an event), as opposed to a start.
    active_ns: int = 0
    ending: Ending = msgspec.field(default_factory=Ending)
    #: The newest calls in order of time; and the largest input that each model accepted.
    points: list[UsePoint] = []
    accepted: dict[str, int] = {}
    #: The newest model and tool calls, in order of time.
    deeds: list[Deed] = []
    #: The newest calls of an agent run, of which loops are concluded; a task has none of its own.
    loops: LoopFacts | None = None
    # Who works on it.
    name: Fact[str] | None = None
    #: The request, job or message of a queue in which it runs: the nearest span that is one.
    request: Fact[str] | None = None
    #: The same below an owning span: what is done there without an agent may run in it.
    request_below: Fact[str] | None = None
    type: Fact[str] | None = None
    agent_name: Fact[str] | None = None
    agent_id: Fact[str] | None = None
    agent_version: Fact[str] | None = None
    agent_label: Fact[str] | None = None
    repo: Fact[str] | None = None
    topic: Fact[str] | None = None
    requested_by: Fact[str] | None = None
    retry_of: Fact[str] | None = None
    caused_by: Fact[str] | None = None
    order_id: Fact[str] | None = None
    alias: Fact[str] | None = None
    parent_id: Fact[str] | None = None
    service: Fact[str] | None = None
    environment: Fact[str] | None = None
    conversation: Fact[str] | None = None
    model: Fact[str] | None = None
    is_session: Fact[bool] | None = None
    #: A conversation that a coding CLI has with itself.
    is_beside: Fact[bool] | None = None
    # What it does and did.
    call: Fact[CallEnd] | None = None
    tool: Fact[CallEnd] | None = None
    first: Fact[FirstCall] | None = None
    #: The ids of the tool calls that the first model call answers, separated by spaces.
    answered: Fact[str] | None = None
    failure: Fact[FailureWords] | None = None
    aggregate: Fact[LifetimeTokens] | None = None
    totals_of: Fact[str] | None = None
    status: Fact[str] | None = None
    progress: Fact[float] | None = None
    step: Fact[StepNow] | None = None
    step_count: Fact[int] | None = None
    #: What it does now, as reported; the call or step that began last, None once that ended; packed messages.
    action: Fact[str] | None = None
    doing: Fact[Any] | None = None
    #: The last checkpoint that the agent reported; a packed message.
    checkpoint: Fact[Any] | None = None
    is_named: Fact[bool] | None = None
    ask: Fact[str] | None = None
    answer: Fact[str] | None = None
    context_used: Fact[int] | None = None
    context_window: Fact[int] | None = None
    # What happened, and when.
    begun: Fact[bool] | None = None
    idle: Fact[bool] | None = None
    compacted: Fact[bool] | None = None
    interrupt: Fact[bool] | None = None
    metered: Fact[bool] | None = None
    failed_turn: Fact[bool] | None = None
    exception: Fact[bool] | None = None
    # What people asked.
    cancel_asked: Fact[ActFact] | None = None
    pause_asked: Fact[ActFact] | None = None
    mute_asked: Fact[ActFact] | None = None
    # Bounded maps.
    acts: dict[str, Fact[ToolAct]] = {}
    steps: dict[str, Fact[StepBegin]] = {}
    artifacts: dict[str, Fact[KeptArtifact]] = {}
    costs: dict[str, Fact[int]] = {}
    links: dict[str, Fact[str]] = {}
    results: dict[str, Fact[Any]] = {}
    attributes: dict[str, Fact[str]] = {}
    #: Findings that people let be (`Loop.id`), and their counts then.
    dismissed: dict[str, Fact[int]] = {}
    evaluations: dict[str, Fact[KeptEvaluation]] = {}
    # Of questions, by question (`approvals`). `claimed_answers` holds telemetry's answers.
    asks: dict[str, Fact[QuestionFact]] = {}
    answers: dict[str, Fact[KeptAnswer]] = {}
    escalations: dict[str, Fact[int]] = {}
    awaited: dict[str, Fact[bool]] = {}
    claimed_answers: dict[str, Fact[KeptAnswer]] = {}
    votes: dict[str, Fact[KeptVote]] = {}
    passed_on: dict[str, Fact[bool]] = {}

    def point(self, point: UsePoint) -> None:
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
        entries = getattr(self, map_name)
        known = entries.get(entry)
        entries[entry] = newest(known, priority, at_ns, key, value)
        if known is None:
            self._cap(map_name, entries)

    def _cap(self, map_name: str, entries: dict[str, Fact[Any]]) -> None:
        if len(entries) > _CAPS.get(map_name, MAP_CAP):
            del entries[self._entry_to_remove(map_name, entries)]

    def _entry_to_remove(self, map_name: str, entries: dict[str, Fact[Any]]) -> str:
        """Return the entry to remove from a map with one too many."""
        if map_name == "asks":
            # The newest questions stay: by rank, which only grows, so the result is the same in any order.
            return min(entries, key=lambda e: (*entries[e].rank, e))
        if map_name in _QUESTION_MAPS:
            # A kept question keeps its entries. Of the others the oldest goes.
            asked = set(map(_question_of, self.asks))
            spare = [e for e in entries if _question_of(e) not in asked]
            return max(spare or entries, key=lambda e: (entries[e].at_ns, e))
        return max(entries)

    def has_entries(self, *, apart_from: Collection[str]) -> bool:
        """Tell whether any other map has an entry."""
        return any(getattr(self, name) for name in MAPS if name not in apart_from)

    def merge(self, other: Facts, *, is_task: bool = False) -> None:
        """Add what the other knows; a task's facts leave out what is judged for each of its agent runs."""
        if other.loops is not None and not is_task:
            self.loops = self.loops or LoopFacts()
            self.loops.merge(other.loops)
        if other.first_ns and (not self.first_ns or other.first_ns < self.first_ns):
            self.first_ns = other.first_ns
        if other.last_ns > self.last_ns:
            self.last_ns = other.last_ns
        if other.active_ns > self.active_ns:
            self.active_ns = other.active_ns
        values = astuple(other)
        for name, fact in zip(SINGLE, values[_NAME:_ACTS], strict=True):
            if fact is not None:
                known = getattr(self, name)
                if known is None or _is_above(fact, known):
                    setattr(self, name, fact)
        for map_name, entries in zip(MAPS, values[_ACTS:], strict=True):
            if entries:
                self._merge_map(map_name, entries)
        if other.points and other.points != self.points:
            self.points = sorted({*self.points, *other.points})[-POINT_CAP:]
        if other.deeds and other.deeds != self.deeds:
            self.deeds = sorted({*self.deeds, *other.deeds})[-DEED_CAP:]
        if other.accepted and other.accepted != self.accepted:
            for model, used in other.accepted.items():
                self.accept(model, used)
        self.ending.merge(other.ending)

    def _merge_map(self, map_name: str, entries: dict[str, Fact[Any]]) -> None:
        mine = getattr(self, map_name)
        for entry, fact in entries.items():
            known = mine.get(entry)
            if known is None:
                mine[entry] = fact
                self._cap(map_name, mine)
            elif _is_above(fact, known):
                mine[entry] = fact


_FIELDS = Facts.__struct_fields__
_NAME, _ACTS = _FIELDS.index("name"), _FIELDS.index("acts")
#: The single facts, and the bounded maps, in the order of the fields.
SINGLE, MAPS = _FIELDS[_NAME:_ACTS], _FIELDS[_ACTS:]


def _question_of(entry: str) -> tuple[str, str]:
    """Return the id of the question and the trace that asked it, from the key of an entry."""
    return entry.partition("\0")[0], entry.rpartition("\0")[2]


def _is_above(fact: Fact[Any], known: Fact[Any]) -> bool:
    """Tell whether a fact ranks above the known one: by rank alone, as values may not be comparable."""
    if fact.priority != known.priority:
        return fact.priority > known.priority
    if fact.at_ns != known.at_ns:
        return fact.at_ns > known.at_ns
    return fact.key > known.key
