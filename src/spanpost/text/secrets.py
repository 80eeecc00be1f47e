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
from base64 import b64decode
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate

from spanpost.text.forms import by_form, has_run
from spanpost.text.kinds import KINDS
from spanpost.text.named import by_name
from spanpost.text.names import words
from spanpost.text.patterns import LEAST_LITERAL, Effort, TooDense
from spanpost.text.places import PLACES, Found, placed, private_keys, url_passwords
from spanpost.text.repair import BYTES
from spanpost.text.rules import NO_RULES, ORDER, RedactionAction, TextRules

#: Replacement of a secret: `[redacted]`, `[redacted:kind]`, `[redacted:kind:length:hash]`.
REDACTED = "[redacted]"
_PLACEHOLDER = re.compile(r"\[redacted(?::[^\[\]\s]*)?\]")
_HASHED = re.compile(r"\[redacted:([^\]\s:]{1,40}):\d{1,9}:[0-9a-f]{6,64}\]")

#: Kinds that are recognised by name, place or shape only.
_OTHERS = words("secret token api-key key cookie signature password authorization private-key url-credentials")
#: All kinds, sorted: each can be turned off.
ALL_KINDS: tuple[str, ...] = tuple(sorted({kind.name for kind in KINDS} | {place.kind for place in PLACES} | _OTHERS))

#: A range, the rank of its action in `ORDER`, its rank among the findings, its kind.
Ranked = tuple[int, int, int, int, str]
#: A range, its kind, what happens with it.
Spot = tuple[int, int, str, RedactionAction]
_HASHES, _REDACTS = ORDER.index(RedactionAction.HASH), ORDER.index(RedactionAction.REDACT)
#: In place of a text that the patterns of the rules cannot search in time.
UNSEARCHED = "unsearched"

#: The end of a text that `text.repair` has cut.
_DIGEST = re.compile(r", sha256 [0-9a-f]{16}(?=\]\Z)")

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


def _text_of_bytes(text: str) -> str:
    """Return the text that bytes hold, as a receiver writes them in base64; empty if they hold none."""
    encoded = text[len(BYTES) :].partition("…")[0]
    try:
        return b64decode(encoded[: len(encoded) // 4 * 4], validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


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


def is_one_marker(text: str) -> bool:
    """Tell whether a text is one replacement, and nothing else."""
    return text[:9] == "[redacted" and _PLACEHOLDER.fullmatch(text) is not None


def unhashed(text: str) -> str:
    """Return a text with replacements in their short form, which does not depend on the key."""
    return _HASHED.sub(r"[redacted:\1]", text) if "[redacted:" in text else text


class Scanner:
    """Replaces secrets: with a `key` (16 to 64 bytes) by kind, length and keyed hash, else by kind.

    `rules` add expressions, keep texts and kinds, and leave out hashes or the whole text. `found` counts
    replacements by kind; the caller resets it.
    """

    def __init__(self, key: bytes = b"", rules: TextRules = NO_RULES) -> None:
        self._key = key
        self._rules = rules
        self._is_ruled = rules != NO_RULES
        self.has_patterns = bool(rules.patterns)
        self.shortest = LEAST_LITERAL if rules.patterns else SHORTEST
        self.found: Counter[str] = Counter()
        #: Texts that stand where a whole text was dropped.
        self.drops = frozenset(
            f"[redacted:{kind}]"
            for kind, action in (*((one.name, one.action) for one in rules.patterns), *rules.actions.items())
            if action is RedactionAction.DROP
        )

    def replacement(self, kind: str, secret: str, action: RedactionAction = RedactionAction.HASH) -> str:
        """Return the replacement of a secret."""
        self.found[kind] += 1
        if not self._key or action is not RedactionAction.HASH:
            return f"[redacted:{kind}]"
        digest = blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=5, key=self._key).hexdigest()
        return f"[redacted:{kind}:{len(secret)}:{digest}]"

    def action(self, kind: str) -> RedactionAction:
        """Return what happens with secrets of a kind: `HASH` if no rule says otherwise."""
        if kind in self._rules.off:
            return RedactionAction.KEEP
        return self._rules.actions.get(kind, RedactionAction.HASH)

    def keeps(self, text: str) -> bool:
        """Tell whether a rule keeps the whole of a text."""
        try:
            effort = Effort(len(text))
            return any(span == (0, len(text)) for keep in self._rules.keeps for span in keep.spans(text, effort))
        except TooDense:
            return False

    def scan(self, text: str) -> str:
        """Return a text without its secrets; the same object if it holds none."""
        if len(text) < self.shortest:
            return text
        if text.startswith(BYTES) and (inner := _text_of_bytes(text)):
            clean = self.scan(inner)
            return self._scanned(text) if clean is inner else clean
        return self._scanned(text)

    def _scanned(self, text: str) -> str:
        out: list[str] = []
        last = 0
        for begin, end, kind, action in self._found(text):
            if action is RedactionAction.DROP:
                return self.replacement(kind, text, action)
            out += (text[last:begin], self.replacement(kind, text[begin:end], action))
            last = end
        # The digest of a text that was cut would be a hash of the secret without a key.
        return "".join((*out, _DIGEST.sub("", text[last:]))) if out else text

    def _found(self, text: str) -> list[Spot]:
        if text.isascii() and text.isprintable():
            return _apart(self._findings(text))
        found = self._placed(*_plain(text, _ODD_RUN))
        if _ESCAPE.search(text):
            # A terminal sequence includes a character that may be a secret's first, so the text is also
            # read without sequences.
            found += self._placed(*_plain(text, _ODD_CHARACTERS))
        return _apart(found)

    def _placed(self, plain: str, places: Sequence[int] | None) -> list[Ranked]:
        if places is None:
            return self._findings(plain)
        return [
            (places[begin], places[end - 1] + 1, action, rank, kind)
            for begin, end, action, rank, kind in self._findings(plain)
        ]

    def _findings(self, plain: str) -> list[Ranked]:
        """Return the ranges of secrets with their ranks.

        Most texts pass after a few searches for fixed words.
        """
        if "[redacted" in plain:
            plain = _PLACEHOLDER.sub(lambda m: "\0" * len(m.group()), plain)
        lowered = plain.lower()
        if len(lowered) != len(plain):
            lowered = "".join([c.lower() if c.isascii() else c for c in plain])
        finders: list[Iterable[Found]] = []
        if has_run(plain) or "\n" in plain:
            finders.append(by_form(plain))
        if has_word(lowered):
            finders += (private_keys(plain), url_passwords(plain), placed(plain, lowered), by_name(plain, lowered))
        if not self._is_ruled:
            if not finders:
                return []
            spans = (found for finder in finders for found in finder)
            return [(begin, end, _HASHES, rank, kind) for rank, (begin, end, kind) in enumerate(spans) if begin < end]
        return self._ruled(plain, lowered, (found for finder in finders for found in finder))

    def _ruled(self, plain: str, lowered: str, built_in: Iterable[Found]) -> list[Ranked]:
        """Return the findings of the rules and of the built-in scan, without those that lie within a kept text.

        A text that cannot be searched in time is one finding.
        """
        rules, effort = self._rules, Effort(len(plain))
        found: list[Ranked] = []
        try:
            for name, action, pattern in rules.patterns:
                if pattern.may_match(plain, lowered) and name not in rules.off:
                    found += [(*span, ORDER.index(action), len(found), name) for span in pattern.spans(plain, effort)]
        except TooDense:
            return [(0, len(plain), _REDACTS, 0, UNSEARCHED)]
        for begin, end, kind in built_in:
            if begin < end and (action := self.action(kind)) is not RedactionAction.KEEP:
                found.append((begin, end, ORDER.index(action), len(found), kind))
        if found and rules.keeps:
            try:
                kept = sorted(span for keep in rules.keeps for span in keep.spans(plain, effort))
            except TooDense:
                return found
            begins, ends = [begin for begin, _ in kept], list(accumulate((end for _, end in kept), max))
            found = [one for one in found if not (n := bisect_right(begins, one[0])) or ends[n - 1] < one[1]]
        return found


def _apart(found: Iterable[Ranked]) -> list[Spot]:
    """Return sorted ranges; overlapping ones are merged, and take the strongest action, else the first kind."""
    merged: list[Ranked] = []
    for one in sorted(found):
        if merged and one[0] < merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], one[1]), *min(before[2:], one[2:]))
        else:
            merged.append(one)
    return [(begin, end, kind, ORDER[action]) for begin, end, action, _, kind in merged]


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
