"""Entity tags: what a client has already is not sent again (RFC 9110, 13.1.2). Pure."""

from __future__ import annotations

from hashlib import sha256


def tag_of(*values: object) -> str:
    """Return the tag of an answer by what it is made of, in an order that stays."""
    made = sha256()
    for value in values:
        made.update(value if isinstance(value, bytes) else repr(value).encode())
        made.update(b"\0")
    return f'"{made.hexdigest()[:24]}"'


def is_known(if_none_match: str, tag: str) -> bool:
    """Tell whether a client says that it has the answer of a tag."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in if_none_match.split(","))
