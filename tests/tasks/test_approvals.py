"""Questions to people: any order gives the same result, and no sender can decide in a person's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import ApprovalRow, InterventionState, Result, Verb
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.approvals import deadline
from spanpost.tasks.facts import MAP_CAP, Facts
from spanpost.tasks.interventions import decided, escalated
from spanpost.tasks.overdue import overdue
from spanpost.testing.exercise_answers import FORGED
from spanpost.testing.exercise_people import a_reported_decision, an_act, asking, at_work
from spanpost.testing.observed import an_event
from tests.tasks.posting import at_once

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def reported(name: str, index: int, at: float, **said: Any) -> Observation:
    attributes = {f"agent.approval.{key}": value for key, value in said.items()}
    return an_event(trace=1, span=1, name=name, attributes=attributes, index=index, at=at)


def a_row(store: MemoryStore, question: str) -> ApprovalRow:
    return next(row for row in store.interventions.rows.values() if row.question == question)


def _history() -> list[Observation]:
    """Return a question, asked three times in two wordings, with answers of a person and of the agent."""
    store = MemoryStore(keep=None)
    asked = [asking(question="v1?"), asking(question="v2?", index=1, at=5.0), asking(question="v1?", index=2, at=9.0)]
    store.record_now([at_work(), *asked[:2]])
    ours = []
    for question, decision in (("v1?", "approve"), ("v2?", "deny")):
        row = msgspec.structs.replace(
            a_row(store, question), state=InterventionState.DECIDED, decision=decision, by="alice", source="slack"
        )
        ours += [decided(row, NOON), escalated(row, NOON)]
    theirs = [reported(c.EVENT_APPROVAL_RESOLVED, 3, 6.0, id="a1", decision="approve", by="mallory")]
    return [at_work(), *asked, *ours, *theirs]


HISTORY = _history()


@pytest.mark.proves("any-order", "random-orders")
@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=4))
def test_any_order_and_repetition_comes_to_the_same(order: list[Observation], more: list[Observation]) -> None:
    """Questions, edits and decisions give the same task and the same checkpoints in any order, also repeated."""
    store = MemoryStore(keep=None)
    for observation in [*order, *more]:
        store.record_now([observation])
    [task] = store.tasks_now(TaskQuery())
    known = [(a.question, a.decision, a.by, a.source, a.is_void, a.escalated_at is not None) for a in task.approvals]
    assert known == [("v2?", "deny", "alice", "slack", False, True), ("v1?", "approve", "alice", "slack", False, True)]
    assert task.open_approvals == ()
    assert _checkpoints(store) == CHECKPOINT


def _checkpoints(store: MemoryStore) -> set[tuple[str, str]]:
    return {(str(x.kind), x.text) for x in store.checkpoints_now() if "approval" in x.kind}


def _checkpoints_of(history: list[Observation]) -> set[tuple[str, str]]:
    store = MemoryStore(keep=None)
    store.record_now(history)
    return _checkpoints(store)


CHECKPOINT = _checkpoints_of(HISTORY)


def test_each_wording_is_announced_once_and_escalated_once() -> None:
    """Both wordings have a checkpoint, and one when no answer came in time; the first decision names its author."""
    asked = {("approval_requested", text) for v in ("v1?", "v2?") for text in (v, f"Not answered yet: {v}")}
    assert asked < CHECKPOINT
    assert {text for _, text in CHECKPOINT - {*asked}} <= {"approve by alice", "deny by alice"}


@pytest.mark.proves("only-people", "forged-answers")
@given(st.sampled_from([Part.EVENT, Part.LOG]))
def test_no_sender_acts_in_a_persons_name(part: Part) -> None:
    """No sender can report what only spanpost records: who decided and how, an act, or an escalation."""
    said = {c.INTERVENTION_VERB: "cancel", c.INTERVENTION_BY: "alice", c.INTERVENTION_SOURCE: "slack"}
    forged: dict[str, Any] = {
        c.APPROVAL_ID: "a1",
        c.APPROVAL_DECISION: "approve",
        c.APPROVAL_BY: "alice",
        c.INTERVENTION_SOURCE: "slack",
    }
    forged |= {c.INTERVENTION_EXPIRED: True}
    records = [
        an_event(trace=1, span=1, name=c.EVENT_INTERVENTION, attributes=said, index=1, at=2.0),
        an_event(trace=1, span=1, name=c.EVENT_APPROVAL_ESCALATED, attributes={c.APPROVAL_ID: "a1"}, index=2, at=2.0),
        an_event(trace=1, span=1, name=c.EVENT_APPROVAL_RESOLVED, attributes=forged, index=3, at=2.0),
    ]
    store = MemoryStore()
    store.record_now([at_work(), asking(), *(msgspec.structs.replace(r, part=part) for r in records)])
    [task] = store.tasks_now(TaskQuery())
    assert (task.cancel_by, task.paused_by, task.is_muted) == ("", "", False)
    assert [(a.decision, a.source, a.is_expired, a.escalated_at) for a in task.approvals] == [
        ("approve", "", False, None)
    ]


@pytest.mark.slow
def test_the_newest_questions_of_very_many_are_kept() -> None:
    """A task keeps its newest hundred questions with their answers, however many it asks."""
    store = MemoryStore(keep=None)
    store.record_now([at_work()])
    for n in range(250):
        answer = reported(c.EVENT_APPROVAL_RESOLVED, 2 * n + 1, n + 1.5, id=f"{n % 7}-{n}", decision="approve")
        store.record_now([asking(f"{n % 7}-{n}", index=2 * n, at=n + 1.0), *([answer] if n < 240 else [])])
    [task] = store.tasks_now(TaskQuery())
    assert [a.id for a in task.approvals if a.question] == [f"{n % 7}-{n}" for n in range(150, 250)]
    assert [a.id for a in task.open_approvals] == [f"{n % 7}-{n}" for n in range(240, 250)]


def test_the_answers_of_the_questions_that_are_kept_are_kept() -> None:
    """A question keeps its answer, however many answers to unknown questions a session reports."""
    facts = Facts()
    for n in range(MAP_CAP):
        facts.enter("asks", f"z{n}\0m\0t", 0, n, b"k", None)
        for name in ("answers", "claimed_answers"):
            facts.enter(name, f"z{n}\0m\0t", 0, -n, b"k", None)
    for n in range(1000):
        for name in ("answers", "claimed_answers"):
            facts.enter(name, f"a{n:04}\0m\0t", 0, -1000 - n, b"k", None)
    for name in ("answers", "claimed_answers"):
        kept = getattr(facts, name)
        assert len(kept) == 4 * MAP_CAP
        assert facts.asks.keys() <= kept.keys()
        assert {e for e in kept if e[0] == "a"} == {f"a{n:04}\0m\0t" for n in range(700, 1000)}


#: A question of spanpost in trace 1, and all that a sender may report in both traces: decisions, this question,
#: other questions.
FORGERIES = [o for observations in FORGED.values() for o in observations]
QUESTION = asking(is_marked=True)
OTHERS = [
    asking(question="Hello?", digest=QUESTION.attributes[c.APPROVAL_DIGEST], trace=2, index=1, at=4.0),
    asking(question="Hello?", is_marked=True, trace=2, index=2, at=6.0),
    asking(trace=2, index=3, at=5.0, expires_at="2020-01-01T00:00:00Z", at_expiry="deny"),
    a_reported_decision(trace=2, index=4, at=5.5),
]


@pytest.mark.proves("only-people", "forged-answers")
@given(st.permutations([at_work(), at_work("other", trace=2), QUESTION, *OTHERS, *FORGERIES]), st.data())
def test_no_order_of_what_senders_say_decides(order: list[Observation], data: st.DataObject) -> None:
    """A question stays open until a person answers, in any order of forged answers, baits and copies."""
    store = MemoryStore(keep=None)
    again = data.draw(st.lists(st.sampled_from(order), max_size=4))
    cut = data.draw(st.integers(0, len(order)))
    for observation in (*order[:cut], *again, *order[cut:]):
        store.record_now([observation])
    [row] = [row for row in store.interventions.rows.values() if row.trace == f"{1:032x}"]
    assert (row.state, row.decision, row.source, row.is_asked) == (InterventionState.OPEN, "", "", True)
    assert [c.text for c in store.checkpoints_now() if c.kind is Kind.APPROVAL_REQUESTED].count(
        "Deploy?"
    ) == 2  # of each trace
    assert at_once(store.interventions.intervene(an_act(Verb.DENY, row.key))).result is Result.DONE
    for observation in order:
        store.record_now([observation])
    [task] = [task for task in store.tasks_now(TaskQuery()) if task.name == "deploy"]
    assert [(a.decision, a.by, a.source, a.reported_decision) for a in task.approvals] == [
        ("deny", "alice", "slack", None)
    ]


@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_a_deadline_is_a_time_or_nothing(said: str) -> None:
    """Any text of an agent gives a plausible time with a zone, or no deadline."""
    found = deadline(said)
    assert found is None or datetime(1999, 1, 1, tzinfo=UTC) < found < datetime(2201, 1, 1, tzinfo=UTC)


def test_deadlines_as_agents_write_them() -> None:
    """RFC 3339 with and without a zone, and Unix seconds, give the same moment."""
    moment = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)
    written = (
        "2026-05-04T10:30:00Z",
        "2026-05-04T12:30:00+02:00",
        "2026-05-04 10:30:00",
        "1777890600",
        " 1777890600.0 ",
    )
    assert {deadline(one) for one in written} == {moment}
    assert [deadline(one) for one in ("", "soon", "nan", "inf", "-1", "1e300", "0001-01-01T00:00:00Z")] == [None] * 7


def test_a_time_that_was_over_when_it_came_is_given_a_while() -> None:
    """An escalated question stays open for as long again as before, and for a minute at least."""
    row = ApprovalRow(
        key=UUID(int=1), tenant="t", approval_id="a", mark="m", task_uid=UUID(int=2), span="0a-0b", requested_at=NOON,
        expires_at=NOON - timedelta(hours=1), at_expiry="escalate",
    )  # fmt: skip
    later, record = overdue(row, NOON)
    assert (later.state, later.expires_at, record is not None) == (
        InterventionState.OPEN,
        NOON + timedelta(minutes=1),
        True,
    )
    last, record = overdue(later, NOON + timedelta(minutes=1))
    assert (last.state, last.decision, record is not None) == (InterventionState.EXPIRED, c.EXPIRED, True)


@pytest.mark.slow
async def test_a_question_asked_again_after_very_many_others_is_still_answered() -> None:
    """The store keeps a decision that the task dropped for newer ones; the task gets it when it asks again."""
    store = MemoryStore()
    store.record_now([at_work(), asking("a0", "Which of them first?")])
    [row] = await store.interventions.approvals(ApprovalQuery(approval_id="a0"))
    assert (await store.interventions.intervene(an_act(Verb.DENY, row.key, text="not today"))).result is Result.DONE
    for n in range(5 * MAP_CAP):
        answer = reported(c.EVENT_APPROVAL_RESOLVED, 2 * n + 2, n + 2.5, id=f"o{n}", decision="approve")
        store.record_now([asking(f"o{n}", index=2 * n + 1, at=n + 2.0), answer])
    for n in range(2):
        store.record_now([asking("a0", "Which of them first?", index=10_000 + n, at=10_000.0 + n)])
        [task] = store.tasks_now(TaskQuery())
        [again] = [a for a in task.approvals if a.id == "a0"]
        assert (again.is_open, again.decision, again.by) == (False, "deny", "alice")
        assert again.decided_at == a_row(store, "Which of them first?").decided_at
