"""spanpost posts an agent's OpenTelemetry spans where people look.

    import spanpost
    spanpost.attach()

Names are loaded at their first use, so that an agent that imports only `spanpost.agent` pays for nothing
else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanpost.app import attach, flush
    from spanpost.launchers.base import Launcher, LauncherPlugin, LauncherSettings
    from spanpost.model.checkpoints import Checkpoint
    from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
    from spanpost.model.errors import (
        ConfigError,
        DeliveryError,
        DeliveryRefused,
        DeliveryUncertain,
        Rejected,
        SpanpostError,
        StoreUnavailable,
        Throttled,
        Unavailable,
        Unverifiable,
    )
    from spanpost.model.launch_orders import Order
    from spanpost.model.observations import Observation
    from spanpost.model.tasks import Task
    from spanpost.processors import AgentLogProcessor, AgentSpanExporter, AgentSpanProcessor
    from spanpost.runtime.pipeline import Pipeline
    from spanpost.runtime.replay import replay
    from spanpost.sinks.base import Finding, Sink
    from spanpost.sinks.plugin import SinkPlugin, SinkSettings

_MODULES = {
    "AgentLogProcessor": "spanpost.processors",
    "AgentSpanExporter": "spanpost.processors",
    "AgentSpanProcessor": "spanpost.processors",
    "RateLimit": "spanpost.model.deliveries",
    "SinkCall": "spanpost.model.deliveries",
    "Checkpoint": "spanpost.model.checkpoints",
    "ConfigError": "spanpost.model.errors",
    "Delivery": "spanpost.model.deliveries",
    "DeliveryError": "spanpost.model.errors",
    "Finding": "spanpost.sinks.base",
    "Launcher": "spanpost.launchers.base",
    "LauncherPlugin": "spanpost.launchers.base",
    "LauncherSettings": "spanpost.launchers.base",
    "StoreUnavailable": "spanpost.model.errors",
    "Observation": "spanpost.model.observations",
    "Order": "spanpost.model.launch_orders",
    "Pipeline": "spanpost.runtime.pipeline",
    "Receipt": "spanpost.model.deliveries",
    "DeliveryRefused": "spanpost.model.errors",
    "Rejected": "spanpost.model.errors",
    "Sink": "spanpost.sinks.base",
    "SinkPlugin": "spanpost.sinks.plugin",
    "SinkSettings": "spanpost.sinks.plugin",
    "SpanpostError": "spanpost.model.errors",
    "Task": "spanpost.model.tasks",
    "Throttled": "spanpost.model.errors",
    "Unavailable": "spanpost.model.errors",
    "DeliveryUncertain": "spanpost.model.errors",
    "Unverifiable": "spanpost.model.errors",
    "attach": "spanpost.app",
    "flush": "spanpost.app",
    "replay": "spanpost.runtime.replay",
}

__all__ = [
    "AgentLogProcessor",
    "AgentSpanExporter",
    "AgentSpanProcessor",
    "Checkpoint",
    "ConfigError",
    "Delivery",
    "DeliveryError",
    "DeliveryRefused",
    "DeliveryUncertain",
    "Finding",
    "Launcher",
    "LauncherPlugin",
    "LauncherSettings",
    "Observation",
    "Order",
    "Pipeline",
    "RateLimit",
    "Receipt",
    "Rejected",
    "Sink",
    "SinkCall",
    "SinkPlugin",
    "SinkSettings",
    "SpanpostError",
    "StoreUnavailable",
    "Task",
    "Throttled",
    "Unavailable",
    "Unverifiable",
    "attach",
    "flush",
    "replay",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'spanpost' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
