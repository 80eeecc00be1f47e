"""Finds kinds of launchers by their entry points, and refuses those that break the contract, naming the
distribution.
"""

from __future__ import annotations

import re
from typing import Final

from spanpost.launchers.base import GROUP, AnyPlugin, Launcher, LauncherPlugin, LauncherSettings
from spanpost.model.errors import ConfigError
from spanpost.plugins import PluginGroup, error_line

#: Valid in a variable's name, in an ordering key and in a metric's label.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_METHODS: Final = ("launch", "close")

_group: Final = PluginGroup(GROUP, "launcher plugin", "docs/reference/launcher-plugins.md")


def kinds() -> tuple[str, ...]:
    """Return the installed kinds of launchers, sorted."""
    return _group.names()


def find(kind: str) -> AnyPlugin:
    """Return the plugin of a kind. Raises `ConfigError` with the plugin, its distribution and what is missing."""
    plugin = _group.load(kind)
    if not isinstance(plugin, LauncherPlugin):
        raise _group.refusal(kind, f"{_group.lead(kind)} is a {type(plugin).__name__}, not a spanpost.LauncherPlugin")
    if plugin.kind != kind:
        raise _group.refusal(kind, f"it calls itself {plugin.kind!r}, its entry point {kind!r}; they must be one name")
    if not (isinstance(plugin.settings, type) and issubclass(plugin.settings, LauncherSettings)):
        raise _group.refusal(kind, "its settings must be a class derived from spanpost.LauncherSettings")
    return plugin


def open_launcher(name: str, kind: str, settings: LauncherSettings) -> Launcher:
    """Create a launcher from its settings. Raises `ConfigError` when it cannot be created or is not a launcher."""
    plugin = find(kind)
    try:
        launcher: Launcher = plugin.open(name, settings)
    except ConfigError:
        raise
    except Exception as error:
        raise _group.refusal(kind, f"{name} could not be opened: {error_line(error)}") from error
    missing = [method for method in _METHODS if not callable(getattr(launcher, method, None))]
    if missing or not isinstance(getattr(launcher, "retry_uncertain", None), bool):
        raise _group.refusal(kind, f"its open returns no launcher: {', '.join(missing or ['retry_uncertain'])} missing")
    return launcher
