"""Tests of standing approvals in every store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import ApprovalRow, InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.model.standing_approvals import Scope, StandingApproval, StandingQuery
from spanpost.store.protocols import Store
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.testing.exercise_people import ALICE, BOB, an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import ROUTED_RULES, MakeStore, drain
from spanpost.testing.exercised import Exercised

#: A task of an agent in a place.
PLACE = {"agent.name": "coder", "agent.repo": "acme/shop", "agent.requested_by": "dana@example.com"}
OPEN, DECIDED = InterventionState.OPEN, InterventionState.DECIDED


def a_task(trace: int = 1, **other: Any) -> Observation:
    """Return the start of a task of `PLACE`; keywords replace ``agent.*``."""
    return at_work(trace=trace, attributes=PLACE | {f"agent.{name}": value for name, value in other.items()})


def a_tool_question(id: str, tool: str = "Bash", *, trace: int = 1, **more: Any) -> Observation:
    """Return a question for a tool."""
    return asking(id, f"May I run {id}?", trace=trace, tool=tool, index=int(id.strip("q") or 0), **more)


async def asked(store: Store, question: Observation, *before: Observation) -> ApprovalRow:
    """Record a question; return its row."""
    await store.record([*before, question])
    id = str(question.attributes["agent.approval.id"])
    trace = question.trace_id.hex()
    return (await store.interventions.approvals(ApprovalQuery(approval_id=id, trace=trace)))[0]


async def grant(store: Store, key: UUID, scope: Scope, **more: Any) -> StandingApproval:
    """Approve a question with a scope; return the standing approval."""
    verdict = await store.interventions.intervene(an_act(Verb.APPROVE, key, scope=scope, **more))
    assert verdict.result is Result.DONE
    assert verdict.rule is not None
    standing = await store.interventions.standing_approval(verdict.rule)
    assert standing is not None
    return standing


class ExerciseStanding(Exercised):
    """Tests of standing approvals in every store."""

    async def test_a_tool_is_allowed_in_a_task(self, make_store: MakeStore) -> None:
        """The next question of the tool in the task is decided as it is recorded, in the owner's name; the
        standing approval counts its use, and people are not asked.
        """
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task())
        standing = await grant(store, first.key, Scope.TASK, text="it is a sandbox")
        await drain(store)
        row = await asked(store, a_tool_question("q2", at=5.0))
        assert (row.state, row.decision, row.by, row.by_id, row.source, row.rule) == (
            *(DECIDED, "approve", "alice", "slack:T1:U1", "rule", str(standing.id)),
        )
        [task] = await store.tasks(TaskQuery())
        assert [(a.id, a.decision, a.source) for a in task.approvals] == [
            ("q1", "approve", "slack"),
            ("q2", "approve", "rule"),
        ]
        [counted] = await store.interventions.standing_approvals(StandingQuery(tenant="default"))
        assert (counted.used, counted.reason, counted.last_used_at is not None) == (1, "it is a sandbox", True)
        posted = [d.checkpoint.kind for d in await drain(store) if d.checkpoint is not None]
        assert Kind.APPROVAL_REQUESTED not in posted

    async def test_a_use_is_kept_in_the_timeline(self, make_store: MakeStore) -> None:
        """Each use is an intervention of its own, with the owner as the person behind it."""
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task())
        await grant(store, first.key, Scope.TASK)
        row = await asked(store, a_tool_question("q2", at=5.0))
        page = await store.reader.timeline(row.task_uid, None, 50, content=False)
        kept = [(one.kind, one.by, one.result) for one in page.items if one.source == "intervention"]
        assert kept == [("approve", "alice", "done"), ("approve", "alice", "done")]

    @pytest.mark.parametrize(
        "other",
        [
            {"tool": "bash"},
            {"tool": "B\u0430sh"},  # Cyrillic
            {"tool": "Bash "},
            {"tool": "Write"},
            {"risk": "high"},
            {"needs": 2},
            {"options": ["approve", "deny"]},
            {"detail": "password=hunter2hunter2"},
            {"trace": 2},
        ],
        ids=str,
    )
    async def test_only_the_same_is_covered(self, make_store: MakeStore, other: dict[str, Any]) -> None:
        """A tool that looks alike, another risk, a second person, options, a hidden part and another task are
        not covered by what is allowed in a task.
        """
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task(), a_task(2))
        await grant(store, first.key, Scope.TASK)
        assert (await asked(store, a_tool_question("q2", at=5.0, **other))).state is OPEN

    @pytest.mark.parametrize("scope", [Scope.HOUR, Scope.ALWAYS])
    @pytest.mark.parametrize(
        ("other", "is_covered"),
        [
            ({}, True),
            ({"name": "Coder"}, False),
            ({"repo": "acme/shop2"}, False),
            ({"repo": ""}, False),
            ({"requested_by": "eve@example.com"}, None),
        ],
        ids=str,
    )
    async def test_other_tasks_are_covered_in_the_same_place(
        self, make_store: MakeStore, scope: Scope, other: dict[str, Any], is_covered: bool | None
    ) -> None:
        """For an hour and always the tool is allowed to the same agent in the same place; for an hour only for the
        same requester.
        """
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task())
        await grant(store, first.key, scope)
        row = await asked(store, a_tool_question("q2", trace=2, at=5.0), a_task(2, **other))
        expected = is_covered if is_covered is not None else scope is Scope.ALWAYS
        assert (row.state is DECIDED) is expected

    async def test_without_a_repository_always_is_for_one_requester(self, make_store: MakeStore) -> None:
        """Where only a service is known, which a coding CLI has for all people, others are asked all the same."""
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task(repo=""))
        await grant(store, first.key, Scope.ALWAYS)
        mine = await asked(store, a_tool_question("q2", trace=2, at=5.0), a_task(2, repo=""))
        other = a_task(3, repo="", requested_by="eve@example.com")
        its = await asked(store, a_tool_question("q3", trace=3, at=6.0), other)
        assert (mine.state, its.state) == (DECIDED, OPEN)

    async def test_it_ends_and_is_revoked(self, make_store: MakeStore) -> None:
        """One that is over or revoked decides nothing, and is listed only where all are asked for."""
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task())
        standing = await grant(store, first.key, Scope.HOUR)
        await self.pass_time(store, 3_700)
        assert (await asked(store, a_tool_question("q2", at=5.0))).state is OPEN
        revoked = await store.interventions.intervene(an_act(Verb.REVOKE, standing.id, actor=BOB))
        assert revoked.result is Result.EXPIRED
        again = await grant(store, (await the_question(store, "q2")).key, Scope.TASK)
        verdict = await store.interventions.intervene(an_act(Verb.REVOKE, again.id, actor=BOB))
        assert (verdict.result, verdict.by) == (Result.DONE, "bob")
        twice = await store.interventions.intervene(an_act(Verb.REVOKE, again.id, actor=ALICE))
        assert (twice.result, twice.by) == (Result.DECIDED, "bob")
        assert (await asked(store, a_tool_question("q3", at=6.0))).state is OPEN
        assert await store.interventions.standing_approvals(StandingQuery()) == []
        every = await store.interventions.standing_approvals(StandingQuery(is_in_force=False))
        assert [(one.scope, one.revoked_by) for one in every] == [(Scope.TASK, "bob"), (Scope.HOUR, "")]

    async def test_a_tenant_revokes_its_own_alone(self, make_store: MakeStore) -> None:
        """Another tenant neither revokes a standing approval nor learns that it exists."""
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task())
        standing = await grant(store, first.key, Scope.TASK)
        verdict = await store.interventions.intervene(an_act(Verb.REVOKE, standing.id, tenant="other"))
        assert verdict.result is Result.UNKNOWN
        assert await store.interventions.standing_approvals(StandingQuery(tenant="other")) == []
        assert (await asked(store, a_tool_question("q2", at=5.0))).state is DECIDED

    @pytest.mark.parametrize("other", [{"tool": ""}, {"options": ["approve", "deny"]}, {"needs": 2}], ids=str)
    async def test_not_every_question_gives_one(self, make_store: MakeStore, other: dict[str, Any]) -> None:
        """A question without a tool, with options, or for two people gives no standing approval, and stays open."""
        store = await make_store()
        row = await asked(store, a_tool_question("q1", **other), a_task())
        verdict = await store.interventions.intervene(an_act(Verb.APPROVE, row.key, scope=Scope.TASK))
        assert verdict.result is Result.NO_SCOPE
        assert (await the_question(store, "q1")).state is OPEN
        assert await store.interventions.standing_approvals(StandingQuery(is_in_force=False)) == []

    async def test_it_decides_that_question_alone(self, make_store: MakeStore) -> None:
        """What a standing approval decided in one task is no answer for the same words in another."""
        store = await make_store()
        first = await asked(store, a_tool_question("q1"), a_task(), a_task(2))
        await grant(store, first.key, Scope.TASK)
        waiting = await asked(store, a_tool_question("q2", trace=2, at=4.0))
        assert (await asked(store, a_tool_question("q2", at=5.0))).state is DECIDED
        after = await store.interventions.approval(waiting.key)
        assert after is not None
        assert after.state is OPEN
        late = await asked(store, a_tool_question("q2", trace=3, at=6.0), a_task(3))
        assert late.state is OPEN

    async def test_the_settings_say_how_long(self, make_store: MakeStore) -> None:
        """Every standing approval has an end, from the settings."""
        rules = msgspec.structs.replace(ROUTED_RULES, approvals=ApprovalRules(always_for=timedelta(days=2)))
        store = await make_store(rules)
        for number, (scope, lasts) in enumerate(
            [(Scope.TASK, timedelta(days=7)), (Scope.HOUR, timedelta(hours=1)), (Scope.ALWAYS, timedelta(days=2))], 1
        ):
            row = await asked(store, a_tool_question(f"q{number}", f"tool{number}"), a_task())
            standing = await grant(store, row.key, scope)
            assert standing.expires_at - standing.granted_at == lasts
