"""Rules of redaction: which attributes, parts and texts they select, and what happens with them.

The order is one sentence: of the rules that select the same text `keep` wins, then `drop`, `redact`, `hash`,
then the built-in scan, wherever the rules stand. `keep` spares a finding that lies whole within what it
selects, so that it never uncovers more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from spanpost import semconv as c
from spanpost.text.patterns import BoundedPattern, bounded, glob, glob_fault
from spanpost.text.patterns import fault as pattern_fault


class RedactionAction(StrEnum):
    """What a rule does with the text that it selects."""

    #: The text stays, whatever other rules and the built-in scan say.
    KEEP = "keep"
    #: The whole attribute is gone; of a text that is no attribute a marker without a hash is left.
    DROP = "drop"
    #: A marker without a hash.
    REDACT = "redact"
    #: A marker with length and keyed hash: equal texts stay equal.
    HASH = "hash"


class TelemetryPart(StrEnum):
    """The part of telemetry in which a text stands."""

    SPAN_NAME = "span_name"
    #: Attributes of spans and links.
    SPAN = "span"
    #: Attributes and body of events, as span events and as log records; the name, for patterns and kinds.
    EVENT = "event"
    #: Body and attributes of other log records.
    LOG = "log"
    RESOURCE = "resource"
    SCOPE = "scope"
    #: Status messages, `exception.*`, `error.*` and `agent.error.*`.
    ERROR = "error"
    ALERT = "alert"
    #: Parameters and bodies of incoming webhooks.
    WEBHOOK = "webhook"


#: Strongest first.
ORDER = (RedactionAction.KEEP, RedactionAction.DROP, RedactionAction.REDACT, RedactionAction.HASH)
#: What a rule without a name writes into its marker.
UNNAMED = "rule"
_ERRORS = ("exception.", "error.", "agent.error.", c.SPAN_STATUS_MESSAGE)


@dataclass(frozen=True, kw_only=True)
class RedactionRule:
    """One rule. It selects a text that meets all its conditions: `attributes`, `parts`, and `pattern` or `kinds`."""

    action: RedactionAction
    #: Names of attributes, with `*` and `?`; maps within attributes are named by paths (`user.email`).
    attributes: tuple[str, ...] = ()
    parts: tuple[TelemetryPart, ...] = ()
    #: A bounded expression (`text.patterns`).
    pattern: str = ""
    #: Kinds of secrets that the built-in scan finds, and names of other rules.
    kinds: tuple[str, ...] = ()
    #: The word in the marker.
    name: str = UNNAMED

    @property
    def is_whole(self) -> bool:
        """True if it selects whole values."""
        return not self.pattern and not self.kinds

    def selects(self, part: TelemetryPart | None, path: str) -> bool:
        """Tell whether it concerns an attribute (`path`), or the part's own text (empty path)."""
        if self.attributes and not (path and any(glob(name).fullmatch(path) for name in self.attributes)):
            return False
        if not self.parts or part in self.parts or (TelemetryPart.ERROR in self.parts and is_error(path)):
            return True
        return TelemetryPart.SPAN_NAME in self.parts and path == c.SPAN_NAME


def is_error(path: str) -> bool:
    """Tell whether an attribute describes an error."""
    return path.lower().startswith(_ERRORS)


class PatternRule(NamedTuple):
    """An expression, the word of its marker, and what happens with a match."""

    name: str
    action: RedactionAction
    pattern: BoundedPattern


@dataclass(frozen=True)
class TextRules:
    """The rules for parts of a text: expressions, kept expressions, kept kinds, and other actions for kinds."""

    patterns: tuple[PatternRule, ...] = ()
    keeps: tuple[BoundedPattern, ...] = ()
    off: frozenset[str] = frozenset()
    actions: Mapping[str, RedactionAction] = field(default_factory=dict)


NO_RULES = TextRules()


class Treatment(NamedTuple):
    """What happens with a value: with all of it, or by rules with parts of its text."""

    action: RedactionAction | None
    name: str
    #: The rules for its texts, as positions in the list of rules: equal for equal rules.
    texts: tuple[int, ...]


class RuleSet:
    """The rules of one tenant, compiled."""

    def __init__(self, rules: Iterable[RedactionRule]) -> None:
        self._rules = tuple(sorted(rules, key=lambda rule: ORDER.index(rule.action)))
        self.has_names = any(rule.attributes for rule in self._rules)
        self.has_parts = any(rule.parts for rule in self._rules)
        #: Some rule selects whole values, so that it cannot be applied to bytes that cannot be read.
        self.has_whole = any(
            (rule.is_whole or rule.attributes or rule.parts) and rule.action is not RedactionAction.KEEP
            for rule in self._rules
        )

    def treatment(self, part: TelemetryPart | None, path: str = "") -> Treatment:
        """Return what happens with an attribute, or with the text of a part itself."""
        selected = [n for n, rule in enumerate(self._rules) if rule.selects(part, path)]
        texts = tuple(n for n in selected if not self._rules[n].is_whole)
        whole = next((self._rules[n] for n in selected if self._rules[n].is_whole), None)
        return Treatment(whole.action, whole.name, texts) if whole is not None else Treatment(None, "", texts)

    def texts(self, positions: Collection[int]) -> TextRules:
        """Return the rules at these positions for parts of a text."""
        rules = [self._rules[n] for n in positions]
        keeping = [rule for rule in rules if rule.action is RedactionAction.KEEP]
        hiding = [rule for rule in rules if rule.action is not RedactionAction.KEEP]
        actions: dict[str, RedactionAction] = {}
        for rule in hiding:
            for kind in rule.kinds:
                actions.setdefault(kind, rule.action)
        return TextRules(
            tuple(PatternRule(rule.name, rule.action, bounded(rule.pattern)) for rule in hiding if rule.pattern),
            tuple(bounded(rule.pattern) for rule in keeping if rule.pattern),
            frozenset(kind for rule in keeping for kind in rule.kinds),
            actions,
        )


#: The parts that have attributes.
HAVE_ATTRIBUTES = frozenset(TelemetryPart) - {TelemetryPart.SPAN_NAME, TelemetryPart.SCOPE}


def fault(rule: RedactionRule) -> str:
    """Return why a rule is not accepted, and what to do; empty if it is accepted."""
    if not (rule.attributes or rule.parts or rule.pattern or rule.kinds):
        return "the rule selects nothing: give attributes, parts, a pattern or kinds"
    if rule.pattern and rule.kinds:
        return "pattern and kinds: a rule has one of them; write two rules"
    if rule.attributes and rule.parts and not HAVE_ATTRIBUTES.intersection(rule.parts):
        return f"attributes: {rule.parts[0]} has none; leave out attributes, or name another part"
    if rule.action is RedactionAction.KEEP and rule.name != UNNAMED:
        return "name: what is kept has no marker; leave the name out"
    if rule.kinds and rule.name != UNNAMED:
        return "name: the marker of a kind has the kind's name; leave the name out"
    for name in rule.attributes:
        if wrong := glob_fault(name):
            return f"attributes: {wrong}"
    return f"pattern: {wrong}" if rule.pattern and (wrong := pattern_fault(rule.pattern)) else ""
