"""Dialects as data, and how they become look-up tables.

Rules. A dialect declares which attribute holds which field, which attribute states what a span is and by
which words, and a `refine` function for what data cannot express. Dialects are ordered; of two with the same
field, or a word for the kind of a span, the earlier wins. A dialect with `scopes` applies only to spans
whose instrumentation scope begins so, and comes before the general ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spanpost.model.observations import Observation
from spanpost.model.readings import Finish, Reading, Role
from spanpost.readers import values as v
from spanpost.readers.unseen import WORDS, shape_of
from spanpost.readers.used import used

Coerce = Callable[[Any], Any]

#: Fields of `Reading` that attributes state as they are, and how each is converted.
DIRECT: dict[str, Coerce] = {
    "task_id": v.identifier,
    "task_alias": v.identifier,
    "task_name": v.text,
    "task_type": v.text,
    "task_parent_id": v.identifier,
    "agent_id": v.agent_id,
    "agent_version": v.text,
    "repo": v.text,
    "topic": v.text,
    "requested_by": v.text,
    "retry_of": v.identifier,
    "caused_by": v.identifier,
    "order_id": v.identifier,
    "conversation_id": v.conversation,
    "tool_name": v.text,
    "tool_call_id": v.identifier,
    "status": v.status,
    "progress": v.percent,
    "action": v.text,
    "step_name": v.text,
    "step_index": v.count,
    "step_count": v.count,
    "context_used": v.count,
    "context_window": v.count,
    "provider": v.text,
    "cost_usd": v.money,
}
#: Fields from which the interpreter makes others.
INNER: dict[str, Coerce] = {
    "agent": v.name,
    "workflow": v.name,
    "model_answered": v.text,
    "model_asked": v.text,
    "response": v.response,
    "finish": v.finish,
    "input": v.count,
    "output": v.count,
    "cache_read": v.count,
    "cache_write": v.count,
    "reasoning": v.count,
    "cost": v.money,
    "used": used,
    "compacted": v.truth,
    "total_input": v.count,
    "total_output": v.count,
    "total_cache_read": v.count,
    "total_cache_write": v.count,
    "total_reasoning": v.count,
    "error_type": v.text,
    "error_message": v.long_text,
}


#: Short texts and plain numbers, which most values are, are taken without a call.
SHORT_TEXT, PLAIN_NUMBER = 1, 2
_SHORTCUTS: dict[Coerce, int] = {v.text: SHORT_TEXT, v.identifier: SHORT_TEXT, v.count: PLAIN_NUMBER}


@dataclass(slots=True)
class ReadSpan:
    """A span while it is read.

    `refine` functions change role, rule, `said` (fields of the reading) and `inner`.
    """

    observation: Observation
    attributes: Mapping[str, Any]
    said: dict[str, Any]
    inner: dict[str, Any]
    role: Role = Role.OTHER
    rule: str = ""
    finish: Finish = Finish.UNKNOWN
    #: A STEP that is the top of its trace is a workflow (rule R1.7), unless its kind says that it is a leaf.
    is_leaf: bool = False
    #: `input` excludes tokens read from and written to the cache.
    excludes_cache: bool = False
    #: The totals on a root span count from when its agent was made.
    is_lifetime: bool = False


Refine = Callable[[ReadSpan], None]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One vocabulary. `fields` maps a field of `DIRECT` or `INNER` to attribute names, best first."""

    name: str
    #: Its source, with version: a package, or a page of conventions.
    source: str = ""
    #: Facts that it does not state, for people who miss a figure.
    cannot_tell: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The attribute that states what a span is, its words, and the role of any other word (None: it decides
    #: nothing).
    kind: str = ""
    roles: Mapping[str, Role] = field(default_factory=dict)
    otherwise: Role | None = None
    #: Span names that decide what a span is, where no attribute does.
    names: Mapping[str, Role] = field(default_factory=dict)
    #: Prefixes of the instrumentation scopes to which this dialect is limited; empty: it applies to all.
    scopes: tuple[str, ...] = ()
    #: Attributes that do not make a span an agent's by themselves (HTTP spans carry them too).
    weak: frozenset[str] = frozenset()
    #: Attributes that are no fields and still make a span an agent's: `refine` reads them.
    marks: frozenset[str] = frozenset()
    #: Totals on root spans are those of the agent's lifetime, not of the run: the use before the run is
    #: subtracted when shown.
    has_lifetime_totals: bool = False
    #: Called when the dialect's word, or a name, decided; for a dialect with scopes, for each of their spans.
    refine: Refine | None = None
    #: Reads the spans of its scopes in place of all tables: those of a coding CLI stand for what its records tell.
    reads: Callable[[Observation], Reading] | None = None


#: (attribute, field, conversion, whether it is a field of the reading)
Take = tuple[str, str, Coerce, bool]


class Plan(NamedTuple):
    """The steps to read spans that have the same attributes, in the same order."""

    #: None of them is an agent's: only the span's name is left.
    is_silent: bool
    #: Fields that one attribute alone states: as short text, as plain numbers, and as neither.
    texts: tuple[Take, ...]
    numbers: tuple[Take, ...]
    others: tuple[Take, ...]
    #: Fields that several attributes state, best first: the first usable value wins. The number is the
    #: shortcut for plain values.
    rivals: tuple[tuple[str, str, Coerce, bool, int], ...]
    #: ``agent.*`` attributes that are no fields: links and results.
    extras: tuple[str, ...]
    #: Those of the tables' kinds that the span has.
    kinds: tuple[tuple[str, Mapping[str, Role], Role | None, Refine | None], ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """The dialects that apply to one scope, compiled."""

    #: attribute → (field, rank, conversion, whether it is a field of the reading, shortcut)
    keys: Mapping[str, tuple[str, int, Coerce, bool, int]]
    #: Attributes of which at least one makes a span worth reading.
    marks: frozenset[str]
    #: (attribute, its words, role of other words, the dialect's `refine`)
    kinds: tuple[tuple[str, Mapping[str, Role], Role | None, Refine | None], ...]
    #: `refine` of the dialects of this very scope: called for each of its spans, which are read even without
    #: a mark.
    refines: tuple[Refine, ...]
    is_vendor: bool
    has_lifetime_totals: bool
    #: Span name → (dialect, role, `refine`).
    names: Mapping[str, tuple[str, Role, Refine | None]]
    reads: Callable[[Observation], Reading] | None
    #: Plans of the few sorts of spans that a program makes over and over.
    plans: Plans


class Plans(dict[tuple[str, ...], "Plan"]):
    """Plans by the names of the attributes. All together they hold at most `_NAMES` names."""

    __slots__ = ("_names_left",)

    def __init__(self) -> None:
        super().__init__()
        self._names_left = _NAMES

    def remember(self, names: tuple[str, ...], plan: Plan) -> None:
        """Keep a plan; when it is full, drop all others."""
        self._names_left -= len(names) + 1
        if self._names_left < 0:
            self.clear()
            self._names_left = _NAMES
        self[names] = plan


def own_dialects(dialects: tuple[Dialect, ...], scope: str) -> tuple[Dialect, ...]:
    """Return the dialects that apply to this scope and not to all."""
    return tuple([d for d in dialects if d.scopes and scope.startswith(d.scopes)])


def compile_tables(dialects: tuple[Dialect, ...], scope: str) -> Tables:
    """Return the tables for a scope."""
    own = own_dialects(dialects, scope)
    applying = [dialects[0], *own, *(d for d in dialects[1:] if not d.scopes)]
    keys: dict[str, tuple[str, int, Coerce, bool, int]] = {}
    marks: set[str] = set()
    for order, dialect in enumerate(applying):
        for name, attributes in dialect.fields.items():
            is_direct = name in DIRECT
            coerce = DIRECT[name] if is_direct else INNER[name]
            for place, attribute in enumerate(attributes):
                keys.setdefault(attribute, (name, order * 32 + place, coerce, is_direct, _SHORTCUTS.get(coerce, 0)))
                if attribute not in dialect.weak:
                    marks.add(attribute)
        marks |= dialect.marks
        if dialect.kind:
            marks.add(dialect.kind)
    return Tables(
        keys=keys,
        marks=frozenset(marks),
        kinds=tuple((d.kind, d.roles, d.otherwise, None if d.scopes else d.refine) for d in applying if d.kind),
        refines=tuple(d.refine for d in own if d.refine is not None),
        is_vendor=bool(own),
        has_lifetime_totals=any(d.has_lifetime_totals for d in own),
        names={name: (d.name, role, d.refine) for d in reversed(applying) for name, role in d.names.items()},
        reads=next((d.reads for d in own if d.reads is not None), None),
        plans=Plans(),
    )


#: Rank of attributes that no dialect declares.
_LAST = 10**6
#: Bound of attribute names in cached plans: senders choose them freely, and a name takes 70 bytes.
_NAMES = 32 * 1024


def plan_for(tables: Tables, attributes: Collection[str]) -> Plan:
    """Return the plan for spans with attributes of these names."""
    names = set(attributes)
    keys, kinds = tables.keys, [kind for kind in tables.kinds if kind[0] in names]
    found = {key: keys[key] for key in attributes if key in keys}
    is_silent = not tables.is_vendor and tables.marks.isdisjoint(attributes)
    for key in attributes:
        if key not in keys and key not in tables.marks and (shape := shape_of(key)) is not None:
            name, marks = shape
            is_silent = is_silent and not marks
            if name == "kind":
                kinds.append((key, WORDS, None, None))
            else:
                coerce = DIRECT.get(name) or INNER[name]
                found[key] = (name, _LAST, coerce, name in DIRECT, _SHORTCUTS.get(coerce, 0))
    said_by = Counter(entry[0] for entry in found.values())
    rivals: list[tuple[str, str, Coerce, bool, int]] = []
    takes: tuple[list[Take], list[Take], list[Take]] = ([], [], [])
    for _, key in sorted((entry[1], key) for key, entry in found.items()):
        name, _, coerce, is_direct, shortcut = found[key]
        if said_by[name] > 1:
            rivals.append((key, name, coerce, is_direct, shortcut))
        else:
            takes[shortcut].append((key, name, coerce, is_direct))
    others, texts, numbers = map(tuple, takes)
    extras = tuple(key for key in attributes if key[:6] == "agent." and key not in keys)
    plan = Plan(
        is_silent=is_silent and not extras,
        texts=texts,
        numbers=numbers,
        others=others,
        rivals=tuple(rivals),
        extras=extras,
        kinds=tuple(kinds),
    )
    tables.plans.remember(tuple(attributes), plan)
    return plan
