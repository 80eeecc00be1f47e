"""People's ratings as `gen_ai.evaluation.result` events, by this process's OpenTelemetry logger provider.

The convention is that of semantic-conventions-genai (2026-09). Each rating is emitted once: by the process that
recorded it, after it is committed. Delivery is the provider's.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, LogRecord, get_logger
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from spanpost import semconv as c
from spanpost.model.evaluations import Evaluation
from spanpost.model.recorded import Recorded


class RatingEvents:
    """Emits the ratings of recorded batches; `provider`: else the global one."""

    def __init__(self, provider: LoggerProvider | None = None) -> None:
        self._logger = get_logger(c.SCOPE_FEEDBACK, logger_provider=provider)

    def emit(self, recorded: Recorded) -> None:
        """Emit the new ratings of a batch. Results that telemetry reported are not sent on."""
        for one in recorded.evaluated:
            if one.evaluation.is_person:
                self._logger.emit(_record(one.evaluation))


def _record(rating: Evaluation) -> LogRecord:
    said = {
        c.EVALUATION_NAME: rating.name,
        c.EVALUATION_SCORE: rating.score,
        c.EVALUATION_LABEL: rating.label,
        c.EVALUATION_EXPLANATION: rating.explanation or None,
    }
    trace_id, _, span_id = rating.subject.partition("-")
    of_task = None
    if trace_id and span_id:
        span = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
        of_task = trace.set_span_in_context(NonRecordingSpan(span))
    return LogRecord(
        timestamp=int(rating.at.timestamp() * 1e9) if rating.at is not None else None,
        context=of_task,
        event_name=c.EVENT_EVALUATION,
        attributes={name: value for name, value in said.items() if value is not None},
    )
