"""Tests of questions that need several people, in every store."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import Actor, InterventionState, Result, Verb
from spanpost.model.queries import TaskQuery
from spanpost.store.protocols import Store
from spanpost.tasks.approval_rules import ApprovalRules, QuestionRule
from spanpost.testing.exercise_people import ALICE, BOB, an_act, asking, at_work, the_question
from spanpost.testing.exercise_standing import a_task, a_tool_question, asked
from spanpost.testing.exercise_store import ROUTED_RULES, MakeStore, drain
from spanpost.testing.exercised import Exercised

OPEN, DECIDED = InterventionState.OPEN, InterventionState.DECIDED
#: The same people elsewhere: known by their address, or not.
ALICE_AT_API = Actor(provider="oidc", team="default", id="7", name="A. Liddell", email="Alice@Example.com")
NAMELESS_AT_API = Actor(provider="api", team="default", id="token", name="token")
BOB_AT_API = Actor(provider="oidc", team="default", id="8", name="bob", email="bob@example.com")


async def said(store: Store, key: Any, actor: Actor, verb: Verb = Verb.APPROVE, **more: Any) -> tuple[Result, int]:
    """Return the result of an act on a question, and how many people approved."""
    verdict = await store.interventions.intervene(an_act(verb, key, actor=actor, **more))
    return verdict.result, verdict.approvals


class ExerciseSeveral(Exercised):
    """Tests of questions that need several people, in every store."""

    async def test_two_people_approve(self, make_store: MakeStore) -> None:
        """The first approval counts and leaves the question open, with the name shown; the second decides."""
        store = await make_store()
        row = await asked(store, a_tool_question("q1", needs=2), a_task())
        await drain(store)
        assert await said(store, row.key, ALICE) == (Result.COUNTED, 1)
        [task] = await store.tasks(TaskQuery())
        [question] = task.open_approvals
        assert (question.needs, question.approved_by, task.status) == (2, ("alice",), "waiting")
        posted = [d.checkpoint.kind for d in await drain(store) if d.checkpoint is not None]
        assert posted == [Kind.APPROVAL_RESOLVED]
        assert await said(store, row.key, BOB) == (Result.DONE, 2)
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.by) for a in task.approvals] == [("approve", "bob")]
        assert (await the_question(store, "q1")).state is DECIDED

    @pytest.mark.parametrize("again", [ALICE, ALICE_AT_API, NAMELESS_AT_API], ids=lambda actor: actor.name)
    async def test_one_person_is_one(self, make_store: MakeStore, again: Actor) -> None:
        """A person who approves twice counts once: by id, by address, and where nothing shows the difference."""
        store = await make_store()
        row = await asked(store, a_tool_question("q1", needs=2), a_task())
        assert await said(store, row.key, ALICE) == (Result.COUNTED, 1)
        assert await said(store, row.key, again) == (Result.COUNTED, 1)
        assert (await the_question(store, "q1")).state is OPEN
        assert await said(store, row.key, BOB_AT_API) == (
            (Result.DONE, 2) if again is not NAMELESS_AT_API else (Result.COUNTED, 1)
        )

    async def test_one_denies(self, make_store: MakeStore) -> None:
        """One person denies for all, also one who approved before."""
        store = await make_store()
        row = await asked(store, a_tool_question("q1", needs=2), a_task())
        assert await said(store, row.key, ALICE) == (Result.COUNTED, 1)
        assert await said(store, row.key, ALICE, Verb.DENY) == (Result.DONE, 0)
        assert (await the_question(store, "q1")).decision == "deny"

    @pytest.mark.parametrize("requester", ["alice", "ALICE@example.com", "U1"])
    async def test_the_requester_is_no_second_person(self, make_store: MakeStore, requester: str) -> None:
        """The person for whom the task runs cannot approve, and may deny."""
        store = await make_store()
        row = await asked(store, a_tool_question("q1", needs=2), a_task(requested_by=requester))
        assert await said(store, row.key, ALICE) == (Result.REFUSED, 0)
        assert await said(store, row.key, ALICE, Verb.DENY) == (Result.DONE, 0)

    async def test_other_words_begin_anew(self, make_store: MakeStore) -> None:
        """After a change of words no one has approved."""
        store = await make_store()
        first = await asked(store, asking("q1", "Deploy v1?", needs=2), a_task())
        assert await said(store, first.key, ALICE) == (Result.COUNTED, 1)
        second = await asked(store, asking("q1", "Deploy v2?", needs=2, at=5.0, index=1))
        assert second.key != first.key
        assert await said(store, first.key, BOB) == (Result.VOID, 0)
        assert await said(store, second.key, BOB) == (Result.COUNTED, 1)
        assert await said(store, second.key, ALICE) == (Result.DONE, 2)

    async def test_the_number_never_shrinks(self, make_store: MakeStore) -> None:
        """The same words asked again for fewer people, or elsewhere for one, still need as many."""
        store = await make_store()
        row = await asked(store, asking("q1", needs=2), a_task())
        await asked(store, asking("q1", needs=1, at=5.0, index=1))
        assert await said(store, row.key, ALICE) == (Result.COUNTED, 1)
        elsewhere = await asked(store, asking("q1", trace=2, at=6.0), a_task(2))
        assert await said(store, elsewhere.key, ALICE) == (Result.DONE, 0)
        after = await store.interventions.approval(row.key)
        assert after is not None
        assert after.state is OPEN
        third = await asked(store, asking("q1", needs=2, trace=3, at=7.0), a_task(3))
        assert third.state is OPEN

    async def test_two_people_answer_everywhere(self, make_store: MakeStore) -> None:
        """What two people approved is the answer to the same words elsewhere, for one person or for two."""
        store = await make_store()
        row = await asked(store, asking("q1", needs=2), a_task())
        other = await asked(store, asking("q1", trace=2, at=6.0), a_task(2))
        await said(store, row.key, ALICE)
        assert await said(store, row.key, BOB) == (Result.DONE, 2)
        third = await asked(store, asking("q1", needs=2, trace=3, at=7.0), a_task(3))
        after = await store.interventions.approval(other.key)
        assert after is not None
        assert (after.state, third.state) == (DECIDED, DECIDED)

    async def test_people_choose_the_same(self, make_store: MakeStore) -> None:
        """Of several options one is decided when as many people chose it; each person's last choice counts."""
        store = await make_store()
        row = await asked(store, asking("q1", needs=2, options=["now", "later"]), a_task())
        assert await said(store, row.key, ALICE, Verb.CHOOSE, option="now") == (Result.COUNTED, 1)
        assert await said(store, row.key, BOB, Verb.CHOOSE, option="later") == (Result.COUNTED, 1)
        assert await said(store, row.key, ALICE, Verb.CHOOSE, option="later") == (Result.DONE, 2)
        assert (await the_question(store, "q1")).decision == "later"

    @pytest.mark.parametrize(("needs", "counts"), [(1, Result.COUNTED), (3, Result.COUNTED)])
    async def test_the_settings_ask_for_more(self, make_store: MakeStore, needs: int, counts: Result) -> None:
        """A rule of the settings asks for more people than the question, and never for fewer."""
        rule = QuestionRule(agent="coder", tool="Ba*", needs=2)
        store = await make_store(msgspec.structs.replace(ROUTED_RULES, approvals=ApprovalRules(rules=(rule,))))
        row = await asked(store, a_tool_question("q1", needs=needs), a_task())
        assert row.needs == max(needs, 2)
        assert (await said(store, row.key, ALICE))[0] is counts
        other = await asked(store, a_tool_question("q2", "Read", at=5.0), at_work())
        assert other.needs == 1
