"""Small histories that once came to something else in another order: a table, each fed note by note in every order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from spanpost import semconv as c
from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Act, Approval, EventReport, Failure, Reading, Role
from spanpost.model.usage import Usage
from spanpost.tasks.folded import Placed
from tests.tasks.against_oracle import differences, outcome_of
from tests.tasks.histories import BASE, SECOND, Twin, placed
from tests.tasks.torn_histories import ROUTED

AGENT = Reading(role=Role.AGENT, agent_name="ann")


def a_note(
    part: Part, id: str, above: str, begins: int, at: int, r: Reading, *, trace: str = "1", **more: Any
) -> Placed:
    """Return one note on a span of a trace; times are seconds."""
    is_span = part in (Part.ENDED, Part.STARTED)
    o = Observation(
        part=part,
        trace_id=trace.encode() * 16,
        span_id=id.encode() * 8,
        parent_id=above.encode() * 8 if is_span else b"",
        start_ns=BASE + begins * SECOND if is_span else 0,
        at_ns=BASE + at * SECOND,
        end_ns=BASE + at * SECOND if part is Part.ENDED else 0,
        **{"name": id, **more},
    )
    return placed(o, r)


def ended(id: str, above: str, begins: int, at: int, r: Reading, **more: Any) -> Placed:
    return a_note(Part.ENDED, id, above, begins, at, r, **more)


def started(id: str, above: str, at: int, r: Reading, **more: Any) -> Placed:
    return a_note(Part.STARTED, id, above, at, at, r, **more)


def total(tokens: int) -> Reading:
    return Reading(
        role=Role.AGENT, agent_name="ann", aggregate=Usage(input=tokens, output=tokens), totals_of="ann's process"
    )


def escalated(at: int) -> Placed:
    r = Reading(reports=EventReport.APPROVAL_REQUESTED, approval=Approval(id="q", question="sure?"))
    return a_note(Part.INTERVENTION, "a", "", 0, at, r, name=c.EVENT_APPROVAL_ESCALATED)


LINKS = (b"2" * 16, b"b" * 8)
TOOL = Reading(role=Role.TOOL, tool_name="search")
PAUSED = Reading(act=Act(verb=str(Verb.PAUSE), by="eve", seen_ns=BASE))
FAILED = Reading(reports=EventReport.ERROR, failure=Failure(type="KeyError", message="k"), occurrence="KeyError k")


@pytest.mark.slow
@pytest.mark.proves("any-order", "random-orders")
@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                a_note(Part.EVENT, "a", "", 0, 4, Reading(is_interrupt=True)),
                started("t", "a", 5, Reading()),
                ended("t", "a", 5, 6, TOOL),
            ],
            "a start that says no role teaches nothing, also where the span is known as a tool call by then",
            id="start without a role",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, Reading(role=Role.WORKFLOW, agent_name="zed")),
                started("a", "", 1, AGENT),
                ended("l", "a", 2, 3, Reading(role=Role.LLM, model="m")),
            ],
            "an agent names its task before a workflow does, also where a greater copy is a workflow's",
            id="roles of copies",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                started("p", "a", 2, Reading(role=Role.PLUMBING), links=(LINKS,)),
                ended("p", "a", 2, 3, TOOL, links=(LINKS,)),
                ended("b", "", 4, 9, AGENT, trace="2"),
            ],
            "a copy that is a message's joins the traces to which it links, also where a greater copy is a tool call's",
            id="links of copies",
        ),
        pytest.param(
            [
                ended("a", "", 1, 3, total(10), trace="2"),
                ended("w", "", 1, 9, Reading(role=Role.AGENT, agent_name="bob")),
                ended("b", "w", 2, 8, total(30)),
            ],
            "nothing is taken off the total of what turns out to be no run of its own",
            id="lifetime totals",
        ),
        pytest.param(
            [ended("a", "", 1, 9, AGENT), escalated(3), escalated(6)],
            "of two escalations of one question the same one is reported, in one batch or in two",
            id="escalations",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT, attributes={"team": "later"}),
                a_note(Part.EVENT, "a", "", 0, 0, Reading(progress=1.0), attributes={"team": "event"}),
                ended("l", "a", 0, 3, Reading(role=Role.LLM), attributes={"team": "call"}),
            ],
            "an event's attribute is not its root span's own",
            id="attribute of an event",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                ended("b", "a", 2, 8, Reading(role=Role.AGENT, agent_name="bob")),
                started("t", "b", 3, TOOL),
                ended("t", "a", 3, 8, TOOL),
            ],
            "what the start of a call taught goes with it when its end hangs elsewhere",
            id="start elsewhere",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                ended("b", "a", 2, 8, Reading(role=Role.AGENT, agent_name="bob")),
                a_note(Part.INTERVENTION, "t", "", 0, 4, PAUSED, name=c.EVENT_INTERVENTION),
                started("t", "b", 3, TOOL),
                ended("t", "a", 3, 8, TOOL),
            ],
            "an act on a call is its task's, also when the call was not known yet, and then started elsewhere",
            id="act elsewhere",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                ended("b", "a", 2, 8, Reading(role=Role.AGENT, agent_name="bob")),
                a_note(Part.EVENT, "t", "", 0, 4, FAILED, name="agent.error"),
                started("t", "b", 3, TOOL),
                ended("t", "a", 3, 8, TOOL),
            ],
            "a checkpoint and the count of errors go with a call that ends elsewhere",
            id="error elsewhere",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                started("u", "t", 4, TOOL),
                started("t", "b", 3, TOOL),
                ended("t", "a", 3, 8, TOOL),
            ],
            "what the start of a call taught goes with the call around it when the end of that hangs elsewhere",
            id="start below start elsewhere",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                started("l", "a", 2, Reading(role=Role.LLM)),
                a_note(Part.STARTED, "l", "a", 2, 5, Reading(role=Role.STEP)),
                ended("t", "l", 3, 4, TOOL),
                a_note(Part.EVENT, "t", "", 0, 4, Reading(reports=EventReport.CHECKPOINT, message="halfway")),
            ],
            "a start with a role ranks above a later one without: what lies below it stays where it is",
            id="role lost",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                started("t", "u", 3, TOOL),
                started("u", "t", 3, TOOL),
                ended("u", "a", 3, 8, TOOL),
            ],
            "a circle that is open again cuts nothing off",
            id="open circle",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, Reading(role=Role.TASK, task_id="job")),
                a_note(Part.INTERVENTION, "a", "", 0, 4, PAUSED, name=c.EVENT_INTERVENTION),
                ended("s", "", 0, 10, Reading(task_id="job"), trace="2"),
            ],
            "what a span outside names is no run that ended after a person asked",
            id="pause",
        ),
        pytest.param(
            [
                ended("a", "", 1, 9, AGENT),
                started("h", "a", 2, Reading(role=Role.HANDOFF)),
                ended("b", "h", 3, 8, Reading(role=Role.WORKFLOW)),
                ended("h", "a", 2, 8, TOOL),
            ],
            "a root span is a child task when what lies above it turns out to be a tool call",
            id="tool above",
        ),
        pytest.param(
            [
                started("s", "a", 2, Reading(step_name="plan")),
                ended("s", "b", 2, 8, Reading()),
                ended("a", "", 1, 9, Reading()),
            ],
            "a span that is no agent's ends no task in which it has nothing left",
            id="emptied",
        ),
        pytest.param(
            [
                ended("t", "a", 2, 8, Reading(role=Role.TOOL)),
                ended("t", "a", 2, 8, Reading(role=Role.STEP), attributes={"is": "greater"}),
                started("a", "", 1, Reading(task_id="job")),
            ],
            "the start of a task is retracted with its row when its only call turns out to be a step",
            id="no row",
        ),
        pytest.param(
            [
                started("a", "", 0, Reading(role=Role.TASK)),
                started("s", "a", 1, Reading(role=Role.STEP)),
                ended("b", "a", 2, 9, AGENT),
                ended("c", "s", 3, 8, Reading(role=Role.AGENT, agent_name="bob")),
                ended("s", "x", 1, 9, Reading(role=Role.STEP)),
            ],
            "an agent is shown within its task once the task's other agent turns out to lie elsewhere",
            id="agents left",
        ),
    ],
)
def test_a_small_history_comes_to_the_same_in_every_order(history: list[Placed], sentence: str) -> None:
    """A history gives the oracle's rows, note by note in every order and all at once."""
    expected = outcome_of(history, ROUTED)
    for order in permutations(history):
        for batches in ([[p] for p in order], [list(order)]):
            twin = Twin(ROUTED)
            for batch in batches:
                twin.record(batch)
            for _ in range(3):
                twin.elapse()
            assert differences(twin, expected) == [], sentence


def test_a_held_checkpoint_goes_with_its_call() -> None:
    """An error on a call below no known task is posted where the call ends; the former task names that task."""
    twin, reported = Twin(ROUTED), a_note(Part.EVENT, "t", "", 0, 4, FAILED, name="agent.error")
    twin.record([started("b", "", 1, AGENT)])
    held = twin.record([started("t", "x", 3, TOOL), reported])
    [error] = [checkpoint.id for checkpoint in held.checkpoints if checkpoint.kind is Kind.ERROR]
    assert held.deliveries == []
    folded = twin.record([ended("t", "b", 3, 8, TOOL)])
    assert error in {delivery.checkpoint_id for delivery in folded.deliveries}
    [task] = twin.tasks.values()
    assert [successor for _, successor in folded.gone] == [task.uid]
