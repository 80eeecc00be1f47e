"""The doors for those who assemble providers by hand: as in `spanpost.receivers.sdk`, and without arguments too.

    provider = TracerProvider()
    provider.add_span_processor(spanpost.AgentSpanProcessor())

Without a receiver they lead into this process's pipeline, which is started from the settings when the first one is made, and
share it: with each other and with `spanpost.attach`.
"""

from __future__ import annotations

from spanpost import app
from spanpost.receivers import export, sdk
from spanpost.receivers.worker import Feed, Receive

__all__ = ["AgentLogProcessor", "AgentSpanExporter", "AgentSpanProcessor"]


def _target(receive: Receive | Feed | None) -> Receive | Feed:
    return receive if receive is not None else app.current().feed


class AgentSpanProcessor(sdk.SdkSpanProcessor):
    """Follows spans live: when they start, at each event, when attributes change, when they end.

    `receive` takes batches of observations in a worker thread; left out, they go to this process's pipeline. Raises
    `ConfigError` when that cannot be started. No callback raises, blocks or does I/O.
    """

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)


class AgentLogProcessor(sdk.SdkLogProcessor):
    """Hears log records that are events or belong to a followed span. `receive` as for `AgentSpanProcessor`."""

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)


class AgentSpanExporter(export.SdkSpanExporter):
    """Takes ended spans from a batch or simple processor, and so sees nothing of a span until it ends.

    `receive` as for `AgentSpanProcessor`, which sees spans while they run: prefer it where you can.
    """

    def __init__(self, receive: Receive | Feed | None = None, *, tenant: str = "default") -> None:
        super().__init__(_target(receive), tenant=tenant)
