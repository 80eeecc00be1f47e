"""Finds sinks by their entry points, and refuses those that break the contract, naming the plugin and its
distribution.
"""

from __future__ import annotations

import re
from typing import Any, Final

from spanpost.plugins import PluginGroup
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import GROUP, SinkPlugin, SinkSettings

# Valid in a variable's name ("__" separates section and field), in an ordering key ("|") and in a metric's
# label.
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_METHODS: Final = ("deliver", "reconcile", "rate_limits", "close")

_group: Final = PluginGroup(GROUP, "sink plugin", "docs/reference/sink-plugins.md")


def names() -> tuple[str, ...]:
    """Return the names of the installed sinks, sorted."""
    return _group.names()


def distribution(name: str) -> str:
    """Return the distribution of a sink: ``spanpost-webhook 0.1.0``."""
    return _group.distribution(name)


def find(name: str) -> SinkPlugin[Any]:
    """Return the plugin of a name. Raises `ConfigError` with the plugin, its distribution and what is missing."""
    if name in names() and not _NAME.fullmatch(name):
        raise _group.refusal(
            name, "its name must be lower-case words of letters and digits, joined by single underscores"
        )
    plugin = _group.find(name, SinkPlugin, SinkSettings, "name")
    if not callable(plugin.open):
        raise _group.refusal(name, "its open cannot be called; it takes the settings and returns the sink")
    return plugin


def open_sink(name: str, settings: SinkSettings) -> Sink:
    """Create a sink from its settings. Raises `ConfigError` when it cannot be created or is not a sink."""
    plugin = find(name)
    sink: Sink = _group.opened(name, lambda: plugin.open(settings), _METHODS, what="sink")
    if getattr(sink, "name", None) != name:
        raise _group.refusal(name, f"its sink is named {getattr(sink, 'name', None)!r}, must be {name!r}")
    return sink
