"""Each act that is offered on a task or a question is accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.interventions import Actor, ApprovalRow, Intervention, InterventionState, Result, Verb
from spanpost.model.tasks import Task
from spanpost.tasks.interventions import answers, judge, possible
from spanpost.testing.strategies import tasks

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALICE = Actor(provider="api", id="alice")


def act(verb: Verb, task: Task, option: str = "") -> Intervention:
    return Intervention(
        tenant=task.tenant, verb=verb, key=task.uid, actor=ALICE, option=option, idempotency_key="1", at=NOW
    )


@pytest.mark.slow
@given(tasks)
def test_what_is_offered_of_a_task_stands(task: Task) -> None:
    """Each act that is offered on any task is accepted; decisions and starts are not offered."""
    offered = possible(task)
    assert {judge(act(verb, task), None, task, NOW).result for verb in offered} <= {Result.DONE}
    assert not any(verb.is_decision or verb is Verb.START for verb in offered)
    assert len(set(offered) & {Verb.PAUSE, Verb.RESUME}) <= 1
    assert len(set(offered) & {Verb.MUTE, Verb.UNMUTE}) == 1


@pytest.mark.slow
@given(
    tasks, st.sampled_from(InterventionState), st.lists(st.text(max_size=3), max_size=3), st.sampled_from([None, -1, 1])
)
def test_an_answer_that_is_offered_stands(
    task: Task, state: InterventionState, options: list[str], expires: int | None
) -> None:
    """An answer to a question is offered exactly where it would be accepted."""
    at = NOW.replace(year=NOW.year + expires) if expires is not None else None
    row = ApprovalRow(
        key=UUID(int=9),
        tenant=task.tenant,
        approval_id="a",
        mark="m",
        task_uid=task.uid,
        options=tuple(options),
        requested_at=NOW,
        expires_at=at,
        state=state,
    )
    verb = Verb.CHOOSE if options else Verb.APPROVE
    option = options[0] if options else ""
    stands = judge(msgspec.structs.replace(act(verb, task, option), key=row.key), row, task, NOW).result is Result.DONE
    assert (verb in answers(row, task, NOW)) is stands


@pytest.mark.proves("nothing-crosses")
def test_the_question_of_another_tenant_is_unknown() -> None:
    """A decision finds no question of another tenant, whether its task is gone or one of the caller's own."""
    own = Task(uid=UUID(int=1), tenant="acme", task_id="own")
    row = ApprovalRow(
        key=UUID(int=9), tenant="other", approval_id="a", mark="m", task_uid=UUID(int=2), options=(), requested_at=NOW
    )
    decision = msgspec.structs.replace(act(Verb.APPROVE, own), key=row.key)
    assert judge(decision, row, None, NOW).result is Result.UNKNOWN
    assert judge(decision, row, own, NOW).result is Result.UNKNOWN
    assert judge(decision, msgspec.structs.replace(row, tenant="acme"), own, NOW).result is Result.DONE
