"""Processors and exporters for providers that are assembled by hand: those of `spanpost.receivers.sdk`,
also without arguments.

    provider = TracerProvider()
    provider.add_span_processor(spanpost.AgentSpanProcessor())

Without a receiver they feed this process's pipeline, which is started from the settings when the first one
is made. They share it with each other and with `spanpost.attach`.
"""

from __future__ import annotations

from spanpost import app
from spanpost.receivers import export, sdk
from spanpost.receivers.protocols import Receive
from spanpost.receivers.worker import Feed

__all__ = ["AgentLogProcessor", "AgentSpanExporter", "AgentSpanProcessor"]


def _target(receive: Receive | Feed | None) -> Receive | Feed:
    return receive if receive is not None else app.current().feed


class AgentSpanProcessor(sdk.SdkSpanProcessor):
    """Follows spans live: at their start, at each event, when attributes change, at their end.

    `receive` gets batches of observations in a worker thread; without it, they go to this process's
    pipeline. Raises `ConfigError` if that cannot be started. No callback raises, blocks or does I/O.
    """

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)


class AgentLogProcessor(sdk.SdkLogProcessor):
    """Follows log records that are events or belong to a followed span. `receive` as for `AgentSpanProcessor`."""

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)


class AgentSpanExporter(export.SdkSpanExporter):
    """Takes ended spans from a batch or simple processor, so it sees a span only at its end.

    `receive` as for `AgentSpanProcessor`, which sees spans while they run: prefer it if you can.
    """

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)
