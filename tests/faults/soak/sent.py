"""SentSpans of what was sent and what was acknowledged: the truth that the end of a run is compared with."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

RESOURCE, SCOPE = Resource({"service.name": "soak"}), InstrumentationScope("soak")
_SECOND = 1_000_000_000

#: Identity of a span's row, and of its event's row: trace, span, part (0 or 2), index.
Row = tuple[bytes, bytes, int, int]


@dataclass(frozen=True)
class SentTask:
    """A task with known figures, as spans that are sent in pieces."""

    task_id: str
    name: str
    is_failed: bool
    llm_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    checkpoints: int
    spans: tuple[ReadableSpan, ...]

    @property
    def figures(self) -> tuple[object, ...]:
        """What the task's row must say."""
        status = "error" if self.is_failed else "complete"
        return status, self.llm_calls, self.tool_calls, self.input_tokens, self.output_tokens


def span(
    trace: int, number: int, name: str, attributes: dict[str, str | int], *, parent: int = 0, is_failed: bool = False
) -> ReadableSpan:
    """Return a span that ends now."""
    now = time.time_ns()
    flags = TraceFlags(1)
    events = [
        Event("agent.checkpoint", {"agent.checkpoint.message": f"part {part}"}, now - (9 - part) * _SECOND // 10)
        for part in range(2 if "agent.task.id" in attributes else 0)
    ]
    return ReadableSpan(
        name=name,
        context=SpanContext(trace, number, False, flags),
        parent=SpanContext(trace, parent, False, flags) if parent else None,
        resource=RESOURCE,
        instrumentation_scope=SCOPE,
        attributes=attributes,
        events=events,
        start_time=now - _SECOND * (1 if parent else 2),
        end_time=now,
        status=Status(StatusCode.ERROR, "the build is red") if is_failed else Status(StatusCode.OK),
    )


def sent_task(task_id: str, chance: random.Random, long: float = 1 / 8) -> SentTask:
    """Make a task of about thirty spans; this share of all has hundreds."""
    trace, calls = chance.getrandbits(127) + 1, chance.randrange(4, 9)
    tools = chance.randrange(200, 800) if chance.random() < long else chance.randrange(16, 28)
    is_failed, read, written = chance.random() < 0.1, 0, 0
    agent: dict[str, str | int] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "soaked",
        "agent.task.id": task_id,
        "agent.task.name": f"Job {task_id}",
    }
    spans = [span(trace, 1, "invoke_agent soaked", agent, is_failed=is_failed)]
    for number in range(calls):
        given, came = chance.randrange(1, 2000), chance.randrange(1, 300)
        read, written = read + given, written + came
        call: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.id": f"r-{trace:x}-{number}",
            "gen_ai.usage.input_tokens": given,
            "gen_ai.usage.output_tokens": came,
        }
        spans.append(span(trace, 2 + number, "chat gpt-4o", call, parent=1))
    tool: dict[str, str | int] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    spans += [span(trace, 100 + number, "execute_tool grep", tool, parent=1) for number in range(tools)]
    return SentTask(
        task_id, f"Job {task_id}", is_failed, calls, tools, read, written, len(spans[0].events), tuple(spans)
    )


def rows_of(spans: Iterable[ReadableSpan]) -> Iterable[Row]:
    """Yield the rows that spans come to."""
    for each in spans:
        context = each.get_span_context()
        trace, number = context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")
        yield trace, number, 0, 0
        for index, _ in enumerate(each.events):
            yield trace, number, 2, index


@dataclass
class SentSpans:
    """What the senders sent. May be used from any thread."""

    acknowledged: set[Row] = field(default_factory=set)
    #: Spans of refused and unanswered requests; most of them are acknowledged later.
    refused: int = 0
    spans: int = 0
    tasks: dict[str, SentTask] = field(default_factory=dict)
    #: Spans whose sender gave up at the end of the run.
    unacknowledged: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, spans: Iterable[ReadableSpan]) -> None:
        """Note an answer of 200 or OK."""
        self.acknowledge_rows(list(rows_of(spans)))

    def acknowledge_rows(self, rows: Sequence[Row]) -> None:
        """Note the rows of spans and events that were answered 200 or OK."""
        with self._lock:
            self.acknowledged.update(rows)
            self.spans += sum(row[2] == 0 for row in rows)

    def refuse(self, count: int) -> None:
        """Note an answer that was none, or a refusal."""
        with self._lock:
            self.refused += count

    def give_up(self, count: int) -> None:
        """Note spans that were never acknowledged."""
        with self._lock:
            self.unacknowledged += count

    def complete(self, task: SentTask) -> None:
        """Note that all spans of a task were acknowledged."""
        with self._lock:
            self.tasks[task.task_id] = task
