"""Current actions that agents do not report, and the end of runs whose root span never arrives."""

from __future__ import annotations

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Failure, Reading, Role
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
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
    interactions = Reading(role=Role.WORKFLOW, task_name="desk")
    twin.record(
        [span(1, 0, interactions, is_open=True), *(span(n, 1, agent(f"agent {n}"), is_open=True) for n in (2, 3, 4))]
    )
    twin.record([span(5, 2, CALL), span(6, 3, CALL)])
    assert named(twin, "desk").action == "2 of 3 agents at work: agent 2, agent 3"
    twin.record([span(2, 1, agent("agent 2")), span(3, 1, agent("agent 3"))])
    assert named(twin, "desk").action is None


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
