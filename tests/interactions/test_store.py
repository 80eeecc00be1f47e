"""The store's queries for interactions: the subject of a key, and the parents of its task."""

from __future__ import annotations

from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.subjects import places, subject_of
from spanpost.model.deliveries import Receipt
from spanpost.model.queries import ApprovalQuery, TaskFilter
from spanpost.routing.routes import Routes
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_people import at_work
from spanpost.testing.observed import an_event, started


async def test_a_question_of_a_sub_agent_comes_with_the_tasks_above_it() -> None:
    """For a question of a sub-agent's sub-agent, requester, topic and agents are known."""
    store = MemoryStore()
    said = {"agent.requested_by": "UALICE", "agent.topic": "deploy", "agent.name": "boss"}
    asking = {"agent.approval.id": "a1", "agent.approval.question": "Deploy?"}
    await store.record(
        [
            at_work("root", attributes=said),
            started(
                trace=1,
                span=2,
                parent=1,
                name="agent",
                attributes={"agent.task.name": "between", "agent.name": "coder"},
            ),
            started(
                trace=1, span=3, parent=2, name="agent", attributes={"agent.task.name": "deep", "agent.name": "sub"}
            ),
            an_event(trace=1, span=3, name="agent.approval.requested", attributes=asking, index=0, at=2.0),
        ]
    )
    [row] = await store.interventions.approvals(ApprovalQuery())
    message = PersonMessage(channel="C1", ts="1.0", is_ours=True)
    asked = await subject_of(store.reader, store.interventions, row.key, message)
    assert asked is not None
    assert (asked.task.name, [task.name for task in asked.above]) == ("deep", ["between", "root"])
    assert (asked.topic, asked.agents, asked.requesters) == ("deploy", {"sub", "coder", "boss"}, ("UALICE",))


async def test_a_working_task_is_found_with_its_message() -> None:
    """A task is listed with its message in Slack, where it has one."""
    store = MemoryStore(rules=FoldRules(routes=Routes(sinks=("slack",))))
    await store.record([at_work("told")])
    for delivery in await store.outbox.claim(["slack"], 10):
        await store.outbox.finish(delivery, Receipt(ref={"channel": "C1", "ts": "1.5"}))
    await store.record([at_work("untold", trace=2)])
    tasks = {task.name: task for task in (await store.reader.tasks(TaskFilter(tenant="default"), None, 9)).items}
    found = await places(store.reader, [task.uid for task in tasks.values()])
    assert found == {tasks["told"].uid: PersonMessage(channel="C1", ts="1.5")}
    asked = await subject_of(store.reader, store.interventions, tasks["told"].uid, found[tasks["told"].uid])
    assert asked is not None
    assert asked.is_shown_there
