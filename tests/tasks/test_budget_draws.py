"""What tasks draw from budgets, against an oracle that counts each call once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanpost.model.budgets import NO_FIGURES, BudgetFigures
from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.tasks.budget_draws import Draws, drawn, given_back, inherited
from spanpost.tasks.budget_limits import RAISE_OPTION
from spanpost.tasks.budgets import Budget
from spanpost.testing.exercise_budgets import spending
from spanpost.testing.exercise_limits import a_call, a_start, questions
from spanpost.testing.exercise_people import an_act

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
BUDGETS = (
    Budget(name="day", per=("agent.team",), limit_calls=10),
    Budget(name="rolling", rolling=timedelta(hours=24), limit_calls=10),
    Budget(name="task", period="task", limit_calls=10, at_limit="pause"),
)
TEAMS = st.sampled_from([None, "red", "blue"])
FIGURES = st.builds(BudgetFigures, st.integers(0, 9), st.integers(0, 9), st.integers(0, 99), st.integers(0, 10**9))
#: What is known of a task then, and the hours that have passed.
STEPS = st.lists(st.tuples(FIGURES, TEAMS, st.integers(0, 30)), max_size=12)


def a_task(team: str | None, uid: int = 1) -> Task:
    attributes = {} if team is None else {"agent.team": team}
    return Task(uid=UUID(int=uid), tenant="default", task_id=f"{uid}", attributes=attributes)


@given(STEPS)
def test_rows_are_the_sum_of_what_tasks_drew(steps: list[tuple[BudgetFigures, str | None, int]]) -> None:
    """However a task's figures and team change, no row is negative, and its row of the period is what it drew there."""
    draws, now = Draws(), NOW
    sums: dict[tuple[Any, ...], BudgetFigures] = {}
    for figures, team, hours in steps:
        now += timedelta(hours=hours)
        draws, growths = drawn(BUDGETS, a_task(team), figures, draws, NO_FIGURES, now, is_over=False)
        for growth in growths:
            key = growth.budget, growth.scope, growth.began_at
            sums[key] = sums.get(key, NO_FIGURES).plus(growth.figures)
        assert all(min(msgspec.structs.astuple(one)) >= 0 for one in sums.values())
        for name, draw in draws.items():
            if draw.scope is not None:
                began = datetime.fromtimestamp(draw.began, UTC)
                assert sums.get((name, draw.scope, began), NO_FIGURES) == draw.here
        again = drawn(BUDGETS, a_task(team), figures, draws, NO_FIGURES, now, is_over=False)
        assert again == (draws, [])


@given(FIGURES, FIGURES, TEAMS, TEAMS)
def test_a_task_that_became_part_of_another_is_spent_once(
    first: BudgetFigures, second: BudgetFigures, team: str | None, other: str | None
) -> None:
    """After two tasks became one, the rows hold the figures of the one, under its team."""
    sums: dict[tuple[Any, ...], BudgetFigures] = {}

    def take(growths: list[Any]) -> None:
        for growth in growths:
            key = growth.budget, growth.scope
            sums[key] = sums.get(key, NO_FIGURES).plus(growth.figures)

    former, growths = drawn(BUDGETS, a_task(team, 2), first, {}, NO_FIGURES, NOW, is_over=False)
    take(growths)
    draws, growths = drawn(BUDGETS, a_task(other), second, {}, NO_FIGURES, NOW, is_over=False)
    take(growths)
    taken, left = inherited(draws, former)
    take(given_back("default", a_task(team, 2), left, NOW))
    whole = first.plus(second)
    after, growths = drawn(BUDGETS, a_task(other), whole, taken, NO_FIGURES, NOW, is_over=False)
    take(growths)
    assert {key: one for key, one in sums.items() if one != NO_FIGURES} == {
        (name, draw.scope): draw.here
        for name, draw in after.items()
        if draw.scope is not None and draw.here != NO_FIGURES
    }
    assert all(draw.here == whole for draw in after.values() if draw.scope is not None)


#: Runs of two teams, and the span numbers of their calls.
RUNS = {1: "red", 2: "red", 3: "blue"}
CALLS = [(trace, span) for trace in RUNS for span in (2, 3, 4)]


def everything() -> list[Observation]:
    starts = [a_start(trace, **{"agent.team": team}) for trace, team in RUNS.items()]
    return [*starts, *(a_call(trace, span) for trace, span in CALLS)]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(RUNS) + len(CALLS) - 1), max_size=30), st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_the_same_sums_and_one_act(repetitions: list[int], random: Any) -> None:
    """In any order, in any batches and however often repeated: each call is spent once, each open task is paused
    once, and answers of people to all questions raise each team's limit once.
    """
    budget = Budget(name="team", per=("agent.team",), limit_calls=2, at_limit="ask", warn_at=())
    total = replace(budget, name="all", per=(), at_limit="pause", limit_calls=5)
    order = [*range(len(RUNS) + len(CALLS)), *repetitions]
    random.shuffle(order)
    batch = everything()

    async def check() -> None:
        store = MemoryStore(spending(budget, total))
        acts: Counter[tuple[str, str]] = Counter()
        while order:
            size = random.randint(1, 4)
            recorded = await store.record([batch[n] for n in order[:size]])
            acts.update((one.budget, one.act) for one in recorded.budget_acts)
            del order[:size]
        oracle = Counter(RUNS[trace] for trace, _ in CALLS)
        spent = {(s.budget, *(v for _, v in s.scope)): s.calls for s in await store.budgets.spending() if s.calls}
        assert spent == {("team", team): n for team, n in oracle.items()} | {("all",): len(CALLS)}
        tasks = await store.tasks(TaskQuery())
        verbs = {task.uid: await store.interventions.deeds(task.uid, [Verb.PAUSE]) for task in tasks}
        assert all(len(deeds) <= len((budget, total)) for deeds in verbs.values())
        assert any(verbs.values())
        for row in await questions(store):
            act = an_act(Verb.CHOOSE, row.key, option=RAISE_OPTION)
            for one in (act, act, an_act(Verb.CHOOSE, row.key, option=RAISE_OPTION)):
                await store.interventions.intervene(one)
        raised = {s.scope[0][1]: len(s.raises) for s in await store.budgets.spending() if s.budget == "team"}
        assert set(raised.values()) == {1}

    asyncio.run(check())
