"""What all plugins have in common, whatever they plug into: how they are found by entry points, and their settings.

Only the metadata are read until a plugin is asked for: one that nobody has set up costs nothing and can break nothing.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from spanpost.model.errors import ConfigError
from spanpost.text.sanitise import line


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: Seconds as a number, or ISO 8601 (``PT15M``).
Duration = Annotated[timedelta, BeforeValidator(_seconds)]


class PluginSettings(BaseModel):
    """What a plugin can be told. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Reading every distribution's metadata takes tens of milliseconds: once for each search path is enough.
    return tuple(entry_points(group=group))


class PluginGroup:
    """The plugins of one group of entry points. `what` is one of them in an error's words, `page` the page of their contract."""

    def __init__(self, name: str, what: str, page: str) -> None:
        self.name = name
        self._what = what
        self._page = page

    def names(self) -> tuple[str, ...]:
        """Return the names of those that are installed, sorted."""
        return tuple(sorted({entry.name for entry in self._entries()}))

    def distribution(self, name: str) -> str:
        """Return who brings one: ``spanpost-webhook 0.1.0``."""
        return " and ".join(sorted(_distribution(entry) for entry in self._entries() if entry.name == name))

    def load(self, name: str) -> Any:
        """Return what the entry point of that name leads to. Raises `ConfigError` where it is missing, doubled or broken."""
        found = [entry for entry in self._entries() if entry.name == name]
        if not found:
            known = ", ".join(self.names()) or "none"
            raise ConfigError(f"{self._what} {name!r}: not installed (installed: {known}); install what brings it")
        if len(found) > 1:
            raise ConfigError(f"{self._what} {name!r}: brought by {self.distribution(name)}; uninstall all but one")
        try:
            return found[0].load()
        except Exception as error:
            raise self.refusal(name, f"{found[0].value} cannot be imported: {told(error)}") from error

    def refusal(self, name: str, why: str) -> ConfigError:
        """Return the error about one that breaks the contract."""
        return ConfigError(f"{self._what} {name!r} (of {self.distribution(name)}): {why}; see {self._page}")

    def lead(self, name: str) -> str:
        """Return where the entry point of that name leads: ``package.module:attribute``."""
        return next(entry.value for entry in self._entries() if entry.name == name)

    def _entries(self) -> tuple[EntryPoint, ...]:
        return _installed(self.name, tuple(sys.path))


def told(error: Exception) -> str:
    """Return a plugin's exception in one bounded line."""
    return line(f"{type(error).__name__}: {error}", 300)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
