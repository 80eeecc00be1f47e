"""Find kinds of launchers by their entry points, and refuse those that break the contract, naming the distribution."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from spanpost.domain.errors import ConfigError
from spanpost.fold.redact import line
from spanpost.launchers.base import GROUP, AnyPlugin, Launcher, LauncherPlugin, LauncherSettings

#: Fit for a variable's name, for a lane and for a metric's label.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_METHODS: Final = ("launch", "close")
_PAGE: Final = "see docs/reference/launcher-plugins.md"


@cache
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _entries() -> tuple[EntryPoint, ...]:
    return _installed(tuple(sys.path))


def kinds() -> tuple[str, ...]:
    """Return the kinds of launchers that are installed, sorted."""
    return tuple(sorted({entry.name for entry in _entries()}))


def find(kind: str) -> AnyPlugin:
    """Return the plugin of that kind. Raises `ConfigError` with the plugin, its distribution and what is missing."""
    found = [entry for entry in _entries() if entry.name == kind]
    if not found:
        known = ", ".join(kinds()) or "none"
        raise ConfigError(f"no launcher of the kind {kind!r} is installed (installed: {known}); install what brings it")
    if len(found) > 1:
        who = " and ".join(sorted(map(_distribution, found)))
        raise ConfigError(f"launcher plugin {kind!r}: brought by {who}; uninstall all but one")
    entry = found[0]
    try:
        plugin = entry.load()
    except Exception as error:
        raise _refusal(entry, f"{entry.value} cannot be imported: {_told(error)}") from error
    if not isinstance(plugin, LauncherPlugin):
        raise _refusal(entry, f"{entry.value} is a {type(plugin).__name__}, not a spanpost.LauncherPlugin")
    if plugin.kind != kind:
        raise _refusal(entry, f"it calls itself {plugin.kind!r}, its entry point {kind!r}; they must be one name")
    if not (isinstance(plugin.settings, type) and issubclass(plugin.settings, LauncherSettings)):
        raise _refusal(entry, "its settings must be a class derived from spanpost.LauncherSettings")
    return plugin


def open_launcher(name: str, kind: str, settings: LauncherSettings) -> Launcher:
    """Make a launcher from its settings. Raises `ConfigError` when it cannot be made or is none."""
    plugin = find(kind)
    entry = next(entry for entry in _entries() if entry.name == kind)
    try:
        launcher: Launcher = plugin.open(name, settings)
    except ConfigError:
        raise
    except Exception as error:
        raise _refusal(entry, f"{name} could not be opened: {_told(error)}") from error
    missing = [method for method in _METHODS if not callable(getattr(launcher, method, None))]
    if missing or not isinstance(getattr(launcher, "repeats", None), bool):
        raise _refusal(entry, f"what it opens is no launcher: {', '.join(missing or ['repeats'])} missing")
    return launcher


def _refusal(entry: EntryPoint, what: str) -> ConfigError:
    return ConfigError(f"launcher plugin {entry.name!r} (of {_distribution(entry)}): {what}; {_PAGE}")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"


def _told(error: Exception) -> str:
    return line(f"{type(error).__name__}: {error}", 300)
