"""Workflows that a person cancelled, as llama-index reports it: the span ends OK, and an event has the reason."""

from __future__ import annotations

import pytest

from spanpost.model.observations import Observation, Status
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.observed import an_event, ended

CHAIN = {"openinference.span.kind": "CHAIN"}
AGENT = {"openinference.span.kind": "AGENT", "agent.name": "ann"}


def _cancelled(span: int, reason: str) -> Observation:
    return an_event(trace=1, span=span, name="span.cancelled", index=0, attributes={"reason": reason}, at=4.9)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("reason", "status"), [("workflow cancelled by user", "cancelled"), ("another", "complete")])
def test_a_workflow_that_a_person_cancelled_is_cancelled(reason: str, status: str, is_late: bool) -> None:
    """The run is cancelled and not complete, in any order; a cancelled step within a run says nothing of the run."""
    batch = [
        ended(trace=1, span=2, parent=1, name="FunctionAgent.run_agent_step", attributes=CHAIN, status=Status.OK),
        _cancelled(2, "step cancelled"),
        ended(trace=1, span=1, name="FunctionAgent.run", attributes=AGENT, status=Status.OK),
        _cancelled(1, reason),
    ]
    store = MemoryStore(FoldRules(stall_rules=NO_STALL))
    for observation in batch[::-1] if is_late else batch:
        store.record_now([observation])
    [task] = store.tasks_now(TaskQuery())
    assert task.status == status
