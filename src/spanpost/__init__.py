"""spanpost posts an agent's OpenTelemetry spans where people look.

    import spanpost
    spanpost.attach()

Names are loaded when they are first used, so that an agent that imports `spanpost.agent` alone pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanpost.app import attach, flush
    from spanpost.domain.checkpoints import Checkpoint
    from spanpost.domain.deliveries import Budget, Call, Delivery, Receipt
    from spanpost.domain.errors import (
        ConfigError,
        DeliveryError,
        LedgerUnavailable,
        Refused,
        Rejected,
        SpanpostError,
        Throttled,
        Unavailable,
        Unknown,
        Unverifiable,
    )
    from spanpost.domain.observations import Observation
    from spanpost.domain.orders import Order
    from spanpost.domain.tasks import Task
    from spanpost.launchers.base import Launcher, LauncherPlugin, LauncherSettings
    from spanpost.pipeline import Pipeline
    from spanpost.processors import AgentLogProcessor, AgentSpanExporter, AgentSpanProcessor
    from spanpost.replays import replay
    from spanpost.sinks.base import Finding, Sink
    from spanpost.sinks.plugin import SinkPlugin, SinkSettings

_HOMES = {
    "AgentLogProcessor": "spanpost.processors",
    "AgentSpanExporter": "spanpost.processors",
    "AgentSpanProcessor": "spanpost.processors",
    "Budget": "spanpost.domain.deliveries",
    "Call": "spanpost.domain.deliveries",
    "Checkpoint": "spanpost.domain.checkpoints",
    "ConfigError": "spanpost.domain.errors",
    "Delivery": "spanpost.domain.deliveries",
    "DeliveryError": "spanpost.domain.errors",
    "Finding": "spanpost.sinks.base",
    "Launcher": "spanpost.launchers.base",
    "LauncherPlugin": "spanpost.launchers.base",
    "LauncherSettings": "spanpost.launchers.base",
    "LedgerUnavailable": "spanpost.domain.errors",
    "Observation": "spanpost.domain.observations",
    "Order": "spanpost.domain.orders",
    "Pipeline": "spanpost.pipeline",
    "Receipt": "spanpost.domain.deliveries",
    "Refused": "spanpost.domain.errors",
    "Rejected": "spanpost.domain.errors",
    "Sink": "spanpost.sinks.base",
    "SinkPlugin": "spanpost.sinks.plugin",
    "SinkSettings": "spanpost.sinks.plugin",
    "SpanpostError": "spanpost.domain.errors",
    "Task": "spanpost.domain.tasks",
    "Throttled": "spanpost.domain.errors",
    "Unavailable": "spanpost.domain.errors",
    "Unknown": "spanpost.domain.errors",
    "Unverifiable": "spanpost.domain.errors",
    "attach": "spanpost.app",
    "flush": "spanpost.app",
    "replay": "spanpost.replays",
}

__all__ = [
    "AgentLogProcessor",
    "AgentSpanExporter",
    "AgentSpanProcessor",
    "Budget",
    "Call",
    "Checkpoint",
    "ConfigError",
    "Delivery",
    "DeliveryError",
    "Finding",
    "Launcher",
    "LauncherPlugin",
    "LauncherSettings",
    "LedgerUnavailable",
    "Observation",
    "Order",
    "Pipeline",
    "Receipt",
    "Refused",
    "Rejected",
    "Sink",
    "SinkPlugin",
    "SinkSettings",
    "SpanpostError",
    "Task",
    "Throttled",
    "Unavailable",
    "Unknown",
    "Unverifiable",
    "attach",
    "flush",
    "replay",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanpost' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
