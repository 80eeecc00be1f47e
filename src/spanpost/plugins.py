"""Common parts of all plugins: discovery by entry points, and settings.

Only metadata are read until a plugin is used: an unused plugin costs nothing and can break nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from copy import copy
from datetime import timedelta
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import get_annotations
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from spanpost.model.errors import ConfigError
from spanpost.text.sanitise import line

P = TypeVar("P")
T = TypeVar("T")


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def _seconds(value: object) -> object:
    if isinstance(value, str):
        if said := _SPAN.fullmatch(value.strip()):
            return float(said[1]) * _UNITS[said[2]]
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: Seconds as a number, a number with a unit (``30s``, ``15m``, ``6h``, ``7d``), or ISO 8601 (``PT15M``).
Duration = Annotated[timedelta, BeforeValidator(_seconds)]


class PluginSettings(BaseModel):
    """Base of plugin settings. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Settings may derive from a rule, a frozen dataclass. In their subclasses pydantic finds that dataclass's
        # default before the field that the settings made of it: put the field first.
        for base in reversed(cls.__mro__[1:]):
            for name, field in base.__dict__.get("__pydantic_fields__", {}).items():
                if name not in get_annotations(cls) and hasattr(base, name):
                    setattr(cls, name, copy(field))


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Reading the metadata of all distributions takes tens of milliseconds, so it is cached for each search
    # path.
    return tuple(entry_points(group=group))


class PluginGroup:
    """The plugins of one entry point group. `what` names one in errors, `page` documents their contract."""

    def __init__(self, name: str, what: str, page: str) -> None:
        self.name = name
        self._what = what
        self._page = page

    def names(self) -> tuple[str, ...]:
        """Return the names of the installed plugins, sorted."""
        return tuple(sorted({entry.name for entry in self._entries()}))

    def distribution(self, name: str) -> str:
        """Return the distribution of a plugin: ``spanpost-webhook 0.1.0``."""
        return " and ".join(sorted(_distribution(entry) for entry in self._entries() if entry.name == name))

    def load(self, name: str) -> Any:
        """Return the object of an entry point. Raises `ConfigError` if it is missing, ambiguous or broken."""
        found = [entry for entry in self._entries() if entry.name == name]
        if not found:
            known = ", ".join(self.names()) or "none"
            raise ConfigError(f"{self._what} {name!r}: not installed (installed: {known}); install its package")
        if len(found) > 1:
            raise ConfigError(f"{self._what} {name!r}: provided by {self.distribution(name)}; uninstall all but one")
        try:
            return found[0].load()
        except Exception as error:
            raise self.refusal(name, f"{found[0].value} cannot be imported: {error_line(error)}") from error

    def find(self, name: str, kind: type[P], settings: type[PluginSettings], named_by: str) -> P:
        """Return a plugin of this type whose attribute `named_by` is its name. Raises `ConfigError` with the plugin,
        its distribution and what is missing.
        """
        plugin = self.load(name)
        if not isinstance(plugin, kind):
            raise self.refusal(name, f"{self._lead(name)} is a {type(plugin).__name__}, not a spanpost.{kind.__name__}")
        own, its_settings = getattr(plugin, named_by), getattr(plugin, "settings", None)
        if own != name:
            raise self.refusal(name, f"it calls itself {own!r}, its entry point {name!r}; they must be one name")
        if not (isinstance(its_settings, type) and issubclass(its_settings, settings)):
            raise self.refusal(name, f"its settings must be a class derived from spanpost.{settings.__name__}")
        return plugin

    def opened(self, name: str, make: Callable[[], T], methods: Sequence[str], *, what: str, called: str = "it") -> T:
        """Return what a plugin makes. Raises `ConfigError` if it fails, or has not all of the methods."""
        try:
            made = make()
        except ConfigError:
            raise
        except Exception as error:
            raise self.refusal(name, f"{called} could not be opened: {error_line(error)}") from error
        missing = [method for method in methods if not callable(getattr(made, method, None))]
        if missing:
            raise self.refusal(name, f"what it opens is no {what}: {', '.join(missing)} missing")
        return made

    def refusal(self, name: str, why: str) -> ConfigError:
        """Return the error about a plugin that breaks the contract."""
        return ConfigError(f"{self._what} {name!r} (of {self.distribution(name)}): {why}; see {self._page}")

    def _lead(self, name: str) -> str:
        """Return the target of an entry point: ``package.module:attribute``."""
        return next(entry.value for entry in self._entries() if entry.name == name)

    def _entries(self) -> tuple[EntryPoint, ...]:
        return _installed(self.name, tuple(sys.path))


def error_line(error: Exception) -> str:
    """Return a plugin's exception in one bounded line."""
    return line(f"{type(error).__name__}: {error}", 300)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
