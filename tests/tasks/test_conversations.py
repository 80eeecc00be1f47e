"""The turns of a conversation: one task with a run each, by its conversation, agent, service and tenant."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Origin
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.task_rules import Conversations, TaskRules
from spanpost.tasks.work import Key
from spanpost.testing.builders import SECOND, a_span
from tests.tasks.histories import NOW
from tests.tasks.test_bounded_work import Counting


def turn(
    n: int, conversation: str = "c-1", agent: str = "ann", service: str = "shop", tenant: str = "default"
) -> list[Observation]:
    """Return one turn: a run in a trace of its own, with a model call and a tool call."""
    at = n * 100
    origin = Origin(resource={"service.name": service})
    named = {"gen_ai.conversation.id": conversation}
    root = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, **named}
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1, **named}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}

    def span(number: int, start: int, end: int, attributes: dict[str, Any], parent: int = 1) -> Observation:
        made = a_span(
            trace=n, span=number, parent=parent, start=start * SECOND, end=end * SECOND, attributes=attributes
        )
        return msgspec.structs.replace(made, origin=origin, tenant=tenant)

    return [span(1, at, at + 9, root, 0), span(2, at + 1, at + 2, tool), span(3, at + 3, at + 4, call)]


def tasks_of(spans: list[Observation], conversations: Conversations = "one task") -> list[Task]:
    store = MemoryStore(FoldRules(tasks=TaskRules(conversations=conversations)))
    for span in spans:
        store.record_now([span])
    return store.tasks_now(TaskQuery(limit=1000))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_turns_are_runs_of_one_task_in_any_order(seed: int) -> None:
    """Forty turns, shuffled and partly repeated, are one task with the figures of all of them."""
    spans = [span for n in range(1, 41) for span in turn(n)]
    spans += Random(seed).sample(spans, 30)
    Random(seed).shuffle(spans)
    (task,) = tasks_of(spans)
    assert (task.llm_calls, task.tool_calls, task.input_tokens, task.session_id) == (40, 40, 400, "c-1")
    assert task.runs == 16  # of which the newest are kept


def test_each_turn_may_be_a_task() -> None:
    """By the setting each turn is a task of its own."""
    assert len(tasks_of([span for n in (1, 2, 3) for span in turn(n)], "a task a turn")) == 3


@pytest.mark.parametrize(
    "other", [{"agent": "bob"}, {"service": "bank"}, {"tenant": "acme"}, {"conversation": "c-2"}], ids=str
)
def test_the_same_id_of_another_agent_service_or_tenant_is_another_conversation(other: dict[str, str]) -> None:
    """A conversation is of one agent in one service of one tenant, also where two use its id at once."""
    spans = [span for n in (1, 2) for span in (*turn(n), *turn(n + 10, **other))]
    Random(1).shuffle(spans)
    assert sorted(task.runs for task in tasks_of(spans)) == [2, 2]


def test_each_turn_is_found_by_the_id_of_its_span() -> None:
    """The task is found by its own id, which stays, and by the newest turn's span."""
    (task,) = tasks_of([span for n in (1, 2) for span in turn(n)])
    assert task.task_id == f"conversation-{task.uid.hex}"
    assert task.aliases == (task.task_id, f"{task.trace_id.hex()}-{task.span_id.hex()}")
    (again,) = tasks_of([span for n in (5, 3, 2, 1) for span in turn(n)])
    assert again.task_id == task.task_id


class Measuring(Counting):
    """A `Work` that counts the bytes written, too."""

    written = 0

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.written += len(msgspec.msgpack.encode(record))
        super().put(key, record)


@pytest.mark.slow
def test_a_later_turn_costs_what_an_earlier_one_cost() -> None:
    """One more turn of a long conversation reads as many records, and writes as much, as one of a short one."""
    work = Measuring()
    costs = []
    for n in range(1, 301):
        work.asked = work.written = 0
        batches.fold(work, batches.prepare(turn(n)), FoldRules(), NOW)
        costs.append((work.asked, work.written))
    assert max(asked for asked, _ in costs[270:]) <= max(asked for asked, _ in costs[40:80]) + 3
    assert max(written for _, written in costs[270:]) <= 1.2 * max(written for _, written in costs[40:80])
