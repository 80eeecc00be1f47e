"""Waits for people as `gen_ai.agent.paused`, `.pause.resolved` and `.resumed`, by this process's logger provider.

The names are proposals (semantic-conventions-genai, issue 159 and pull request 445, looked up 2026-11-23): they may
change. Each event is emitted once: by the process that recorded its cause, after it is committed. Delivery is the
provider's. Questions, answers and people's names are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, LogRecord, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.readings import Approval
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.tasks.approvals import answered_id, decided_id

#: Decisions as the proposal names them; a choice among an agent's own options is "answered".
_RESOLUTIONS: Final = {"approve": "approved", "deny": "refused", c.EXPIRED: "expired"}


class PauseEvents:
    """Emits the questions and answers of recorded batches; `provider`: else the global one."""

    def __init__(self, provider: LoggerProvider | None = None) -> None:
        self._logger = get_logger(c.SCOPE_FEEDBACK, logger_provider=provider)

    def emit(self, recorded: Recorded) -> None:
        """Emit the new questions and answers of a batch."""
        tasks = {task.uid: task for task in recorded.tasks}
        for checkpoint in recorded.checkpoints:
            task = tasks.get(checkpoint.task_uid)
            if task is None:
                continue
            if checkpoint.kind is Kind.APPROVAL_REQUESTED:
                asked = task.approval_of(checkpoint.id)
                if asked is not None and asked.reported_by == checkpoint.id:
                    self._paused(task, checkpoint, asked)
            elif checkpoint.kind is Kind.APPROVAL_RESOLVED:
                decided = next((a for a in task.approvals if a.decision and _reports(checkpoint, a)), None)
                if decided is not None:
                    self._resolved(task, checkpoint, decided)

    def _paused(self, task: Task, checkpoint: Checkpoint, asked: Approval) -> None:
        said = {c.PAUSE_ID: asked.id, c.PAUSE_REASON: c.HUMAN_INPUT}
        if asked.deadline is not None:
            said[c.PAUSE_DEADLINE] = asked.deadline.isoformat()
        self._emit(c.EVENT_AGENT_PAUSED, task, checkpoint, said)

    def _resolved(self, task: Task, checkpoint: Checkpoint, decided: Approval) -> None:
        word = "withdrawn" if decided.is_withdrawn else _RESOLUTIONS.get(decided.decision, "answered")
        resolution = "expired" if decided.is_expired else word
        self._emit(c.EVENT_PAUSE_RESOLVED, task, checkpoint, {c.PAUSE_ID: decided.id, c.PAUSE_RESOLUTION: resolution})
        if resolution in ("approved", "answered"):
            resumed = {c.RESUMED_FROM_TYPE: "pause", c.RESUMED_FROM_ID: decided.id, c.PAUSE_RESOLUTION: resolution}
            self._emit(c.EVENT_AGENT_RESUMED, task, checkpoint, resumed)

    def _emit(self, name: str, task: Task, checkpoint: Checkpoint, said: Mapping[str, str]) -> None:
        attributes = {c.EXECUTION_ID: task.task_id, **said}
        if task.agent_name is not None:
            attributes["gen_ai.agent.name"] = task.agent_name
        self._logger.emit(
            LogRecord(
                timestamp=_nanoseconds(checkpoint.at),
                context=_of_span(checkpoint.trace_id, checkpoint.span_id),
                event_name=name,
                attributes=attributes,
            )
        )


def _reports(checkpoint: Checkpoint, asked: Approval) -> bool:
    """Tell whether a checkpoint reports the decision that stands. An agent reports spanpost's own once more."""
    trace_id = checkpoint.trace_id.hex()
    if asked.source:
        return checkpoint.id == decided_id(checkpoint.tenant, asked.id, asked.mark, trace_id)
    return checkpoint.id == answered_id(checkpoint.tenant, asked.id, trace_id)


def _of_span(trace_id: bytes, span_id: bytes) -> Context | None:
    if not any(trace_id) or not any(span_id):
        return None
    span = SpanContext(
        int.from_bytes(trace_id), int.from_bytes(span_id), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return trace.set_span_in_context(NonRecordingSpan(span))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
