"""Claims of a provider's tokens: what is refused before a signature is checked, and where a claim stands. Pure."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final

#: Characters of a token; a longer one costs work before it is known to be signed.
_LONGEST: Final = 64 * 1024
#: Header fields that name a key of the token's own choice, or ask for more than a signature.
_REFUSED: Final = frozenset({"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "enc"})


def unfit(token: str) -> str | None:
    """Return why a token is refused, whatever its signature is; None: it may be checked."""
    if len(token) > _LONGEST:
        return "it is too long"
    parts = token.split(".")
    if len(parts) != 3:
        return "it is no signed token"
    try:
        header, _ = (_object(part) for part in parts[:2])
    except (ValueError, RecursionError):
        return "its parts are no JSON objects with distinct names"
    if found := sorted(_REFUSED & header.keys()):
        return f"its header has {found[0]}"
    return None


def claim_of(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by a path with dots through objects; None: absent.

    A name with dots (``https://example.com/groups``) is found as a whole first.
    """
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def first_of(path: str) -> str:
    """Return the name of the outermost claim of a path."""
    return path if "/" in path else path.partition(".")[0]


def _object(part: str) -> dict[str, Any]:
    value = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_distinct)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of two claims of one name another reader may take the other one: raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found
