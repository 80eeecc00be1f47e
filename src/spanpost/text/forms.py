"""Secrets with a known form: the table of `kinds`, indexed by the first two characters of a word."""

from __future__ import annotations

import re
from collections.abc import Iterator

from spanpost.text.kinds import KINDS
from spanpost.text.places import Found
from spanpost.text.values import is_drawn_wildly, is_random

#: Characters of secrets with a known form; sixteen in a row are searched.
_RUN = bytes(97 if chr(b).isalnum() or chr(b) in "_+/=.~:$-" else 32 for b in range(128)) + b" " * 128
_SIXTEEN = b"a" * 16
_LONG_WORD = re.compile(r"(?=[A-Za-z0-9]{16})(?=[a-zA-Z]*\d)(?=\d*[a-zA-Z])[A-Za-z0-9]+")
#: A longer match that is no secret contains none.
_LONG = 512
_WORD = re.compile(r"[A-Za-z0-9]+")


def _starts(head: str) -> set[str] | None:
    """Return the two-character beginnings of literals, classes and choices; None for other expressions."""
    found = {""}
    at = 0
    while at < len(head) and min(map(len, found)) < 2:
        if head.startswith("(?:", at):
            depth, end = 0, at
            while True:  # the closing bracket
                depth += (head[end] == "(") - (head[end] == ")")
                if depth == 0:
                    break
                end += 1
            more: set[str] = set()
            for choice in _choices(head[at + 3 : end]):
                begun = _starts(choice + head[end + 1 :])
                if begun is None:
                    return None
                more |= begun
            return {(start + rest)[:2] for start in found for rest in more}
        if head[at] == "[":
            end = head.index("]", at)
            letters = {chr(c) for c in range(33, 127) if re.fullmatch(head[at : end + 1], chr(c))}
            at = end + 1
        else:
            at += head[at] == "\\"
            if head[at] in "d(" and head[at - 1 : at] == "\\":
                return None
            letters, at = {head[at]}, at + 1
        if head[at : at + 1] in ("{", "?", "*", "+"):
            return None
        found = {(start + letter)[:2] for start in found for letter in letters}
    return found if min(map(len, found)) == 2 else None


def _choices(inner: str) -> list[str]:
    parts, depth = [""], 0
    for c in inner:
        depth += (c == "(") - (c == ")")
        if c == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return parts


_HEADS = tuple(re.compile(kind.head) for kind in KINDS)
_WHOLE = tuple(re.compile(rf"(?:{kind.head})[{kind.body}]{{{kind.least},}}+{kind.tail}") for kind in KINDS)
_REST = tuple(re.compile(rf"[{kind.body}]++") for kind in KINDS)
#: Kinds by the beginning of a word; and kinds without a fixed beginning, by a part that all contain.
_BY_START: dict[str, tuple[int, ...]] = {}
_BY_PART: list[tuple[str, int, re.Pattern[str]]] = []
for _i, _kind in enumerate(KINDS):
    _begun = _starts(_kind.head) if not _kind.part else None
    if _begun is None:
        assert _kind.part, _kind
        _BY_PART.append((_kind.part, _i, re.compile(rf"(?<![A-Za-z0-9]){_WHOLE[_i].pattern}")))
    for _start in _begun or ():
        _BY_START[_start] = (*_BY_START.get(_start, ()), _i)


def has_run(text: str) -> bool:
    """Tell whether a text has sixteen characters in a row that a secret may consist of."""
    return _SIXTEEN in text.encode("ascii", "replace").translate(_RUN)


def by_form(plain: str) -> Iterator[Found]:
    """Yield secrets with a known form."""
    for index, begin, end in _matches(plain):
        kind = KINDS[index]
        if kind.full:
            end = max(end, _over_the_line(plain, index, begin, end))
        while plain[end - 1] in ".:":
            end -= 1
        yield begin, end, kind.name
    if "\n" in plain or "\\n" in plain:
        yield from _broken(plain)


def _matches(plain: str) -> Iterator[tuple[int, int, int]]:
    """Yield kind, begin and end of each secret with a known form."""
    shape = plain.encode("ascii", "replace").translate(_RUN)
    end = 0
    while (begin := shape.find(_SIXTEEN, end)) >= 0:
        end = shape.find(b" ", begin + 16)
        end = len(plain) if end < 0 else end
        done = begin
        for word in _WORD.finditer(plain, begin, end):
            at = word.start()
            kinds = _BY_START.get(plain[at : at + 2])
            if kinds is not None and at >= done and end - at >= 16:
                for index in kinds:
                    match = _WHOLE[index].match(plain, at)
                    if match is None:
                        continue
                    if _holds(index, match.group()):
                        done = match.end()
                        yield index, at, done
                        break
                    if match.end() - at > _LONG:  # otherwise each of its words would be searched again
                        done = match.end()
        is_lower = plain[begin:end].islower()  # most of these contain capitals
        for part, index, pattern in _BY_PART:
            if (not is_lower or part in ("-us", ".atlasv1.")) and plain.find(part, begin, end) >= 0:
                for match in pattern.finditer(plain, begin, end):
                    if _holds(index, match.group()):
                        yield index, match.start(), match.end()


def _holds(index: int, whole: str) -> bool:
    """Tell whether a match is a secret of its kind: machine-made, not a word that begins alike."""
    kind = KINDS[index]
    head = _HEADS[index].match(whole)
    body = whole[head.end() :] if head is not None and head.end() < len(whole) else whole
    body = body.rstrip(".:")
    if kind.name == "aws-secret-key":
        return (
            len(body) == 40
            and sum(map(str.isupper, body)) >= 6
            and sum(map(str.islower, body)) >= 6
            and is_drawn_wildly(body)
        )
    if kind.is_doubtful:
        is_whole = len(body) == kind.full and body.isalnum() and body.lower() != body and body.upper() != body
        is_drawn = is_random(body, min(kind.least, 16)) or any(map(_LONG_WORD.fullmatch, _WORD.findall(body)))
        return is_whole or (is_drawn and (not kind.full or len(body) <= 2 * kind.full))
    if len(set(body)) <= 4:
        return False
    return len(set(filter(str.isalnum, body))) >= 14 or bool(
        (kind.full and len(body) >= kind.full)
        or any(map(str.isdigit, body))
        or (body.lower() != body and body.upper() != body)
    )


#: A line break, and the characters before the next line's first word.
_FOLD = re.compile(r"(?:\\\r?\n|\r?\n|\\n)[ \t>|]{0,24}")
_RIGHT = re.compile(r"(?=[A-Za-z_+/=.~-]{0,200}\d)[A-Za-z0-9_+/=.~-]{6,200}")
#: Line breaks that are examined in one text.
_EFFORT = 1_000
_IN_RUN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+/=.~:$-")


def _over_the_line(plain: str, index: int, begin: int, end: int) -> int:
    """Return the end of a secret that is shorter than its kind and continues on the next line."""
    fold = _FOLD.match(plain, end)
    if fold is None:
        return end
    head = _HEADS[index].match(plain, begin)
    missing = KINDS[index].full - (end - (head.end() if head is not None else begin))
    rest = _REST[index].match(plain, fold.end(), fold.end() + missing) if missing > 0 else None
    if rest is None or not (len(rest.group()) == missing or any(map(str.isdigit, rest.group()))):
        return end
    return rest.end()


def _broken(plain: str) -> Iterator[Found]:
    """Yield secrets that a line break splits before enough of them is on the first line."""
    effort = _EFFORT
    for fold in _FOLD.finditer(plain):
        begin = left = fold.start()
        if not begin or plain[begin - 1] not in _IN_RUN:
            continue
        if (effort := effort - 1) < 0:
            return
        while left > 0 and begin - left < 40 and plain[left - 1] in _IN_RUN:
            left -= 1
        right = _RIGHT.match(plain, fold.end())
        if right is None or not 3 <= begin - left < 40:
            continue
        whole = plain[left:begin] + right.group()
        for index, at, to in _matches(whole):
            kind = KINDS[index]
            head = _HEADS[index].match(whole, at)
            if head is None or not kind.full or kind.is_doubtful or not at < begin - left < to:
                continue
            if to - head.end() >= kind.full * 0.8:
                to = min(to, head.end() + kind.full)
                yield left + at, fold.end() + to - (begin - left), kind.name
