"""Links from a task to other systems: addresses with fields, from the settings."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from spanpost.model.tasks import Task
from spanpost.sinks.fields import LISTED, NAME, attributes_of, unknown, values
from spanpost.text.sanitise import link

_FIELD: Final = re.compile(rf"\{{({NAME})\}}")


class Template(msgspec.Struct, frozen=True):
    """A link: its name, and an address with ``{fields}``."""

    name: str
    address: str

    def filled(self, task: Task, limit: int = 600) -> str | None:
        """Return the address for a task; None if a field is unknown, or the address is unsafe."""
        known = values(task)
        if any(not known.get(name) for name in _FIELD.findall(self.address)):
            return None
        filled = _FIELD.sub(lambda field: quote(known[field[1]], safe="", errors="replace"), self.address)
        # Browsers take `..` for the folder above, escaped or not: an agent could choose another page.
        is_above = any(unquote(part) in (".", "..") for part in urlsplit(filled).path.split("/"))
        return None if is_above else link(filled, limit)

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return attributes_of(_FIELD.findall(self.address))


def problem(address: str) -> str:
    """Return what is wrong with a template; empty if nothing is."""
    if wrong := unknown(re.findall(r"\{([^{}]*)\}", address)):
        return f"knows no field {{{wrong}}}; there are {LISTED}"
    if "{" in _FIELD.sub("", address) or "}" in _FIELD.sub("", address):
        return "has a brace that belongs to no field"
    try:
        parts = urlsplit(address)
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or "{" in parts.netloc:
        # Otherwise an agent could choose the host.
        return "must begin with https:// and a host; fields stand behind it"
    if link(_FIELD.sub("x", address)) is None:
        return "must hold no user, password or other secret"
    return ""
