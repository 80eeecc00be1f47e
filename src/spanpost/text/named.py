"""Secrets known by a name before them: assignments, flags, headers, pairs, elements, sentences, more."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from spanpost.text.names import VENDORS, NameVerdict, Strength, verdict, words
from spanpost.text.places import Found
from spanpost.text.values import is_code, is_nothing, is_random, is_secret, is_spoken

_CORE = re.compile(
    r"pass|pwd|secret|credential|creds|token|key|auth|cookie|signature|sig\b|jwt|hmac|sessionid|sessid|sid\b|otp\b|connection.?string|dsn\b|pw\b|pat\b"
)
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-$")
_NAME_ON = re.compile(r"[\w.$-]{0,64}")
#: Words that form a name with the next one: "api key", "secret access key".
_BEFORE = VENDORS | words(
    "api access private secret account client auth authentication refresh bot bearer session signing encryption "
    "shared personal service webhook connection master license app security admin root"
)
_QUOTE = r"(?:\\{0,8}[\"'`]|&quot;|&#(?:34|39|x22|x27);|%2[27]|\\{1,2}u00(?:22|27)|[“”‘’])"
#: The type of a declaration with a text: `var token string = "..."`, `password: str = "..."`.
_TYPE = r"(?::?[ \t]{1,2}(?:[Ss]tring|str|&str)[ \t]{1,2}(?==[ \t]{0,2}[\"'`]))?"
_SET = re.compile(
    rf"(?P<closing>{_QUOTE})?[\])]?(?:\*\*|__)?"
    rf"(?P<sep>{_TYPE}[ \t]{{0,8}}(?:=>|\|(?!\|)|:=|={{1,3}}|:{{1,2}}(?!//)|\?=|<-"
    r"|%3[adAD]|\\{1,2}u003[adAD])(?:\*\*|__)?[ \t]{0,8})"
    rf"(?:(?:\r?\n|\\n)[ \t]{{1,24}})?(?P<prefix>[rbfuRBFU]{{1,2}}(?=[\"']))?(?P<opening>{_QUOTE})?"
)
#: {"name": "password", "value": "x"}, ("password", "x"), ["--password", "x"], <add key="password"
#: value="x"/>, <password>x<
_PAIR = re.compile(
    rf"{_QUOTE}\s{{0,8}}(?:,\s{{0,8}}(?:{_QUOTE}(?:value|val|content|data|secret)(?:{_QUOTE})\s{{0,4}}[:=]\s{{0,4}})?|value\s{{0,2}}=\s{{0,2}})"
    rf"(?P<opening>{_QUOTE})"
)
_VALUE_WORD = re.compile(rf"{_QUOTE}(?:value|val|content|data|secret){_QUOTE}|value\s{{0,2}}=")
_ELEMENT = re.compile(r">\s{0,4}(?P<v>[^<>\n]{3,400}+)</")
_ENV = re.compile(r"\b(?:ENV|ARG|setx|setenv|set -g?x)[ \t]{1,2}\Z")
_FLAG = re.compile(r"[ \t]{1,4}(?P<opening>[\"'])?(?!-)")
_BARE = re.compile(r"(?:[^\s\"'`<>,;&|\\\x00]++|[,;&](?![\s\"'&;,]|$|[A-Za-z_.-]{1,40}=)|\\(?![nrtu\"'`\\])|\|(?!\s))+")
_QUERY = re.compile(r"[^\s\"'`<>&#;\\\x00]++")
_SCHEME = re.compile(
    r"(?:bearer|basic|token|apikey|api-key|negotiate|ssws|splunk|bot|geniekey|digest|aws4-hmac-sha256|key|oauth|dpop|hmac"
    r"|[A-Za-z][\w-]{1,20}(?=[ \t]+[^\s=,\"']{8}))[ \t]{1,4}",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\r\n\"'`\\\x00]++")
_COOKIE = re.compile(r"[^\r\n\"'`\\;,\s=\x00]{1,64}=(?P<v>[^\r\n\"'`\\;,\s\x00]++)")
_CONNECTED = re.compile(
    r"(?:[ \t]+(?:for|of|to|on|in|at|from|by)[ \t]+(?:the[ \t]+|my[ \t]+|our[ \t]+)?"
    r"[\w.@/-]{1,40}(?:[ \t]+(?!is\b|was\b|=)[\w.@/-]{1,30})?)?"
    r"[ \t]*(?:(?:[ \t](?:is|was|are|be|equals|reads|became|like|as|to|of|with"
    r"|used|set[ \t]to|changed[ \t]to|reset[ \t]to|now|just|still|this|value)\b"
    r"|[:=]|[ \t](?:-|–|—|->|→)(?=[ \t])))"
    r"{1,3}(?:[ \t]*[:=])?[ \t]*(?:\r?\n[ \t]*)?(?P<opening>[\"'`“‘])?",
    re.IGNORECASE,
)
_ADJACENT = re.compile(r"s?[ \t]{1,2}\(?(?P<opening>[\"'`“‘])?")
_SPOKEN = re.compile(r"[^\s\"'`<>“”‘’\x00]{3,256}+")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_DIGEST = re.compile(
    r"(?:sha\d{0,3}|md5|digest|commit|etag|integrity|checksum|fingerprint|trace|span|request|uuid|id"
    r"|rev|revision|build|hash|version)[-_ =:@\"']{1,4}\Z",
    re.IGNORECASE,
)
#: Characters of a secret's value, at most; longer values are taken whole.
_LONGEST = 8_192
_WINDOW = 40
#: Effort for one text, plus one for each eight characters of it: a name costs one, a secret's name four,
#: and sixteen characters of a possible value one. A text that costs more is no prose.
_EFFORT = 1_000


class _Effort:
    """The remaining effort for one text."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = _EFFORT + length // 8

    def bare(self, plain: str, at: int, pattern: re.Pattern[str] = _BARE) -> re.Match[str] | None:
        """Return an unquoted value that begins at a position."""
        found = pattern.match(plain, at, at + _LONGEST)
        if found is not None:
            self.left -= (found.end() - at) // 16
        return found


def by_name(plain: str, lowered: str) -> Iterator[Found]:
    """Yield the values beside names of secrets."""
    at = 0
    runs = _runs(plain)
    effort = _Effort(len(plain))
    while effort.left > 0 and (core := _CORE.search(lowered, at)) is not None:
        effort.left -= 1
        begin, end = _name_around(plain, core.start(), core.end())
        at = max(end, core.end())
        name = plain[begin:end]
        said = verdict(name)
        if said.strength is Strength.NONE:
            continue
        effort.left -= 3
        found = _beside(plain, begin, end, said, runs, effort)
        if found is not None:
            yield found
            at = max(at, found[1])


def _name_around(plain: str, begin: int, end: int) -> tuple[int, int]:
    """Return the range of the name around a word for a secret."""
    stop = max(0, begin - 64)
    while begin > stop and plain[begin - 1] in _NAME:
        begin -= 1
    on = _NAME_ON.match(plain, end)
    end = on.end() if on is not None else end
    while end > begin and plain[end - 1] in ".-$":
        end -= 1
    while begin < end and plain[begin] in ".$":
        begin += 1
    for _ in range(2):
        if not begin or plain[begin - 1] not in " \t":
            break
        at = max(plain.rfind(" ", max(0, begin - 24), begin - 1), plain.rfind("\n", max(0, begin - 24), begin - 1)) + 1
        word = plain[at : begin - 1].lstrip("\"'`([{*")
        if (not at and begin > 24) or word.lower() not in _BEFORE:
            break
        begin -= len(word) + 1
    return begin, end


def _beside(
    plain: str, begin: int, end: int, said: NameVerdict, runs: Sequence[tuple[int, int]], effort: _Effort
) -> Found | None:
    """Return the range of a name's value, if it is a secret."""
    name = plain[begin:end]
    set_ = _SET.match(plain, end)
    if set_ is not None and not (set_.group("closing") is None and _ends_clause(plain, set_)):
        if (found := _assigned(plain, begin, said, set_, name, effort)) is not None:
            return found
        if set_.group("closing") is not None or "=" in set_.group("sep"):
            return None
    pair = _PAIR.match(plain, end)
    if pair is not None:
        value, v_begin, v_end = _quoted(plain, pair.end(), pair.group("opening"), effort)
        is_named = _VALUE_WORD.search(plain, end, pair.end()) is not None or name.startswith("-")
        if is_secret(value, said.strength, said.kind, is_quoted=is_named, is_set=is_named) and (
            is_named or not value.isalpha()
        ):
            return v_begin, v_end, said.kind
        return None
    if plain[begin - 1 : begin] == "<" and (element := _ELEMENT.match(plain, end)) is not None:
        value = element.group("v")
        return (
            (*element.span("v"), said.kind)
            if is_secret(value, said.strength, said.kind, is_quoted=True, is_set=True)
            else None
        )
    if (plain[begin] == "-" or _ENV.search(plain, max(0, begin - 12), begin)) and (
        flag := _FLAG.match(plain, end)
    ) is not None:
        found = _of_flag(plain, said, flag, effort)
        if found is not None:
            return found
    if said.strength >= Strength.TOKEN and (found := _spoken(plain, end, said, effort)) is not None:
        return found
    return _near(plain, begin, end, said, runs)


def _ends_clause(plain: str, set_: re.Match[str]) -> bool:
    """Tell whether a colon ends a clause: "the password: it has to be changed"."""
    return set_.group("sep").strip() == ":" and set_.group("opening") is None and set_.end() >= len(plain)


def _assigned(
    plain: str, begin: int, said: NameVerdict, set_: re.Match[str], name: str, effort: _Effort
) -> Found | None:
    at, opening = set_.end(), set_.group("opening")
    if said.kind == "authorization" and said.strength is Strength.STRONG:
        return _of_header(plain, at, opening, effort)
    if said.kind == "cookie" and (first := _COOKIE.match(plain, at)) is not None:
        return _of_cookie(plain, at, name, first)
    is_data = set_.group("closing") is not None
    before = plain[begin - 1 : begin]
    is_query = before in ("?", "&") or (before == ";" and set_.group("sep") == "=")
    if opening is not None:
        value, v_begin, v_end = _quoted(plain, at, opening, effort)
        is_set = True
    else:
        bare = effort.bare(plain, at, _QUERY if is_query else _BARE)
        if bare is None:
            return None
        value, v_begin, v_end = _trimmed(bare.group(), bare.start())
        is_set = is_data or is_query or name.isupper() or name.startswith("-") or _is_variable(plain, begin, set_)
    if value != name.rpartition(".")[2] and is_secret(
        value, said.strength, said.kind, is_quoted=opening is not None or is_query, is_set=is_set
    ):
        return v_begin, v_end, said.kind
    return None


def _is_variable(plain: str, begin: int, set_: re.Match[str]) -> bool:
    """Tell whether a line sets a value like a settings file: from its start, ``name=value``, no blanks."""
    return (
        set_.group("sep") == "="
        and plain[max(0, begin - 1) : begin] in ("", "\n", " ", ";")
        and plain[max(0, begin - 2) : begin] != ", "
    )


def _quoted(plain: str, at: int, opening: str, effort: _Effort) -> tuple[str, int, int]:
    """Return a quoted value and its range; up to the line's end if the quote is not closed."""
    closing = {"“": "”", "‘": "’"}.get(opening, opening)
    end = plain.find(closing, at, at + _LONGEST)
    while end >= 0 and closing in "\"'`" and _is_escaped(plain, at, end):
        end = plain.find(closing, end + 1, at + _LONGEST)
    if end < 0:
        rest = effort.bare(plain, at)
        end = rest.end() if rest is not None else at
    else:
        effort.left -= (end - at) // 64
    return plain[at:end], at, end


def _is_escaped(plain: str, at: int, end: int) -> bool:
    """Tell whether an odd number of backslashes precedes a position."""
    before = end
    while before > at and plain[before - 1] == "\\":
        before -= 1
    return (end - before) % 2 == 1


def _trimmed(value: str, begin: int) -> tuple[str, int, int]:
    """Return a value without punctuation of the surrounding sentence or program."""
    while value and (
        value[-1] in ".:,;"
        or (value[-1] in ")]}" and value.count(value[-1]) > value.count({")": "(", "]": "[", "}": "{"}[value[-1]]))
    ):
        value = value[:-1]
    return value, begin, begin + len(value)


def _of_header(plain: str, at: int, opening: str | None, effort: _Effort) -> Found | None:
    """Return the credentials of an Authorization header, whatever its scheme."""
    scheme = _SCHEME.match(plain, at)
    begin = scheme.end() if scheme is not None else at
    if opening is not None:
        value, _, end = _quoted(plain, begin, opening, effort)
        if " " in value and scheme is not None and "=" in value:
            return None  # parameters of a digest, each recognised by its own name
    else:
        bare = effort.bare(plain, begin)
        if bare is None:
            return None
        value, begin, end = _trimmed(bare.group(), begin)
    if (
        len(value) < 6
        or is_nothing(value)
        or (value.isalpha() and not is_random(value, 20))
        or (is_code(value) and not is_random(value))
    ):
        return None
    if not any(map(str.isdigit, value)) and not is_random(value, 8):
        return None
    return begin, end, "authorization"


def _of_cookie(plain: str, at: int, name: str, first: re.Match[str]) -> Found | None:
    """Return the secret of a cookie header: all of `Cookie`, the value of `Set-Cookie`."""
    value = first.group("v")
    if len(value) < 6 or value.isalpha() or is_nothing(value):
        return None
    if "set" in name.lower():
        return (*first.span("v"), "cookie")
    line = _LINE.match(plain, at)
    return (at, line.end() if line is not None else first.end(), "cookie")


def _of_flag(plain: str, said: NameVerdict, flag: re.Match[str], effort: _Effort) -> Found | None:
    opening = flag.group("opening")
    if opening is not None:
        value, begin, end = _quoted(plain, flag.end(), opening, effort)
        is_set = True
    else:
        bare = effort.bare(plain, flag.end())
        if bare is None:
            return None
        value, begin, end = _trimmed(bare.group(), bare.start())
        # A word is a value only before the line's end or another flag, else it belongs to a sentence about
        # the flag.
        is_set = re.match(r"[ \t]*(?:$|[\r\n|;&\"'`]|\\|-)", plain[end : end + 8]) is not None
    if is_secret(value, said.strength, said.kind, is_quoted=False, is_set=is_set):
        return begin, end, said.kind
    return None


def _spoken(plain: str, end: int, said: NameVerdict, effort: _Effort) -> Found | None:
    """Return the secret that a sentence names."""
    for pattern, is_connected in ((_CONNECTED, True), (_ADJACENT, False)):
        match = pattern.match(plain, end)
        if match is None:
            continue
        opening = match.group("opening")
        if opening is not None:
            value, begin, to = _quoted(plain, match.end(), opening, effort)
            if (
                to - begin <= 256
                and is_secret(value, said.strength, said.kind, is_quoted=is_connected, is_set=False)
                and not is_code(value)
            ):
                return begin, to, said.kind
        word = _SPOKEN.match(plain, match.end())
        if word is not None and is_spoken(word.group(), said.kind, said.strength, is_connected=is_connected):
            value, begin, to = _trimmed(word.group(), word.start())
            return begin, to, said.kind
    return None


def _near(plain: str, begin: int, end: int, said: NameVerdict, runs: Sequence[tuple[int, int]]) -> Found | None:
    """Return a random-looking word near a secret's name: the first after it, else the last before it."""
    if not runs or (said.strength is Strength.WEAK and said.kind != "key"):
        return None
    at = bisect_left(runs, (end, 0))
    for first, last in runs[at : at + 4]:
        if first - end > _WINDOW:
            break
        if _is_bare_secret(plain, first, last):
            return first, last, said.kind
    if at and begin - runs[at - 1][1] <= _WINDOW and _is_bare_secret(plain, *runs[at - 1]):
        return (*runs[at - 1], said.kind)
    return None


#: Characters of a token; twenty in a row may be a token without a known form.
_RUN = bytes(97 if chr(b).isalnum() or chr(b) in "+/_=.-" else 32 for b in range(128)) + b" " * 128
_TWENTY = b"a" * 20


def _runs(plain: str) -> list[tuple[int, int]]:
    """Return the ranges of long words of letters, digits and base64 signs."""
    shape = plain.encode("ascii", "replace").translate(_RUN)
    found: list[tuple[int, int]] = []
    end = 0
    while (begin := shape.find(_TWENTY, end)) >= 0:
        end = shape.find(b" ", begin + 20)
        end = len(plain) if end < 0 else end
        found.append((begin, end))
    return found


def _is_bare_secret(plain: str, begin: int, end: int) -> bool:
    value = plain[begin:end].strip("._-")
    if (
        _DIGEST.search(plain, max(0, begin - 16), begin)
        or plain[begin - 1 : begin] in ("/", "@")
        or len(value) > _LONGEST
    ):
        return False
    if _HEX.fullmatch(value):
        return len(value) >= 32 and is_random(value)
    if "." in value or "=" in value.rstrip("="):
        return False
    return is_random(value, 20) and value.lower() != value and value.upper() != value
