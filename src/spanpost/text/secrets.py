"""Finds secrets in a text, and replaces each by its kind, its length and a keyed hash.

A text is first read as a person sees it: without invisible characters, with full-width letters as plain
ones. Then secrets are recognised by their own form (`kinds`), by their place (`places`), by the name before
them (`names`, `values`) and, near such a name, by looking random. Replacements are never scanned again, so
scanning twice changes nothing. Most texts pass after a few searches for fixed words; the rest costs time in
proportion to its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b

from spanpost.text.forms import by_form, has_run
from spanpost.text.kinds import KINDS
from spanpost.text.named import by_name
from spanpost.text.names import words
from spanpost.text.places import PLACES, Found, placed, private_keys, url_passwords

#: Replacement of a secret: `[redacted]`, `[redacted:kind]`, `[redacted:kind:length:hash]`.
REDACTED = "[redacted]"
_PLACEHOLDER = re.compile(r"\[redacted(?::[^\[\]\s]*)?\]")
_HASHED = re.compile(r"\[redacted:([^\]\s:]{1,40}):\d{1,9}:[0-9a-f]{6,64}\]")

#: Kinds that are recognised by name, place or shape only.
_OTHERS = words("secret token api-key key cookie signature password authorization private-key url-credentials")
#: All kinds, sorted: each can be turned off.
ALL_KINDS: tuple[str, ...] = tuple(sorted({kind.name for kind in KINDS} | {place.kind for place in PLACES} | _OTHERS))

#: Shorter texts cannot hold a secret that differs from a word.
SHORTEST = 6
#: Without one of these words a lower-case text has no secret by name or place; texts with `=`, ` -` or
#: `://` have further words.
_WORDS = tuple(
    words(
        "pass token key auth secret cred cookie bearer basic signature pwd hook identified kty ----- :5432: "
        ":*: pw: pat: oracle"
    )
)
_WORDS_SET = tuple(words("sig= code= hash= response= otp= session= ticket= sas= pw= pat= sid= s="))
_WORDS_RUN = (
    "az ",
    "oc ",
    "xh ",
    *words(
        "curl wget http mysql mariadb sshpass docker podman helm redis-cli mongo zip 7z ldap htpasswd xfreerdp snowsql"
    ),
)

#: Invisible characters, and letters that only look different.
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uff01-\uff5e\uffa0\ufff0-\ufff8\U0001d400-\U0001d7ff\U000e0000-\U000e0fff]"
)
_WIDE = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff]")
#: The same with terminal sequences, which are dropped whole.
_ODD_RUN = re.compile(rf"(?:(?:\x1b\[|\x9b)[0-?]{{0,64}}[ -/]{{0,16}}[@-~]|{_ODD.pattern})+")
_ODD_CHARACTERS = re.compile(rf"(?:{_ODD.pattern})+")
_ESCAPE = re.compile("[\x1b\x9b]")


def has_word(lowered: str) -> bool:
    """Tell whether a lower-case text has a word that every rule by name or place needs."""
    return (
        any(map(lowered.__contains__, _WORDS))
        or ("=" in lowered and any(map(lowered.__contains__, _WORDS_SET)))
        or (" -" in lowered and any(map(lowered.__contains__, _WORDS_RUN)))
        or ("://" in lowered and "@" in lowered)
    )


def is_redacted(text: str) -> bool:
    """Tell whether a text holds a replacement."""
    return _PLACEHOLDER.search(text) is not None


def unhashed(text: str) -> str:
    """Return a text with replacements in their short form, which does not depend on the key."""
    return _HASHED.sub(r"[redacted:\1]", text) if "[redacted:" in text else text


class Scanner:
    """Replaces secrets: with a `key` (16 to 64 bytes) by kind, length and keyed hash, else by kind.

    `off`: kinds that stay. `patterns`: further kinds and their expressions, each starting with at least
    three plain characters. `found` counts replacements by kind; the caller resets it.
    """

    def __init__(
        self, key: bytes = b"", *, off: Collection[str] = (), patterns: Iterable[tuple[str, re.Pattern[str]]] = ()
    ) -> None:
        self._key = key
        self._off = frozenset(off)
        self._patterns = tuple((kind, pattern) for kind, pattern in patterns if kind not in self._off)
        self.found: Counter[str] = Counter()

    def replacement(self, kind: str, secret: str) -> str:
        """Return the replacement of a secret."""
        self.found[kind] += 1
        if not self._key:
            return f"[redacted:{kind}]"
        digest = blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=5, key=self._key).hexdigest()
        return f"[redacted:{kind}:{len(secret)}:{digest}]"

    def is_off(self, kind: str) -> bool:
        """Tell whether secrets of a kind stay."""
        return kind in self._off

    def scan(self, text: str) -> str:
        """Return a text without its secrets; the same object if it holds none."""
        if len(text) < SHORTEST:
            return text
        out: list[str] = []
        last = 0
        for begin, end, kind in self._found(text):
            out += (text[last:begin], self.replacement(kind, text[begin:end]))
            last = end
        return "".join((*out, text[last:])) if out else text

    def _found(self, text: str) -> list[Found]:
        if text.isascii() and text.isprintable():
            return self._spans(text)
        found = self._placed(*_plain(text, _ODD_RUN))
        if _ESCAPE.search(text):
            # A terminal sequence includes a character that may be a secret's first, so the text is also
            # read without sequences.
            found = _apart([*found, *self._placed(*_plain(text, _ODD_CHARACTERS))])
        return found

    def _placed(self, plain: str, places: Sequence[int] | None) -> list[Found]:
        if places is None:
            return self._spans(plain)
        return [(places[begin], places[end - 1] + 1, kind) for begin, end, kind in self._spans(plain)]

    def _spans(self, plain: str) -> list[Found]:
        """Return the ranges of secrets, sorted and disjoint.

        Most texts pass after a few searches for fixed words.
        """
        if "[redacted" in plain:
            plain = _PLACEHOLDER.sub(lambda m: "\0" * len(m.group()), plain)
        lowered = plain.lower()
        if len(lowered) != len(plain):
            lowered = "".join([c.lower() if c.isascii() else c for c in plain])
        finders: list[Iterable[Found]] = []
        if self._patterns:
            finders.append(self._own(plain))
        if has_run(plain) or "\n" in plain:
            finders.append(by_form(plain))
        if has_word(lowered):
            finders += (private_keys(plain), url_passwords(plain), placed(plain, lowered), by_name(plain, lowered))
        return _apart(found for finder in finders for found in finder if found[2] not in self._off) if finders else []

    def _own(self, plain: str) -> Iterator[Found]:
        for kind, pattern in self._patterns:
            yield from ((m.start(), m.end(), kind) for m in pattern.finditer(plain))


def _apart(spans: Iterable[Found]) -> list[Found]:
    """Return sorted ranges; overlapping ones are merged and get the kind that was found first."""
    found: list[tuple[int, int, int, str]] = []
    for begin, end, rank, kind in sorted(
        (begin, end, rank, kind) for rank, (begin, end, kind) in enumerate(spans) if end > begin
    ):
        if found and begin < found[-1][1]:
            first = min(found[-1][2:], (rank, kind))
            found[-1] = (found[-1][0], max(found[-1][1], end), *first)
        else:
            found.append((begin, end, rank, kind))
    return [(begin, end, kind) for begin, end, _, kind in found]


def _plain(text: str, odd_run: re.Pattern[str]) -> tuple[str, Sequence[int] | None]:
    """Return a text as a person reads it, and each character's original index; None if nothing moved."""
    if not _ODD.search(text):
        return text, None
    kept: list[str] = []
    places: list[int] = []
    at = 0
    for odd in odd_run.finditer(text):
        kept.append(text[at : odd.start()])
        places.extend(range(at, odd.start()))
        at = odd.end()
        if _WIDE.search(odd.group()) is None:
            continue
        for i, c in enumerate(odd.group(), odd.start()):
            plain = unicodedata.normalize("NFKC", c) if _WIDE.match(c) else ""
            if len(plain) == 1 and plain.isascii() and plain.isprintable():
                kept.append(plain)
                places.append(i)
    kept.append(text[at:])
    places.extend(range(at, len(text)))
    return "".join(kept), places
