"""Find sinks by their entry points, and refuse those that break the contract, naming the plugin and its distribution.

Only the metadata are read until a sink is asked for: a plugin that nobody has set up costs nothing and can break nothing.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from spanpost.domain.errors import ConfigError
from spanpost.fold.redact import line
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import GROUP, SinkPlugin, SinkSettings

# Fit for a variable's name ("__" parts room and field), for a lane ("|") and for a metric's label.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_METHODS = ("deliver", "reconcile", "budgets", "close")


@cache
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Reading every distribution's metadata takes tens of milliseconds: once for each search path is enough.
    return tuple(entry_points(group=GROUP))


def _entries(name: str | None = None) -> list[EntryPoint]:
    return [entry for entry in _installed(tuple(sys.path)) if name in (None, entry.name)]


def names() -> tuple[str, ...]:
    """Return the names of the sinks that are installed, sorted."""
    return tuple(sorted({entry.name for entry in _entries()}))


def distribution(name: str) -> str:
    """Return who brings the sink: ``spanpost-webhook 0.1.0``."""
    return " and ".join(sorted(_distribution(entry) for entry in _entries(name)))


def find(name: str) -> SinkPlugin[Any]:
    """Return the plugin of that name. Raises `ConfigError` with the plugin, its distribution and what is missing."""
    found = _entries(name)
    if not found:
        raise ConfigError(
            f"sink plugin {name!r}: not installed (installed: {', '.join(names()) or 'none'}); install what brings it"
        )
    if len(found) > 1:
        raise ConfigError(f"sink plugin {name!r}: brought by {distribution(name)}; uninstall all but one")
    entry = found[0]
    if not _NAME.fullmatch(name):
        raise _refusal(entry, "its name must be lower-case words of letters and digits, joined by single underscores")
    try:
        plugin = entry.load()
    except Exception as error:
        raise _refusal(entry, f"{entry.value} cannot be imported: {_told(error)}") from error
    if not isinstance(plugin, SinkPlugin):
        raise _refusal(entry, f"{entry.value} is a {type(plugin).__name__}, not a spanpost.SinkPlugin")
    if plugin.name != name:
        raise _refusal(entry, f"it calls itself {plugin.name!r}, its entry point {name!r}; they must be one name")
    if not (isinstance(plugin.settings, type) and issubclass(plugin.settings, SinkSettings)):
        raise _refusal(entry, "its settings must be a class derived from spanpost.SinkSettings")
    if not callable(plugin.open):
        raise _refusal(entry, "its open cannot be called; it takes the settings and returns the sink")
    return plugin


def open_sink(name: str, settings: SinkSettings) -> Sink:
    """Make a sink from its settings. Raises `ConfigError` when it cannot be made or is no sink."""
    plugin = find(name)
    (entry,) = _entries(name)
    try:
        sink = plugin.open(settings)
    except ConfigError:
        raise
    except Exception as error:
        raise _refusal(entry, f"it could not be opened: {_told(error)}") from error
    missing = [method for method in _METHODS if not callable(getattr(sink, method, None))]
    if missing:
        raise _refusal(entry, f"what it opens is no sink: {', '.join(missing)} missing")
    if getattr(sink, "name", None) != name:
        raise _refusal(entry, f"its sink is named {getattr(sink, 'name', None)!r}, must be {name!r}")
    return sink


def _refusal(entry: EntryPoint, what: str) -> ConfigError:
    return ConfigError(f"sink plugin {entry.name!r} (of {_distribution(entry)}): {what}; see docs/reference/sink-plugins.md")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"


def _told(error: Exception) -> str:
    return line(f"{type(error).__name__}: {error}", 300)
