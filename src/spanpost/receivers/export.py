"""The exporters: they receive ended spans only; processors see spans live.

A span that a processor of the same feed has reported is not reported again. A log record has no id: its
duplicate is recognised by its content when it is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanpost.receivers.follower import is_plumbing
from spanpost.receivers.protocols import Receive
from spanpost.receivers.queue import Loss, QueuedKind
from spanpost.receivers.sdk import FeedEndpoint, put_log
from spanpost.receivers.spans import event_name_of
from spanpost.receivers.worker import Feed

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import export as _export

    LogExporterBase = _export.LogRecordExporter
    LogExportResult = _export.LogRecordExportResult
else:
    try:
        from opentelemetry.sdk._logs import export as _export

        # The names were longer from 1.39 on.
        LogExporterBase = getattr(_export, "LogRecordExporter", None) or _export.LogExporter
        LogExportResult = getattr(_export, "LogRecordExportResult", None) or _export.LogExportResult
    except ImportError:  # an SDK built without logs
        LogExporterBase = object
        LogExportResult = SpanExportResult

_ENDED = int(QueuedKind.ENDED)


class SdkSpanExporter(FeedEndpoint, SpanExporter):
    """Receives ended spans from a batch or simple processor.

    Prefer `SdkSpanProcessor`, which sees spans live.
    """

    def __init__(self, sink: Receive | Feed, *, tenant: str = "default") -> None:
        super().__init__(sink, tenant=tenant)
        self.feed.remember_ends()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue ended spans; FAILURE: one was dropped (and counted)."""
        try:
            inherited = self.feed.inherited  # reported by the parent process
            queued = [self._put(span) for span in spans if _id_of(span) not in inherited]
            return SpanExportResult.SUCCESS if all(queued) else SpanExportResult.FAILURE
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return SpanExportResult.FAILURE

    def _put(self, span: Any) -> bool:
        feed = self.feed
        # A processor has spooled the spans that it follows.
        if (spool := feed.spool) is None or feed.follows:
            return feed.put((_ENDED, span, None))
        return feed.put_durably((_ENDED, span, None), spool.write_end, span, False)


class AgentLogExporter(FeedEndpoint, LogExporterBase):
    """Receives log records that are events.

    Plain log lines are left to the processor, which knows their spans.
    """

    def export(self, batch: Sequence[Any]) -> Any:
        """Queue the events among the records; FAILURE: one was dropped (and counted)."""
        try:
            queued = [put_log(self.feed, data) for data in batch if _is_event(data)]
            return LogExportResult.SUCCESS if all(queued) else LogExportResult.FAILURE
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return LogExportResult.FAILURE


def _id_of(span: Any) -> int:
    number: int = span.get_span_context().span_id
    return number


def _is_event(data: Any) -> bool:
    scope = data.instrumentation_scope
    return bool(event_name_of(data.log_record)) and not (scope is not None and is_plumbing(scope.name))
