"""Finds kinds of launchers by their entry points, and refuses those that break the contract, naming the
distribution.
"""

from __future__ import annotations

import re
from typing import Final

from spanpost.launchers.base import GROUP, AnyPlugin, Launcher, LauncherPlugin, LauncherSettings
from spanpost.plugins import PluginGroup

#: Valid in a variable's name, in an ordering key and in a metric's label.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_METHODS: Final = ("launch", "close")

_group: Final = PluginGroup(GROUP, "launcher plugin", "docs/reference/launcher-plugins.md")


def kinds() -> tuple[str, ...]:
    """Return the installed kinds of launchers, sorted."""
    return _group.names()


def find(kind: str) -> AnyPlugin:
    """Return the plugin of a kind. Raises `ConfigError` with the plugin, its distribution and what is missing."""
    return _group.find(kind, LauncherPlugin, LauncherSettings, "kind")


def open_launcher(name: str, kind: str, settings: LauncherSettings) -> Launcher:
    """Create a launcher from its settings. Raises `ConfigError` when it cannot be created or is not a launcher."""
    plugin = find(kind)
    launcher: Launcher = _group.opened(
        kind, lambda: plugin.open(name, settings), _METHODS, what="launcher", called=name
    )
    if not isinstance(getattr(launcher, "retry_uncertain", None), bool):
        raise _group.refusal(kind, "its open returns no launcher: retry_uncertain missing")
    return launcher
