"""Waits for people as events of OpenTelemetry, and such events of other senders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from spanpost import semconv as c
from spanpost.model.interventions import InterventionState
from spanpost.model.observations import Origin
from spanpost.readers import read
from spanpost.runtime.pause_events import PauseEvents
from spanpost.store.memory import MemoryStore
from spanpost.tasks.interventions import decided
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.observed import an_event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def emitted(decision: str, **row: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return what is emitted of a question and its answer; everything is recorded twice."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    store, events = MemoryStore(keep=None), PauseEvents(provider)
    question = [at_work(), asking(question="Deploy the secret plan?")]
    for _ in range(2):
        events.emit(store.record_now(question))
    [asked] = store.interventions.rows.values()
    answered = msgspec.structs.replace(
        asked, state=InterventionState.DECIDED, decision=decision, by="alice", source="slack", comment="go", **row
    )
    # The agent reports the answer that it was given.
    attributes = {c.APPROVAL_ID: "a1", c.APPROVAL_DECISION: decision}
    report = an_event(trace=1, span=1, name=c.EVENT_APPROVAL_RESOLVED, attributes=attributes, index=7, at=9.0)
    for _ in range(2):
        events.emit(store.record_now([decided(answered, NOON)]))
        events.emit(store.record_now([report]))
    logs = exporter.get_finished_logs()
    assert {(log.log_record.trace_id, log.log_record.span_id) for log in logs} == {(1, 1)}
    assert {log.instrumentation_scope.name for log in logs if log.instrumentation_scope} == {c.SCOPE_FEEDBACK}
    return [(str(log.log_record.event_name), dict(log.log_record.attributes or {})) for log in logs]


@pytest.mark.parametrize(
    ("decision", "resolution"),
    [("approve", "approved"), ("deny", "refused"), ("expired", "expired"), ("blue", "answered")],
)
def test_a_question_and_its_answer_are_emitted_once(decision: str, resolution: str) -> None:
    """A question is one pause, its answer one resolution; only after an approval or an answer does the agent resume."""
    found = emitted(decision)
    names = ["gen_ai.agent.paused", "gen_ai.agent.pause.resolved", "gen_ai.agent.resumed"]
    assert [name for name, _ in found] == names[: 3 if resolution in ("approved", "answered") else 2]
    paused, resolved = found[0][1], found[1][1]
    assert paused["gen_ai.agent.pause.reason"] == "human_input"
    assert paused["gen_ai.agent.pause.id"] == resolved["gen_ai.agent.pause.id"] == "a1"
    assert [said.get("gen_ai.agent.pause.resolution") for _, said in found[1:]] == [resolution] * (len(found) - 1)
    text = repr(found)
    assert not [word for word in ("secret", "alice", "go'", "blue") if word in text]


@pytest.mark.parametrize(
    ("reason", "scope", "waits"),
    [
        ("human_input", "langgraph", True),
        ("external_system", "langgraph", False),
        ("human_input", c.SCOPE_FEEDBACK, False),
    ],
)
def test_a_pause_of_another_sender_is_a_wait_for_a_person(reason: str, scope: str, waits: bool) -> None:
    """Only a pause for a person waits for one, and spanpost's own events are not read again."""
    event = an_event(trace=1, span=1, name="gen_ai.agent.paused", attributes={c.PAUSE_REASON: reason}, index=1)
    assert read(msgspec.structs.replace(event, origin=Origin(scope=scope))).is_interrupt is waits
