"""Observations for tests: small, complete, and at the current time."""

from __future__ import annotations

import time
from typing import Any

from spanpost.model.observations import Observation, Origin, Part, Status

ORIGIN = Origin(resource={"service.name": "tests"}, scope="tests", scope_version="1")
#: One time for a module of tests: equal builders give duplicates, and checkpoints are young enough to be
#: sent.
BEGAN = time.time_ns()


def renew() -> None:
    """Let now be now: what is observed from here on is of this moment."""
    global BEGAN
    BEGAN = time.time_ns()


def _span_id(number: int) -> bytes:
    return number.to_bytes(8, "big") if number else b""


def _at(seconds: float) -> int:
    return BEGAN + int(seconds * 1e9)


def ended(
    *,
    trace: int,
    span: int,
    name: str,
    parent: int = 0,
    attributes: dict[str, Any] | None = None,
    at: float = 0.0,
    seconds: float = 5.0,
    status: Status = Status.UNSET,
    status_message: str = "",
    tenant: str = "default",
) -> Observation:
    """Return a span that has ended: it began `at` seconds from now and took `seconds`."""
    return Observation(
        part=Part.ENDED,
        trace_id=trace.to_bytes(16, "big"),
        span_id=_span_id(span),
        parent_id=_span_id(parent),
        tenant=tenant,
        name=name,
        at_ns=_at(at + seconds),
        start_ns=_at(at),
        end_ns=_at(at + seconds),
        status=status,
        status_message=status_message,
        attributes=attributes or {},
        origin=ORIGIN,
    )


def started(
    *,
    trace: int,
    span: int,
    name: str,
    parent: int = 0,
    attributes: dict[str, Any] | None = None,
    at: float = 0.0,
    seq: int = 0,
    tenant: str = "default",
) -> Observation:
    """Return a span that has not ended."""
    return Observation(
        part=Part.STARTED,
        trace_id=trace.to_bytes(16, "big"),
        span_id=_span_id(span),
        parent_id=_span_id(parent),
        tenant=tenant,
        name=name,
        at_ns=_at(at),
        start_ns=_at(at),
        attributes=attributes or {},
        origin=ORIGIN,
        producer="tests",
        seq=seq,
    )


def an_event(
    *,
    trace: int,
    span: int,
    name: str,
    index: int,
    attributes: dict[str, Any] | None = None,
    at: float = 1.0,
    tenant: str = "default",
) -> Observation:
    """Return an event on a span."""
    return Observation(
        part=Part.EVENT,
        trace_id=trace.to_bytes(16, "big"),
        span_id=_span_id(span),
        tenant=tenant,
        index=index,
        name=name,
        at_ns=_at(at),
        attributes=attributes or {},
        origin=ORIGIN,
    )


def a_run(
    name: str, *, trace: int = 1, at: float = 0.0, is_failed: bool = False, tenant: str = "default"
) -> list[Observation]:
    """Return a complete run of an agent: a task, one model call, one tool call, an artifact."""
    root_span: dict[str, Any] = {
        "agent.task.name": name,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "coder",
    }
    call: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.response.id": f"r-{trace}-{tenant}",
    }
    tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    made: dict[str, Any] = {"agent.artifact.name": "patch", "agent.artifact.kind": "pr"}
    made["agent.artifact.uri"] = f"https://example.org/{trace}"
    status = Status.ERROR if is_failed else Status.OK
    return [
        ended(
            trace=trace, span=1, name="agent", attributes=root_span, at=at, seconds=10.0, status=status, tenant=tenant
        ),
        ended(trace=trace, span=2, parent=1, name="chat", attributes=call, at=at + 4, seconds=2.0, tenant=tenant),
        ended(trace=trace, span=3, parent=1, name="tool", attributes=tool, at=at + 1, seconds=2.0, tenant=tenant),
        an_event(trace=trace, span=1, name="agent.artifact", attributes=made, index=0, at=at + 6, tenant=tenant),
    ]
