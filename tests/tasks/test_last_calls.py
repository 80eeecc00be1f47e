"""The last calls of a run decide how it ended; calls that begin after its end do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Origin, Status
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.testing.builders import SECOND, a_span

ASKING = {"gen_ai.response.finish_reasons": ["tool_calls"]}
ANSWERING = {"gen_ai.response.finish_reasons": ["stop"]}


def run(end: int = 10) -> Observation:
    root_span = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    return a_span(start=0, end=end * SECOND, attributes=root_span)


def model(span: int, start: int, status: Status = Status.UNSET, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, **said}
    return a_span(
        span=span, parent=1, start=start * SECOND, end=(start + 1) * SECOND, attributes=attributes, status=status
    )


def tool(span: int, start: int, seconds: int = 1, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "save", **said}
    return a_span(span=span, parent=1, start=start * SECOND, end=(start + seconds) * SECOND, attributes=attributes)


def elapse(store: MemoryStore) -> None:
    """Let all the time pass that a conclusion from silence needs."""
    for days in (1, 2, 3):
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))


def of_any_order(observations: list[Observation]) -> Task:
    """Record them in every order, one by one; return the task, which must be the same in all."""
    found = []
    for order in permutations(observations):
        store = MemoryStore()
        for observation in order:
            store.record_now([observation])
        elapse(store)
        [task] = store.tasks_now(TaskQuery(limit=9))
        found.append(task)
    assert len({(t.status, t.rule, t.ended_at) for t in found}) == 1
    return found[0]


def strands_tool(span: int, start: int, seconds: int = 1) -> Observation:
    """A tool call of which strands says that it has no result."""
    return msgspec.structs.replace(tool(span, start, seconds), origin=Origin(scope="strands.telemetry.tracer"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what_follows", "rule"),
    [
        ([tool(5, 11)], "root ended UNSET"),
        ([tool(5, 11), tool(6, 13)], "root ended UNSET"),
        ([model(5, 12, Status.ERROR)], "root ended UNSET"),
        ([model(5, 12, **ASKING)], "root ended UNSET"),
        ([strands_tool(5, 9, seconds=3)], "unresolved tool call"),
    ],
    ids=["a tool", "two tools", "a call that fails", "a call that asks for tools", "a tool that began before the end"],
)
def test_what_begins_after_the_end_says_nothing_of_it(what_follows: list[Observation], rule: str) -> None:
    """A run that answered has ended, whatever follows; a tool that was still at work stays open."""
    calls = {"gen_ai.response.finish_reasons": ["stop"]} if rule == "root ended UNSET" else {}
    task = of_any_order([run(), model(2, 1, **calls), *what_follows])
    assert (task.rule, task.status) == (rule, "complete" if rule == "root ended UNSET" else "waiting")


def test_a_call_left_open_at_the_end_waits_though_something_follows() -> None:
    """A run that ended with a requested call not made still waits after a tool call without a result."""
    assert of_any_order([run(), model(2, 1, **ASKING), strands_tool(5, 12)]).status == "waiting"


def test_a_call_left_open_may_be_answered_late() -> None:
    """A tool result after the end, and a model call after it, close the open call."""
    late = tool(5, 12, **{"gen_ai.tool.call.result": "saved"})
    assert of_any_order([run(), model(2, 1, **ASKING), late]).status == "complete"
    assert of_any_order([run(), model(2, 1, **ASKING), tool(5, 12), model(6, 14, **ANSWERING)]).status == "complete"


def test_a_run_after_which_much_is_done_is_as_its_root_says() -> None:
    """A run of which only later calls are remembered ends as its root span says."""
    late = [tool(20 + n, 11 + n) for n in range(9)]
    store = MemoryStore()
    store.record_now([*late, model(2, 1, **ANSWERING), run()])
    [task] = store.tasks_now(TaskQuery(limit=9))
    assert (task.status, task.tool_calls) == ("complete", 9)


def test_a_failure_on_its_way_up_through_calls_is_reported_once() -> None:
    """Of calls within each other that fail, the innermost reports it, in any order; each attempt reports its own."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}

    def failing(span: int, parent: int, start: int, end: int) -> Observation:
        return a_span(
            span=span, parent=parent, start=start * SECOND, end=end * SECOND, attributes=said, status=Status.ERROR,
            status_message="code 400",
        )  # fmt: skip

    task = of_any_order([run(), failing(3, 1, 1, 4), failing(4, 3, 1, 3), failing(5, 4, 1, 2)])
    assert (task.error_count, task.llm_calls) == (1, 1)
    task = of_any_order([run(), failing(3, 1, 1, 8), failing(4, 3, 1, 3), failing(5, 3, 4, 6)])
    assert task.error_count == 2


@pytest.mark.parametrize("status", [Status.OK, Status.ERROR])
def test_a_handoff_by_an_exception_is_no_failure(status: Status) -> None:
    """LangGraph goes to another agent of the parent graph by a ParentCommand, which passes through spans."""
    asked = model(3, 1, Status.OK, **ASKING)
    thrown = ("langgraph.errors.ParentCommand", "Command(graph='desk', goto='expert')", "")
    ended = msgspec.structs.replace(run(), status=status, exceptions=1, thrown=thrown)
    task = of_any_order([asked, tool(4, 3), ended])
    assert (task.status, task.error_count) == ("complete", 0)


def test_an_exception_in_a_tool_without_an_answer_is_its_failure() -> None:
    """LangSmith's export says OK of a tool that raised, and has the exception as an event of its span."""
    raised = {"exceptions": 1, "thrown": ("Exception", "ValueError('no seat')", "")}
    failed = msgspec.structs.replace(tool(4, 3), status=Status.OK, **raised)
    task = of_any_order([model(3, 1, Status.OK, **ASKING), failed, model(5, 6, Status.OK, **ANSWERING), run()])
    assert (task.status, task.tool_errors, task.error_count) == ("complete", 1, 1)
