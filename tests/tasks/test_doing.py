"""Current actions that agents do not report, and the end of runs whose root span never arrives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import EventReport, Failure, Reading, Role
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.readers import read
from tests.tasks.histories import BASE, SECOND, Twin, placed

TRACE = b"t" * 16


def span(n: int, parent: int, reading: Reading, *, is_open: bool = False):  # type: ignore[no-untyped-def]
    begins, ends = BASE + n * SECOND, BASE + n * SECOND + SECOND // 2
    o = Observation(
        part=Part.STARTED if is_open else Part.ENDED,
        trace_id=TRACE,
        span_id=bytes([n]) * 8,
        parent_id=bytes([parent]) * 8 if parent else b"",
        name=f"span {n}",
        start_ns=begins,
        at_ns=begins if is_open else ends,
        end_ns=0 if is_open else ends,
    )
    return placed(o, reading)


def agent(name: str) -> Reading:
    return Reading(role=Role.AGENT, agent_name=name)


def tool(name: str) -> Reading:
    return Reading(role=Role.TOOL, tool_name=name)


CALL = Reading(role=Role.LLM, model="gpt-x", usage=Usage(input=10, output=1))
FAILED = Reading(role=Role.LLM, model="gpt-x", failure=Failure(type="APIError", message="no"))


def named(twin: Twin, name: str) -> Task:
    (task,) = [t for t in twin.tasks.values() if t.name == name]
    return task


def test_the_tool_at_work_is_the_action_and_tools_are_steps() -> None:
    """The action is the newest tool, under a name without ids; each call is one step, however many layers report it."""
    twin = Twin()
    search = tool("search-3f2a9c1e-8f4b-4d2e-9a6b-1c2d3e4f5a6b")
    twin.record(
        [
            span(1, 0, agent("ann"), is_open=True),
            span(2, 1, CALL),
            span(3, 1, tool("read")),
            span(4, 1, search, is_open=True),
        ]
    )
    task = named(twin, "ann")
    assert task.action == "tool: search"
    assert [step.name for step in task.steps] == ["read", "search"]


def test_a_task_says_which_of_its_agents_are_at_work() -> None:
    """The action is "2 of 3 agents at work" while they work, and not after they ended."""
    twin = Twin()
    interactions = Reading(role=Role.WORKFLOW, task_name="orchestrator")
    twin.record(
        [span(1, 0, interactions, is_open=True), *(span(n, 1, agent(f"agent {n}"), is_open=True) for n in (2, 3, 4))]
    )
    twin.record([span(5, 2, CALL), span(6, 3, CALL)])
    assert named(twin, "orchestrator").action == "2 of 3 agents at work: agent 2, agent 3"
    twin.record([span(2, 1, agent("agent 2")), span(3, 1, agent("agent 3"))])
    assert named(twin, "orchestrator").action is None


def test_a_run_whose_root_never_comes_is_given_up_after_its_last_call_failed() -> None:
    """A task whose last call failed is concluded to have failed; a later observation revokes that."""
    twin = Twin()
    twin.record([span(2, 1, CALL), span(3, 1, FAILED)])
    (task,) = twin.tasks.values()
    assert task.status == "working"
    for _ in range(3):
        twin.elapse()
    (task,) = twin.tasks.values()
    assert (task.status, task.rule, task.is_inferred) == ("error", "last call failed, nothing since", True)
    twin.record([span(4, 1, CALL)])
    (task,) = twin.tasks.values()
    assert task.status == "working"


def test_a_server_of_tools_is_not_announced() -> None:
    """Tool calls that no model requested are recorded and not announced."""
    twin = Twin()
    twin.record([span(1, 0, tool("read"))])
    twin.elapse()
    (task,) = twin.tasks.values()
    assert (task.tool_calls, task.is_announced) == (1, False)


def says(n: int, message: str, **said: Any):  # type: ignore[no-untyped-def]
    """Return a checkpoint event of the root span, `n` seconds in."""
    o = Observation(
        part=Part.EVENT, trace_id=TRACE, span_id=bytes([1]) * 8, name=c.EVENT_CHECKPOINT, at_ns=BASE + n * SECOND
    )
    return placed(o, Reading(reports=EventReport.CHECKPOINT, message=message, **said))


def test_a_call_that_has_ended_is_no_action_and_the_last_checkpoint_stays() -> None:
    """After its last call a task shows what its agent reported last: no name of a call stays."""
    twin = Twin()
    twin.record([span(1, 0, agent("ann"), is_open=True), says(1, "Reading"), span(2, 1, tool("read"), is_open=True)])
    assert named(twin, "ann").action == "tool: read"
    twin.record([span(2, 1, tool("read")), says(4, "Costs compared")])
    task = named(twin, "ann")
    assert (task.action, task.last_checkpoint) == (None, "Costs compared")
    assert task.last_checkpoint_at == task.last_activity_at


def test_a_tool_that_runs_beside_one_that_ended_is_the_action() -> None:
    """Of two tools at once the open one is the action, whichever began last."""
    twin = Twin()
    twin.record(
        [
            span(1, 0, agent("ann"), is_open=True),
            span(2, 1, tool("build"), is_open=True),
            span(3, 1, tool("grep"), is_open=True),
            span(3, 1, tool("grep")),
        ]
    )
    assert named(twin, "ann").action == "tool: build"


def test_calls_of_one_tool_in_a_row_are_one_step() -> None:
    """Five readings are one step that counts them, and another tool in between begins a new one."""
    twin = Twin()
    reads = [span(n, 1, tool("read")) for n in (2, 3, 4, 6)]
    twin.record([span(1, 0, agent("ann"), is_open=True), *reads, span(5, 1, tool("grep"))])
    assert [(step.name, step.count) for step in named(twin, "ann").steps] == [("read ×3", 3), ("grep", 1), ("read", 1)]


def test_the_number_of_steps_holds_until_another_is_stated() -> None:
    """A step that names no count is one of those that were stated before, unless it is beyond them."""
    twin = Twin()
    twin.record([span(1, 0, agent("ann"), is_open=True), says(1, "a", step_name="A", step_index=1, step_count=5)])
    twin.record([says(2, "b", step_name="B", step_index=2)])
    assert (named(twin, "ann").step_index, named(twin, "ann").step_count) == (2, 5)
    twin.record([says(3, "g", step_name="G", step_index=6)])
    assert named(twin, "ann").step_count is None


def test_the_step_in_which_a_task_failed_has_failed() -> None:
    """Of a failed task's steps the present one failed; the ones before did not."""
    twin = Twin()
    twin.record([says(n, "x", step_name=name, step_index=n, step_count=3) for n, name in ((1, "plan"), (2, "build"))])
    failed = msgspec.structs.replace(agent("ann"), failure=Failure(type="E", message="no"))
    twin.record([span(1, 0, failed)])
    assert [(step.name, step.is_failed) for step in named(twin, "ann").steps] == [("plan", False), ("build", True)]


def test_what_is_complete_is_done() -> None:
    """A task that reported 60 % and completed is at 100 %."""
    twin = Twin()
    twin.record([says(1, "x", progress=60.0), span(1, 0, agent("ann"))])
    assert named(twin, "ann").progress == 100.0


def asked(n: int, on: int):  # type: ignore[no-untyped-def]
    """Return a question on span `on`, `n` seconds in."""
    o = Observation(
        part=Part.EVENT,
        trace_id=TRACE,
        span_id=bytes([on]) * 8,
        name=c.EVENT_APPROVAL_REQUESTED,
        at_ns=BASE + n * SECOND,
        attributes={c.APPROVAL_ID: "drop", c.APPROVAL_QUESTION: "Drop it?"},
    )
    return placed(o, read(o))


def test_what_an_agent_below_needs_rises_to_the_root() -> None:
    """A root counts the agents at any depth that work, wait, failed and are done, and has their first question."""
    twin = Twin()
    office = Reading(role=Role.WORKFLOW, task_name="orchestrator")
    failed = msgspec.structs.replace(agent("third"), failure=Failure(type="E", message="no"))
    twin.record(
        [
            span(1, 0, office, is_open=True),
            span(2, 1, agent("first"), is_open=True),
            span(3, 2, tool("ask"), is_open=True),
            span(4, 3, agent("second"), is_open=True),
            span(5, 1, failed),
            span(6, 1, agent("fourth")),
            span(7, 2, CALL),
        ]
    )
    assert (named(twin, "orchestrator").waiting_children, named(twin, "orchestrator").child_question) == (0, None)
    twin.record([asked(8, 4)])
    for name, counts in {"orchestrator": (1, 1, 1, 1), "first": (0, 1, 0, 0)}.items():
        task = named(twin, name)
        found = (task.working_children, task.waiting_children, task.failed_children, task.done_children)
        assert (found, task.child_question) == (counts, "Drop it?"), name
        assert (task.open_child_approvals, task.child_question_uid) == (1, named(twin, "second").uid)
    twin.record([span(4, 3, agent("second")), span(2, 1, agent("first"))])
    assert named(twin, "orchestrator").working_children == 0


@pytest.mark.parametrize(("kind", "reason"), [("APIError", "interrupted"), ("APITimeoutError", "timed_out")])
def test_a_run_whose_process_went_after_a_failed_call_says_why_the_call_failed(kind: str, reason: str) -> None:
    """The reason of an interrupted run is its last error, where its last call failed."""
    twin = Twin()
    gone = Observation(
        part=Part.LOG, trace_id=TRACE, span_id=bytes([1]) * 8, name=c.EVENT_SPAN_INTERRUPTED, at_ns=BASE + 9 * SECOND
    )
    failed = Reading(role=Role.LLM, model="gpt-x", failure=Failure(type=kind, message="no"))
    twin.record([span(1, 0, agent("ann"), is_open=True), span(2, 1, CALL), span(3, 1, failed)])
    twin.record([placed(gone, read(gone))])
    task = named(twin, "ann")
    assert task.error is not None
    assert (task.status, task.end_reason, task.error.type, task.error.message) == (
        "error",
        reason,
        kind,
        "no",
    )
