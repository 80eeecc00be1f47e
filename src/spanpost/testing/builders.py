"""Builders of domain values with sensible defaults: name what a test is about, leave the rest.

a_span(name="chat gpt-5", **{"gen_ai.operation.name": "chat"})   # further keywords are attributes
an_event(on=span, message="half way", at=SECOND * 30)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation, Origin, Part, Status, log_index
from spanpost.model.tasks import Task

SECOND = 1_000_000_000
#: When everything built here begins: 2026-01-01 12:00 UTC.
EPOCH = datetime(2026, 1, 1, 12, tzinfo=UTC)
EPOCH_NS = int(EPOCH.timestamp()) * SECOND

ORIGIN = Origin(resource={"service.name": "an-agent"}, scope="tests", scope_version="1")

_NAMES = UUID("7c0f3f0e-6a52-5d0c-9d5e-0c5d7f2f6a11")


def trace_id(number: int = 1) -> bytes:
    """Return the number as a trace id."""
    return number.to_bytes(16, "big")


def span_id(number: int = 1) -> bytes:
    """Return the number as a span id."""
    return number.to_bytes(8, "big")


def a_span(
    *,
    span: int = 1,
    parent: int | None = None,
    trace: int = 1,
    name: str = "invoke_agent reviewer",
    kind: int = 1,
    start: int = 0,
    end: int | None = 10 * SECOND,
    status: Status = Status.UNSET,
    status_message: str = "",
    attributes: dict[str, Any] | None = None,
    tenant: str = "default",
    origin: Origin = ORIGIN,
    links: tuple[tuple[bytes, bytes], ...] = (),
    exceptions: int = 0,
    producer: str = "",
    seq: int = 0,
    **more: Any,
) -> Observation:
    """Return a span: ended, or with ``end=None`` started. `start` and `end` are nanoseconds after `EPOCH`."""
    begun = EPOCH_NS + start
    ended = 0 if end is None else EPOCH_NS + end
    return Observation(
        part=Part.STARTED if end is None else Part.ENDED,
        trace_id=trace_id(trace),
        span_id=span_id(span),
        tenant=tenant,
        parent_id=b"" if parent is None else span_id(parent),
        name=name,
        kind=kind,
        at_ns=ended or begun,
        start_ns=begun,
        end_ns=ended,
        status=status,
        status_message=status_message,
        attributes={**(attributes or {}), **more},
        origin=origin,
        links=links,
        exceptions=exceptions,
        producer=producer,
        seq=seq,
    )


def an_event(
    *,
    on: Observation | None = None,
    name: str = c.EVENT_CHECKPOINT,
    message: str | None = None,
    index: int = 0,
    at: int = SECOND,
    attributes: dict[str, Any] | None = None,
    **more: Any,
) -> Observation:
    """Return an event of the span `on`; `at` is nanoseconds after `EPOCH`."""
    span = on or a_span()
    said: dict[str, Any] = {**(attributes or {}), **more}
    if message is not None:
        said[c.CHECKPOINT_MESSAGE] = message
    return Observation(
        part=Part.EVENT,
        trace_id=span.trace_id,
        span_id=span.span_id,
        tenant=span.tenant,
        index=index,
        name=name,
        at_ns=EPOCH_NS + at,
        attributes=said,
        origin=span.origin,
    )


def a_log(
    *,
    on: Observation | None = None,
    name: str = c.EVENT_CHECKPOINT,
    message: str | None = None,
    body: Any = None,
    severity: int = 9,
    at: int = SECOND,
    tenant: str = "default",
    attributes: dict[str, Any] | None = None,
    **more: Any,
) -> Observation:
    """Return a log record, inside the span `on` or outside any; its index is the hash of its content."""
    said: dict[str, Any] = {**(attributes or {}), **more}
    if message is not None:
        said[c.CHECKPOINT_MESSAGE] = message
    record = Observation(
        part=Part.LOG,
        trace_id=b"" if on is None else on.trace_id,
        span_id=b"" if on is None else on.span_id,
        tenant=tenant if on is None else on.tenant,
        name=name,
        at_ns=EPOCH_NS + at,
        attributes=said,
        origin=ORIGIN if on is None else on.origin,
        body=body,
        severity=severity,
    )
    return msgspec.structs.replace(record, index=log_index(record))


def a_task(**fields: Any) -> Task:
    """Return a task at work; any field of `Task` by keyword. Equal `task_id` gives equal `uid`."""
    task_id = fields.setdefault("task_id", "task-1")
    fields.setdefault("uid", uuid5(_NAMES, task_id))
    defaults: dict[str, Any] = {
        "tenant": "default",
        "trace_id": trace_id(),
        "span_id": span_id(),
        "name": "Review pull request 7",
        "agent_name": "reviewer",
        "status": c.WORKING,
        "started_at": EPOCH,
        "last_event_at": EPOCH,
    }
    return Task(**{**defaults, **fields})


def a_checkpoint(**fields: Any) -> Checkpoint:
    """Return a checkpoint; any field of `Checkpoint` by keyword. Equal task, kind and text give an equal id."""
    defaults: dict[str, Any] = {
        "tenant": "default",
        "task_uid": uuid5(_NAMES, "task-1"),
        "kind": Kind.CHECKPOINT,
        "status": c.WORKING,
        "text": "read 12 files",
        "at": EPOCH,
    }
    known = {**defaults, **fields}
    known.setdefault("id", uuid5(known["task_uid"], f"{known['kind']}|{known['text']}"))
    return Checkpoint(**known)
