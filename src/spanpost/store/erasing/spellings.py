"""How a person is spelled, and texts without them. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

#: Characters of an id from which on it is looked for within texts. A shorter one (a number, say) counts only as
#: the whole value of an attribute or column that holds a person.
LONG: Final = 8
#: Characters of a comment that are looked for; what follows them in the same text goes with it.
_HEAD: Final = 40
#: Ends of names of attributes, without dots and underscores, that hold the person for whom a span runs.
OWNER: Final = (
    "userid", "useremail", "username", "userfullname", "enduserid", "enduserpseudoid", "useraccountuuid",
    "useraccountid", "accountuuid", "accountid", "requestedby",
)  # fmt: skip
#: Last parts of names of attributes, columns and fields that hold any person.
_ANYONE: Final = frozenset({"by", "email", "actor", "owner"})
_SEPARATORS: Final = str.maketrans("", "", "._-")
_PARTS: Final = re.compile(r"[._-]")
_SLACK_USER: Final = re.compile(r"[UW][A-Z0-9]{6,}")


def _is_owner(key: object) -> bool:
    """Tell whether an attribute of this name holds the person for whom a span runs."""
    return isinstance(key, str) and key.lower().translate(_SEPARATORS).endswith(OWNER)


def _is_person(key: object) -> bool:
    """Tell whether an attribute or field of this name holds a person."""
    if not isinstance(key, str):
        return False
    parts = _PARTS.split(key.lower())
    return not _ANYONE.isdisjoint(parts[-2:]) or _is_owner(key)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The spellings of a person, as rows hold them."""

    #: Ids and email addresses.
    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    #: Names that other people have as well.
    shared: tuple[str, ...] = ()
    #: The person's comments.
    comments: tuple[str, ...] = ()
    #: Further texts, looked for everywhere.
    also: tuple[str, ...] = ()


class Spellings:
    """Finds a person in texts, JSON and documents, and replaces them by a marker.

    An id, an email address and a text of `also` is replaced anywhere. A name and a comment is replaced within the
    texts of rows that are *near* the person: rows that name an id, and rows of tasks in which the person acted.
    Elsewhere a name counts as the whole value of an attribute or column that holds a person.
    """

    def __init__(self, found: Found, marker: str) -> None:
        self.found = found
        self.marker = marker
        raw = [id.rpartition(":")[2] for id in found.ids]
        ids = {*found.ids, *(part for part in raw if _SLACK_USER.fullmatch(part))}
        anywhere = [id for id in ids if len(id) >= LONG or "@" in id or _SLACK_USER.fullmatch(id)]
        anywhere = [id for id in anywhere if not (id.isdigit() and len(id) < LONG)]
        names = [*found.names, *found.shared]
        self._whole = {_folded(one) for one in (*ids, *found.names) if one}
        self._near_whole = self._whole | {_folded(one) for one in names}
        strong = [_token(id) for id in anywhere] + [re.escape(form) for one in found.also for form in _forms(one)]
        near = [_token(one) for one in (*names, *ids) if one] + [_said(one) for one in found.comments if one.strip()]
        self._strong = _any(strong)
        self._near = _any(strong + near)
        #: What a database is asked for: any of these within a text.
        self.hints = _hints([*anywhere, *found.also])
        #: The same of whole values: names, and ids that are short.
        self.quoted = _hints([*ids, *found.names])
        self.near_hints = _hints([*ids, *names, *(one[:_HEAD] for one in found.comments if one.strip())])
        self._bytes = _any_bytes([*self.hints, *self.quoted])
        self._near_bytes = _any_bytes([*self.hints, *self.quoted, *self.near_hints])

    def is_strong(self, text: str) -> bool:
        """Tell whether a text names the person by an id, an email address, or a text that was asked for."""
        return self._strong is not None and self._strong.search(text) is not None

    def is_whole(self, text: str, *, is_near: bool = False) -> bool:
        """Tell whether a value that holds a person is this one."""
        return _folded(text) in (self._near_whole if is_near else self._whole)

    def may_hold(self, document: bytes, *, is_near: bool) -> bool:
        """Tell whether a document's bytes may name the person. Quick; True where in doubt."""
        found = self._near_bytes if is_near else self._bytes
        return found is not None and found.search(document) is not None

    def text(self, text: str, *, is_near: bool = False, is_person: bool = False) -> str:
        """Return a text without the person. `is_person`: its whole value is a person."""
        if is_person and self.is_whole(text, is_near=is_near):
            return self.marker
        pattern = self._near if is_near else self._strong
        return text if pattern is None else pattern.sub(self.marker, text)

    def value(self, value: Any, *, is_near: bool = False, is_person: bool = False) -> Any:
        """Return a structure without the person; the same object when it does not name them."""
        if isinstance(value, str):
            return self.text(value, is_near=is_near, is_person=is_person)
        if isinstance(value, Mapping):
            changed = {}
            for key, held in value.items():
                named = self.value(key, is_near=is_near) if isinstance(key, (str, tuple)) else key
                changed[named] = self.value(held, is_near=is_near, is_person=is_person or _is_person(key))
            return value if changed == value else changed
        if isinstance(value, (list, tuple)):
            new = [self.value(held, is_near=is_near, is_person=is_person) for held in value]
            if all(a is b for a, b in zip(new, value, strict=True)):
                return value
            return tuple(new) if isinstance(value, tuple) else new
        return value

    def owns(self, attributes: Any) -> bool:
        """Tell whether attributes say that their span runs for the person."""
        if not isinstance(attributes, Mapping):
            return False
        return any(
            (isinstance(held, str) and self.is_whole(held)) if _is_owner(key) else self.owns(held)
            for key, held in attributes.items()
        )


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()


def _forms(text: str) -> list[str]:
    """Return the forms of a text that mean the same: composed, decomposed, and as it is."""
    return list(dict.fromkeys((text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD")))))


def _token(text: str) -> str:
    """Return the pattern of a name or an id that stands by itself, not within a longer one."""
    before = r"(?<![\w.+%-])" if "@" in text else r"(?<!\w)"
    after = r"(?!\w|\.\w)" if "@" in text else r"(?!\w)"
    return f"{before}(?:{'|'.join(re.escape(form) for form in _forms(text))}){after}"


def _said(comment: str) -> str:
    """Return the pattern of a comment. A long one may be cut: what follows its beginning goes too."""
    comment = comment.strip()
    if len(comment) <= _HEAD:
        return "|".join(re.escape(form) for form in _forms(comment))
    return "|".join(re.escape(form) + r"[\s\S]*" for form in _forms(comment[:_HEAD]))


def _any(patterns: Iterable[str]) -> re.Pattern[str] | None:
    # The longest first: an id before the name within it.
    found = sorted(set(patterns), key=len, reverse=True)
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def _hints(texts: Iterable[str]) -> list[str]:
    """Return what to look for in a database's text of a column, where JSON escapes some characters."""
    forms: dict[str, None] = {}
    for text in texts:
        for form in _forms(text):
            # A database may know the case of ASCII alone.
            cases = (form,) if form.isascii() else (form, form.lower(), form.upper(), form.casefold(), form.title())
            for cased in cases:
                for written in (cased, json.dumps(cased, ensure_ascii=False)[1:-1]):
                    forms[written.lower() if written.isascii() else written] = None
    return [form for form in forms if form]


def _any_bytes(hints: Iterable[str]) -> re.Pattern[bytes] | None:
    found = sorted({re.escape(hint.encode("utf-8", "surrogatepass")) for hint in hints}, key=len, reverse=True)
    return re.compile(b"|".join(found), re.IGNORECASE) if found else None
