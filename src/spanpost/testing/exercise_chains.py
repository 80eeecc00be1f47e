"""Tests of questions that are passed on from one place to the next, in every store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from spanpost.model.deliveries import Delivery
from spanpost.model.interventions import InterventionState, Verb
from spanpost.routing.routes import Route, Routes
from spanpost.store.protocols import Store
from spanpost.tasks.approval_rules import ApprovalRules, QuestionRule
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_people import an_act, at_work, the_question
from spanpost.testing.exercise_standing import PLACE, a_task, a_tool_question, asked
from spanpost.testing.exercise_store import POSTED, MakeStore
from spanpost.testing.exercised import Exercised

#: The owner is asked first, then a channel, ten minutes later.
RULES = FoldRules(
    routes=Routes(
        sinks=("slack",), routes=(Route(sink="slack", address="acme/#agents"),), editing=frozenset({"slack"})
    ),
    people={"dana@example.com": "U0DANA"},
    approvals=ApprovalRules(rules=(QuestionRule(to=("@owner", "#leads"), to_after=timedelta(minutes=10)),)),
)


async def posted(store: Store) -> dict[str, list[str]]:
    """Deliver all that waits; return the kinds of checkpoints by address, a state without one as `state`."""

    def kind(delivery: Delivery) -> str:
        return str(delivery.checkpoint.kind) if delivery.checkpoint is not None else "state"

    found: dict[str, list[str]] = {}
    while claimed := await store.outbox.claim(["slack"], 100):
        for delivery in claimed:
            await store.outbox.finish(delivery, POSTED)
            found.setdefault(delivery.address, []).append(kind(delivery))
    return found


class ExerciseChains(Exercised):
    """Tests of questions that are passed on, in every store."""

    async def test_a_question_is_passed_on(self, make_store: MakeStore) -> None:
        """The owner is asked at once by direct message, the channel when the time is over; who was asked when is kept,
        and the decision is shown in both.
        """
        store = await make_store(RULES)
        row = await asked(store, a_tool_question("q1"), a_task())
        assert [one.place for one in row.asked] == ["U0DANA"]
        first = await posted(store)
        assert first["acme/U0DANA"] == ["state", "approval_requested"]
        assert "acme/#leads" not in first
        await store.elapse()
        assert [one.place for one in (await the_question(store, "q1")).asked] == ["U0DANA"]
        await self.pass_time(store, 601)
        await store.elapse()
        row = await the_question(store, "q1")
        assert [one.place for one in row.asked] == ["U0DANA", "#leads"]
        assert row.asked[1].at > row.asked[0].at
        assert "approval_requested" in (await posted(store))["acme/#leads"]
        await self.pass_time(store, 601)
        await store.elapse()
        assert len((await the_question(store, "q1")).asked) == 2
        await store.interventions.intervene(an_act(Verb.DENY, row.key))
        after = await posted(store)
        assert {"acme/U0DANA", "acme/#leads"} <= set(after)

    async def test_an_answer_ends_the_chain(self, make_store: MakeStore) -> None:
        """After an answer the next place is not asked."""
        store = await make_store(RULES)
        row = await asked(store, a_tool_question("q1"), a_task())
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
        await self.pass_time(store, 601)
        await store.elapse()
        row = await the_question(store, "q1")
        assert (row.state, [one.place for one in row.asked]) == (InterventionState.DECIDED, ["U0DANA"])
        assert "acme/#leads" not in await posted(store)

    async def test_telemetry_chooses_no_place(self, make_store: MakeStore) -> None:
        """A question names only the places that the settings let it name; an unknown owner is left out."""
        rules = ApprovalRules(places=("@owner", "#help"))
        store = await make_store(msgspec.structs.replace(RULES, approvals=rules))
        to: dict[str, Any] = {"to": ["#general", "U0EVE", "@owner", "#help"]}
        row = await asked(store, a_tool_question("q1", **to), a_task())
        assert row.places == ("U0DANA", "#help")
        other = at_work(trace=2, attributes=PLACE | {"agent.requested_by": "somebody"})
        row = await asked(store, a_tool_question("q2", trace=2, **to), other)
        assert row.places == ("#help",)
