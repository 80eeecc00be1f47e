"""Regular expressions that no text can make slow: literals, classes and choices with bounded repeats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

#: Allowed: literals, classes and choices, each repeated a bounded number of times.
_ITEM = r"(?:\\[dwsbDWS.\\+*?^$(){}|\[\]/-]|\[\^?(?:\\.|[^\]\\\[])+\]|[A-Za-z0-9_ .:,;@#%&=/~<>!\"'-])"
_COUNT = r"(?:\?|\{\d{1,3}(?:,\d{1,3})?\})"
_BOUNDED = re.compile(rf"(?:{_ITEM}{_COUNT}?|\(\?:|\||\)(?!\?|\{{))+")
#: Before an expression: capitals do not matter.
_ANY_CASE = "(?i)"
_TOKEN = re.compile(rf"(?P<group>\(\?:|\)|\|)|(?P<item>{_ITEM})(?P<count>{_COUNT})?")
#: Maximum number of ways to match at one position; and the largest repeat count.
MOST_WAYS, MOST_COUNT = 200, 200
#: Steps for the patterns of all rules in one text, of some nanoseconds each, and more for each character.
_STEPS, _STEPS_EACH = 100_000, 100
#: Plain characters in a row that each match holds: texts without them are not searched.
LEAST_LITERAL = 3
MOST_LENGTH = 200


class Effort:
    """The steps that the patterns may still take in one text: in proportion to its length."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = _STEPS + _STEPS_EACH * length


class TooDense(Exception):
    """A text holds so many beginnings of matches that searching it would take too long."""


class BoundedPattern:
    """A regular expression, and plain characters that stand in each of its matches.

    It is searched only around those characters: within the length of its longest match.
    """

    __slots__ = ("is_any_case", "literal", "plain", "reach", "regex", "weight")

    def __init__(self, pattern: str) -> None:
        self.regex = re.compile(pattern)
        literal = literal_of(pattern)
        self.is_any_case = bool(self.regex.flags & re.IGNORECASE)
        self.plain = literal.lower() if self.is_any_case else literal
        self.literal = re.compile(re.escape(literal), self.regex.flags & re.IGNORECASE)
        ways, longest = measured(pattern)
        #: Characters between the beginning of the plain ones and the ends of a match, at most.
        self.reach = longest + len(literal)
        #: Steps of a search at one position.
        self.weight = ways + longest // 4

    def may_match(self, text: str, lowered: str) -> bool:
        """Tell whether a text may hold the plain characters. Quick; `lowered` is the text in lower case."""
        return self.plain in (lowered if self.is_any_case else text) or (self.is_any_case and not text.isascii())

    def spans(self, text: str, effort: Effort) -> Iterator[tuple[int, int]]:
        """Yield the ranges of the matches. A replacement within the text (null characters) ends a match.

        Raises `TooDense` once the effort is spent.
        """
        first = self.literal.search(text)
        if first is None:
            return
        begin = max(first.start() - self.reach, 0)
        end = first.start() + self.reach + 1
        for literal in self.literal.finditer(text, first.start() + 1):
            at = literal.start()
            if at - self.reach > end:
                yield from self._within(text, begin, end, effort)
                begin = at - self.reach
            end = at + self.reach + 1
        yield from self._within(text, begin, end, effort)

    def _within(self, text: str, begin: int, end: int, effort: Effort) -> Iterator[tuple[int, int]]:
        effort.left -= self.weight * (min(end, len(text)) - begin)
        if effort.left < 0:
            raise TooDense
        for found in self.regex.finditer(text, begin, end):
            start, stop = found.span()
            if (cut := text.find("\0", start, stop)) >= 0:
                stop = cut
            if start < stop:
                yield start, stop


@lru_cache(maxsize=1024)
def bounded(pattern: str) -> BoundedPattern:
    """Return a compiled pattern that `fault` accepts."""
    return BoundedPattern(pattern)


def literal_of(pattern: str) -> str:
    """Return the longest run of plain characters that each match holds; empty if there is none."""
    best = run = ""
    depth = 0
    for token in _TOKEN.finditer(pattern.removeprefix(_ANY_CASE)):
        group, item = token["group"], token["item"]
        depth += (group == "(?:") - (group == ")")
        if group == "|" and depth == 0:
            return ""
        if item is not None and depth == 0 and token["count"] is None and _is_plain(item):
            run += item[-1]
        else:
            best, run = max(best, run, key=len), ""
    return max(best, run, key=len)


def fault(pattern: str) -> str:
    """Return why an expression is not accepted, and what to write instead; empty if it is accepted."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r} is no regular expression: {error}"
    whole, pattern = pattern, pattern.removeprefix(_ANY_CASE)
    if not _BOUNDED.fullmatch(pattern):
        return (
            f"{whole!r} repeats without a bound, or holds an expression that is not accepted: "
            "write `{1,64}` for `+` and `{0,64}` for `*`, `(?:...)` for a group, and repeat no group"
        )
    if len(literal_of(pattern)) < LEAST_LITERAL:
        return (
            f"{whole!r} has to hold three plain characters in a row outside of groups and choices, so that texts "
            "without them need no search: `acme_...`, `...@example\\.com`"
        )
    if max((int(most) for most in re.findall(r"\{(?:\d+,)?(\d+)\}", pattern)), default=0) > MOST_COUNT:
        return f"{whole!r} repeats more than {MOST_COUNT} times: make its bounds narrower"
    if measured(pattern)[0] > MOST_WAYS:
        return (
            f"{whole!r} can match in too many ways at one place: make its bounds narrower, and write fewer choices "
            "and optional parts"
        )
    return ""


def measured(pattern: str) -> tuple[int, int]:
    """Return in how many ways an expression can match at one position, and the length of its longest match."""
    # Of each open group: ways and length of the choices before, and of the present one.
    groups = [[0, 0, 1, 0]]
    for token in _TOKEN.finditer(pattern.removeprefix(_ANY_CASE)):
        group, count = token["group"], token["count"] or "{1}"
        if group == "(?:":
            groups.append([0, 0, 1, 0])
        elif group == "|":
            ways, length, *present = groups[-1]
            groups[-1] = [ways + present[0], max(length, present[1]), 1, 0]
        elif group == ")":
            ways, length, *present = groups.pop()
            groups[-1][2] *= ways + present[0]
            groups[-1][3] += max(length, present[1])
        else:
            least, _, most = count.strip("{}").partition(",") if count != "?" else ("0", "", "1")
            groups[-1][2] *= int(most or least) - int(least) + 1
            groups[-1][3] += int(most or least)
    ways, length, *present = groups[0]
    return ways + present[0], max(length, present[1])


def _is_plain(item: str) -> bool:
    if len(item) == 1:
        return item != "."
    return item[0] == "\\" and item[1] not in "dwsbDWS"


_STARS = 3


def glob_fault(name: str) -> str:
    """Return why a name of an attribute is not accepted; empty if it is."""
    if not name.strip() or len(name) > MOST_LENGTH:
        return f"{name!r} is no name of an attribute: write one such as `user.email`, or `user.*`"
    if name.count("*") > _STARS or "**" in name:
        return f"{name!r} has too many `*`: at most {_STARS}, and none beside another"
    return ""


@lru_cache(maxsize=1024)
def glob(name: str) -> re.Pattern[str]:
    """Return a name as an expression for whole names: `*` is any text, `?` any character, case is ignored."""
    parts = [re.escape(part).replace(r"\?", ".") for part in name.split("*")]
    if len(parts) == 1:
        return re.compile(parts[0], re.IGNORECASE | re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in parts[1:-1] if part)
    return re.compile(f"{parts[0]}{middle}.*{parts[-1]}", re.IGNORECASE | re.DOTALL)
