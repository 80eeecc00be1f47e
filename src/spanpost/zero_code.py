"""Entry points that OpenTelemetry loads: the hook after its own set-up, and the exporters that can be
named.

    opentelemetry-instrument python agent.py
    OTEL_TRACES_EXPORTER=otlp,spanpost OTEL_LOGS_EXPORTER=otlp,spanpost opentelemetry-instrument python
    agent.py

With spanpost installed the hook (entry point ``opentelemetry_post_instrument``) is always called, also
under ``OTEL_CONFIG_FILE``. It follows spans live; what the named exporters get as well is then known
already and counted once. After a mistake in the settings, one line is logged and spanpost stays off: an
exception here would cost the application all of its telemetry.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter as _SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from spanpost.receivers.export import AgentLogExporter, LogExporterBase, LogExportResult, SdkSpanExporter

if TYPE_CHECKING:
    from spanpost.receivers.worker import Feed

_log = logging.getLogger("spanpost")
_is_out = False


def attach() -> None:
    """Attach with the settings of the environment, once, after OpenTelemetry's own set-up. Never raises."""
    if _is_out:
        return
    try:
        from spanpost import app

        app.attach()
    except Exception as error:
        _stay_out(error)


def _stay_out(error: Exception) -> None:
    global _is_out
    _is_out = True
    _log.error("spanpost stays out: %s", "; ".join(str(error).splitlines()) or type(error).__name__)


def _feed(sections: dict[str, Any]) -> Feed | None:
    """Return the feed of this process's pipeline, started with these sections if there is none; None if
    spanpost stays off.
    """
    if _is_out:
        return None
    try:
        from spanpost import app

        return app.current(**sections).feed
    except Exception as error:
        _stay_out(error)
        return None


class SpanExporter(_SpanExporter):
    """``OTEL_TRACES_EXPORTER=spanpost``: takes ended spans that are not followed live.

    In a declarative configuration its keys are sections of the settings: ``spanpost: {console: {form:
    plain}}``.
    """

    def __init__(self, **sections: Any) -> None:
        feed = _feed(sections)
        self._to = SdkSpanExporter(feed) if feed is not None else None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._to.export(spans) if self._to is not None else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self._to is not None:
            self._to.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._to is None or self._to.force_flush(timeout_millis)


class LogExporter(LogExporterBase):
    """``OTEL_LOGS_EXPORTER=spanpost``: takes log records that are events. Keys as for `SpanExporter`."""

    def __init__(self, **sections: Any) -> None:
        feed = _feed(sections)
        self._to = AgentLogExporter(feed) if feed is not None else None

    def export(self, batch: Sequence[Any]) -> Any:
        return self._to.export(batch) if self._to is not None else LogExportResult.FAILURE

    def shutdown(self) -> None:
        if self._to is not None:
            self._to.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._to is None or self._to.force_flush(timeout_millis)
