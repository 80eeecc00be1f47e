"""The ledger as the desk needs it: what a key is about, and for whom its task works."""

from __future__ import annotations

from spanpost.desk.base import Message
from spanpost.ledger.base import ApprovalQuery
from spanpost.ledger.memory import MemoryLedger
from spanpost.reception import LedgerHall
from spanpost.testing.exercise_people import at_work
from spanpost.testing.observed import an_event, started


async def test_a_question_of_a_sub_agent_comes_with_the_tasks_above_it() -> None:
    """Who asked, topic and agents are known of a question that a sub-agent's sub-agent asks."""
    ledger = MemoryLedger()
    said = {"agent.requested_by": "UALICE", "agent.topic": "deploy", "agent.name": "boss"}
    asking = {"agent.approval.id": "a1", "agent.approval.question": "Deploy?"}
    await ledger.record(
        [
            at_work("root", attributes=said),
            started(trace=1, span=2, parent=1, name="agent", attributes={"agent.task.name": "between", "agent.name": "coder"}),
            started(trace=1, span=3, parent=2, name="agent", attributes={"agent.task.name": "deep", "agent.name": "sub"}),
            an_event(trace=1, span=3, name="agent.approval.requested", attributes=asking, index=0, at=2.0),
        ]
    )
    [row] = await ledger.approvals(ApprovalQuery())
    asked = await LedgerHall(ledger, lambda recorded: None).asked(row.key, Message(channel="C1", ts="1.0", is_ours=True))
    assert asked is not None
    assert (asked.task.name, [task.name for task in asked.above]) == ("deep", ["between", "root"])
    assert (asked.topic, asked.agents, asked.requesters) == ("deploy", {"sub", "coder", "boss"}, ("UALICE",))
