"""Tests of questions that are settled where the agent runs, in every store: withdrawal, and the grace before asking."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.store.protocols import Store
from spanpost.testing import observed
from spanpost.testing.exercise_people import (
    a_reported_decision,
    an_act,
    asking,
    at_work,
    fold_timers,
    the_question,
)
from spanpost.testing.exercise_store import ROUTED_RULES, SINK, MakeStore, drain
from spanpost.testing.exercised import Exercised

_EDITING = msgspec.structs.replace(
    ROUTED_RULES, routes=msgspec.structs.replace(ROUTED_RULES.routes, editing=frozenset({SINK}))
)


def asked_now(ask_after: float, **more: Any) -> Observation:
    """Return a question of this moment, that people are asked after so many seconds."""
    at = (datetime.now(UTC).timestamp() * 1e9 - observed.BEGAN) / 1e9
    return asking(at=at, ask_after=ask_after, is_marked=True, **more)


def questions_in(deliveries: list[Delivery]) -> list[Delivery]:
    """Return the deliveries of questions."""
    return [d for d in deliveries if d.checkpoint is not None and d.checkpoint.kind is Kind.APPROVAL_REQUESTED]


class ExerciseWithdrawal(Exercised):
    """Tests of withdrawal and grace in every store."""

    async def test_a_withdrawn_question_grants_nothing(self, make_store: MakeStore) -> None:
        """A withdrawn question is closed with its reason; a click afterwards learns so and changes nothing."""
        store = await make_store()
        await store.record([at_work(), asking(is_marked=True)])
        row = await the_question(store)
        recorded = await store.interventions.withdraw(row.key, "answered at the terminal")
        assert [c.kind for c in recorded.checkpoints] == [Kind.APPROVAL_RESOLVED]
        for _ in range(2):
            verdict = await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
            assert (verdict.result, verdict.decision) == (Result.WITHDRAWN, "")
            row = await the_question(store)
            assert (row.state, row.decision, row.source, row.by, row.comment) == (
                InterventionState.WITHDRAWN,
                "withdrawn",
                "withdrawal",
                "",
                "answered at the terminal",
            )
        [task] = await store.tasks(TaskQuery())
        assert [(a.is_open, a.is_withdrawn) for a in task.approvals] == [(False, True)]
        assert (await store.interventions.withdraw(row.key, "again")).checkpoints == []

    async def test_the_first_of_decision_and_withdrawal_stands(self, make_store: MakeStore) -> None:
        """A decided question is not withdrawn any more, in whatever order they come."""
        store = await make_store()
        await store.record([at_work(), asking(is_marked=True)])
        row = await the_question(store)
        act = an_act(Verb.DENY, row.key)
        await asyncio.gather(store.interventions.intervene(act), store.interventions.withdraw(row.key, "gone"))
        first = await the_question(store)
        assert first.state in (InterventionState.DECIDED, InterventionState.WITHDRAWN)
        await store.interventions.withdraw(row.key, "gone")
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
        assert await the_question(store) == first

    async def test_nobody_is_disturbed_within_the_grace(self, make_store: MakeStore) -> None:
        """A question that is closed within its grace is delivered to nobody, and neither is its closing."""
        for is_withdrawn in (True, False):
            store = await make_store()
            await store.record([at_work(), asked_now(60.0)])
            assert (await the_question(store)).state is InterventionState.OPEN
            row = await the_question(store)
            if is_withdrawn:
                await store.interventions.withdraw(row.key, "gone")
            else:
                await store.interventions.intervene(an_act(Verb.DENY, row.key))
            await fold_timers(store)
            kinds = {d.checkpoint.kind for d in await drain(store) if d.checkpoint is not None}
            assert kinds <= {Kind.START}

    async def test_people_are_asked_after_the_grace(self, make_store: MakeStore) -> None:
        """A question that is open when its grace is over is delivered once, and its task's message shows it."""
        store = await make_store()
        await store.record([at_work()])
        await drain(store)
        await store.record([asked_now(0.3)])
        assert await drain(store) == []
        delivered = await self._asked(store)
        assert (len(questions_in(delivered)), {d.mode for d in delivered}) == (1, {Mode.STATE, Mode.CHECKPOINT})
        await fold_timers(store)
        assert await drain(store) == []

    async def _asked(self, store: Store) -> list[Delivery]:
        async with asyncio.timeout(60):
            while True:
                await fold_timers(store)
                if found := await drain(store):
                    return found

    async def test_a_withdrawn_question_shows_where_it_was_answered(self, make_store: MakeStore) -> None:
        """The message of a withdrawn question is edited when it closes, and again when telemetry says how."""
        store = await make_store(rules=_EDITING)
        await store.record([at_work(), asked_now(0.0)])
        assert len(questions_in(await drain(store))) == 1
        row = await the_question(store)
        await store.interventions.withdraw(row.key, "gone")
        assert len(questions_in(await drain(store))) == 1
        at = (datetime.now(UTC).timestamp() * 1e9 - observed.BEGAN) / 1e9
        reported = a_reported_decision("accept", id="call-1", at=at, by="a person", comment="Bash")
        for n, expected in ((0, 1), (1, 0)):
            await store.record([reported] if n == 0 else [asking("a2", "Other?")])
            edits = [d for d in questions_in(await drain(store)) if d.checkpoint and d.checkpoint.ref == "a1"]
            assert len(edits) == expected
        [first, _] = sorted((await store.tasks(TaskQuery()))[0].approvals[-2:], key=lambda a: a.id)
        assert first.is_withdrawn
        assert first.reported_decision is not None
        assert (first.decision, first.reported_decision.decision) == ("withdrawn", "accept")
        assert (await the_question(store)).reported_decision is not None
