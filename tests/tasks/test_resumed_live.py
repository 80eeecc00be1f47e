"""A run that may resume a waiting run, observed while it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.task_rules import TaskRules
from spanpost.tasks.times import EPOCH
from spanpost.testing.builders import SECOND, a_span

TALK = {"gen_ai.conversation.id": "c-1"}


def root_span(trace: int, start: int, end: int | None) -> Observation:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **TALK}
    return a_span(trace=trace, start=start * SECOND, end=None if end is None else end * SECOND, attributes=said)


def part(trace: int, span: int, start: int, operation: str, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": operation, **TALK, **said}
    return a_span(trace=trace, span=span, parent=1, start=start * SECOND, end=start * SECOND + 1, attributes=attributes)


def asks() -> list[Observation]:
    """Return a run that ended waiting for the answer to a tool call."""
    call = part(1, 2, 1, "chat", **{"gen_ai.response.finish_reasons": ["tool_calls"], "gen_ai.usage.input_tokens": 3})
    return [root_span(1, 0, 2), call]


def first_call(*, is_resumed: bool) -> Observation:
    tool = {"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-1"}
    if is_resumed:
        return part(2, 3, 11, "execute_tool", **tool)
    return part(2, 3, 11, "chat", **{"gen_ai.usage.input_tokens": 3})


@pytest.mark.parametrize("is_resumed", [True, False])
def test_it_has_no_message_until_its_first_call_says_which(is_resumed: bool) -> None:
    """Where each turn is a task, the first call of a new run decides whether it resumes the waiting run."""
    store = MemoryStore(FoldRules(tasks=TaskRules(conversations="a task a turn")))
    store.record_now(asks())
    for days in (1, 2):  # nothing more comes
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))
    store.record_now([root_span(2, 10, None)])
    tasks = store.tasks_now(TaskQuery(limit=9))
    assert sorted((t.status, t.is_announced) for t in tasks) == [("starting", False), ("waiting", True)]

    store.record_now([first_call(is_resumed=is_resumed)])
    tasks = store.tasks_now(TaskQuery(limit=9))
    assert all(t.is_announced for t in tasks)
    assert [t.runs for t in tasks] == ([2] if is_resumed else [1, 1])


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_turn_that_names_its_conversation_is_one_more_run_from_its_start(is_resumed: bool) -> None:
    """A turn, resumed or new, is a run of the conversation's task at once: it never has a message of its own."""
    store = MemoryStore()
    store.record_now(asks())
    for span in (root_span(2, 10, None), first_call(is_resumed=is_resumed), root_span(2, 10, 12)):
        store.record_now([span])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.runs, task.is_announced) == (2, True)


def silent_root(trace: int, start: int, end: int | None) -> Observation:
    """Return a root span that names its conversation at its end only, as LangChain's instrumentation does."""
    if end is not None:
        return root_span(trace, start, end)
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    return a_span(trace=trace, start=start * SECOND, end=None, attributes=said)


def test_a_later_turn_waits_for_its_conversation_where_runs_name_it_late() -> None:
    """Once a run of a service named its conversation after its start, the next starts wait for that."""
    store = MemoryStore()
    for span in (silent_root(1, 0, None), part(1, 2, 1, "chat"), silent_root(1, 0, 2)):
        store.record_now([span])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert task.is_announced
    store.record_now([silent_root(2, 10, None)])
    first, second = sorted(store.tasks_now(TaskQuery(limit=9)), key=lambda t: t.started_at or EPOCH)
    assert (first.is_announced, second.is_announced) == (True, False)
    store.record_now([part(2, 3, 11, "chat")])
    (task,) = store.tasks_now(TaskQuery(limit=9))
    assert (task.runs, task.is_announced) == (2, True)
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    assert [t.runs for t in store.tasks_now(TaskQuery(limit=9))] == [2]


def test_a_response_reported_in_two_traces_without_an_agent_is_one_task() -> None:
    """A response that two instrumentations report in two traces is counted once, in one row."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "r-1", "gen_ai.usage.input_tokens": 5}
    copies = [
        a_span(trace=1, attributes=said, name="chat"),
        a_span(trace=2, attributes=said, name="openai.chat", start=1),
    ]
    for order in (copies, copies[::-1]):
        store = MemoryStore()
        for copy in order:
            store.record_now([copy])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.llm_calls, task.input_tokens) == (1, 5)


def test_a_resumed_run_is_at_work_before_its_first_call_is_known() -> None:
    """Its instrumentation says at a call's end only what it was (LangChain); nobody is waited for meanwhile."""
    store = MemoryStore()
    stopped = {"exceptions": 1, "thrown": ("GraphInterrupt", "(Interrupt(value='delete?'),)", "")}
    store.record_now([part(1, 2, 1, "chat"), msgspec.structs.replace(root_span(1, 0, 2), **stopped)])
    assert [t.status for t in store.tasks_now(TaskQuery(limit=9))] == ["waiting"]
    store.record_now(
        [root_span(2, 10, None), a_span(trace=2, span=3, parent=1, start=11 * SECOND, end=None, name="call")]
    )
    assert [(t.status, t.runs) for t in store.tasks_now(TaskQuery(limit=9))] == [("working", 2)]


def test_a_call_that_is_made_again_is_one_step() -> None:
    """The call that asked a person, and is made again in two layers by the resumed run, is one step and one call."""
    tool = {"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-1"}
    stopped = {"exceptions": 1, "thrown": ("GraphInterrupt", "(Interrupt(value='book?'),)", "")}
    asked = msgspec.structs.replace(part(1, 4, 2, "execute_tool", **tool), **stopped)
    again = part(2, 3, 11, "execute_tool", **tool)
    inner = {"gen_ai.operation.name": "execute_tool", **TALK, **tool}
    layer = a_span(trace=2, span=4, parent=3, start=11 * SECOND, end=11 * SECOND + 1, attributes=inner)
    more = part(2, 5, 12, "execute_tool", **{"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-2"})
    spans = [root_span(1, 0, 3), asked, root_span(2, 10, 14), again, layer]
    for order in (spans, spans[::-1]):
        store = MemoryStore()
        for span in order:
            store.record_now([span])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.runs, task.tool_calls, [step.name for step in task.steps]) == (2, 1, ["book"])
        store.record_now([more])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.tool_calls, [step.name for step in task.steps]) == (2, ["book ×2"])


@pytest.mark.parametrize(("made", "calls"), [((), 1), (("book",), 1), (("book", "book"), 2), (("send",), 2)])
def test_a_call_that_asked_and_is_made_again_in_its_run_is_one(made: tuple[str, ...], calls: int) -> None:
    """A tool that asked a person and runs again in the same run (LlamaIndex, Genkit) is one call and one step."""
    stopped = {"exceptions": 1, "thrown": ("GraphInterrupt", "(Interrupt(value='book?'),)", "")}
    asked = msgspec.structs.replace(part(1, 4, 2, "execute_tool", **{"gen_ai.tool.name": "book"}), **stopped)
    later = [part(1, 5 + n, 3 + n, "execute_tool", **{"gen_ai.tool.name": name}) for n, name in enumerate(made)]
    spans = [root_span(1, 0, 9), asked, *later]
    for order in (spans, spans[::-1]):
        store = MemoryStore()
        for span in order:
            store.record_now([span])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.tool_calls, sum(step.count for step in task.steps)) == (calls, calls)


@pytest.mark.parametrize(
    ("name", "call_id", "runs"), [("book", "call-1", [2]), ("book", "x", [1, 1]), ("send", "x", [1, 1])]
)
def test_a_run_that_begins_with_the_open_tool_waits_for_the_id_of_its_call(
    name: str, call_id: str, runs: list[int]
) -> None:
    """Where a tool's id comes at its end (OpenAI Agents), a start of the tool that was left open announces nothing."""

    def alone(o: Observation) -> Observation:
        left = {key: value for key, value in o.attributes.items() if key not in TALK}
        return msgspec.structs.replace(o, attributes=left)

    store = MemoryStore()
    stopped = {"exceptions": 1, "thrown": ("GraphInterrupt", "(Interrupt(value='book?'),)", "")}
    tool = {"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-1"}
    asked = msgspec.structs.replace(part(1, 2, 1, "execute_tool", **tool), **stopped)
    store.record_now([alone(asked), alone(root_span(1, 0, 2))])
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    done = alone(part(2, 3, 11, "execute_tool", **{"gen_ai.tool.name": name, "gen_ai.tool.call.id": call_id}))
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    begun = a_span(trace=2, span=3, parent=1, start=11 * SECOND, end=None, attributes=said)
    store.record_now([alone(root_span(2, 10, None)), begun])
    announced = [t.is_announced for t in store.tasks_now(TaskQuery(limit=9))]
    assert sorted(announced) == [name != "book", True]
    store.record_now([done])
    tasks = store.tasks_now(TaskQuery(limit=9))
    assert ([t.runs for t in tasks], {t.is_announced for t in tasks}) == (runs, {True})
