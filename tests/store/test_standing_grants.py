"""Properties of approvals: no order, repeat, replica, expiry, revocation or change of words grants what nobody allowed.

The oracle is a list of the grants that people made, in plain Python: it knows nothing of rows, folds or facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanpost.model.interventions import Actor, Intervention, InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery
from spanpost.model.standing_approvals import Scope, StandingQuery
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.store.protocols import Store
from spanpost.testing.observed import an_event, started
from tests.thorough import thorough

#: Tenant, agent, repository and requester of each task.
TASKS = [
    ("default", "coder", "acme/shop", "dana@example.com"),
    ("default", "coder", "acme/shop", "eve@example.com"),
    ("default", "coder", "acme/shop2", "dana@example.com"),
    ("default", "c\u043eder", "acme/shop", "dana@example.com"),
    ("other", "coder", "acme/shop", "dana@example.com"),
]
#: Names that look alike are other names.
TOOLS = ["Bash", "bash", "B\u0430sh", "Bash ", ""]
RISKS = ["", "high"]
#: The same person twice, known by the address; a second person; a token that may be either of them.
PEOPLE = [
    Actor(provider="slack", team="T1", id="U1", name="ann", email="ann@example.com"),
    Actor(provider="oidc", team="default", id="7", name="Ann", email="ANN@example.com"),
    Actor(provider="slack", team="T1", id="U2", name="ben", email="ben@example.com"),
    Actor(provider="api", team="default", id="bot", name="ben"),
]
#: Which of them are known to be different people.
DIFFERENT = {(0, 2), (2, 0), (1, 2), (2, 1)}
LASTS = {Scope.TASK: 7 * 86_400, Scope.HOUR: 3_600, Scope.ALWAYS: 90 * 86_400}

number = st.integers(0, 30)
ASKS = st.tuples(
    st.just("ask"),
    st.sampled_from(range(len(TASKS))),
    st.sampled_from(TOOLS),
    st.sampled_from(RISKS),
    st.sampled_from([1, 1, 2]),
    st.sampled_from(["plain", "plain", "secret", "options"]),
    st.integers(0, 3),
)
DECIDES = st.tuples(
    st.just("decide"),
    number,
    st.sampled_from(range(len(PEOPLE))),
    st.sampled_from([Verb.APPROVE, Verb.APPROVE, Verb.APPROVE, Verb.DENY]),
    st.sampled_from([Scope.ONCE, Scope.TASK, Scope.HOUR, Scope.ALWAYS]),
)
ACTIONS = st.one_of(
    ASKS,
    ASKS,
    DECIDES,
    st.tuples(st.just("revoke"), number, st.sampled_from(["default", "default", "other"])),
    st.tuples(st.just("wait"), st.sampled_from([1_800, 4_000, 8 * 86_400, 91 * 86_400])),
    st.tuples(st.just("repeat"), number),
)
Wait = Callable[[float], Coroutine[Any, Any, None]]


@dataclass
class Question:
    """A question as the oracle knows it."""

    task: int
    tool: str
    risk: str
    needs: int
    kind: str
    id: str
    record: Observation
    key: UUID | None = None
    is_void: bool = False
    decision: str = ""
    approvals: list[int] = field(default_factory=list)

    @property
    def may_go_further(self) -> bool:
        """Whether one person may allow more than this question."""
        return bool(self.tool) and self.needs == 1 and self.kind == "plain"


@dataclass
class Grant:
    """What a person allowed, and until when."""

    scope: Scope
    question: Question
    until: float
    id: UUID
    is_revoked: bool = False

    def covers(self, q: Question, now: float) -> bool:
        """Whether it allows a new question."""
        mine, its = TASKS[self.question.task], TASKS[q.task]
        if self.is_revoked or now >= self.until or not q.may_go_further:
            return False
        if (self.question.tool, self.question.risk, mine[0]) != (q.tool, q.risk, its[0]):
            return False
        if self.scope is Scope.TASK:
            return self.question.task == q.task
        return mine[:3] == its[:3] and (self.scope is Scope.ALWAYS or mine[3] == its[3])


class Play:
    """Plays actions on several gateways of one store, and compares each result with the oracle."""

    def __init__(self, stores: Sequence[Store], wait: Wait) -> None:
        self.stores, self.wait = stores, wait
        self.run = uuid4().hex[:8]
        self.at, self.now, self.turn = 1.0, 0.0, 0
        self.questions: list[Question] = []
        self.grants: list[Grant] = []
        self.done: list[tuple[Intervention, Result]] = []

    @property
    def store(self) -> Store:
        """The next gateway."""
        self.turn += 1
        return self.stores[self.turn % len(self.stores)]

    def tenant(self, task: int) -> str:
        return f"{TASKS[task][0]}-{self.run}"

    async def play(self, actions: Sequence[tuple[Any, ...]]) -> None:
        """Play the actions."""
        for task, (_, agent, repo, requester) in enumerate(TASKS):
            said = {"agent.name": agent, "agent.repo": repo, "agent.requested_by": requester}
            await self.store.record(
                [started(trace=task + 1, span=1, name="agent", attributes=said, tenant=self.tenant(task))]
            )
        for action, *given_ in actions:
            await getattr(self, f"_{action}")(*given_)

    async def _ask(self, task: int, tool: str, risk: str, needs: int, kind: str, words: int) -> None:
        id = f"{words}"  # the same id in other words replaces the question of its trace
        said = {
            "agent.approval.id": id,
            "agent.approval.question": f"Run {len(self.questions)}?",
            "agent.approval.tool": tool,
            "agent.approval.risk": risk,
            "agent.approval.needs": needs,
        }
        said |= {"agent.approval.options": ["approve", "deny"]} if kind == "options" else {}
        said |= {"agent.approval.detail": "password=hunter2hunter2"} if kind == "secret" else {}
        self.at += 1.0
        record = an_event(
            trace=task + 1,
            span=1,
            name="agent.approval.requested",
            attributes=said,
            index=len(self.questions),
            at=self.at,
            tenant=self.tenant(task),
        )
        question = Question(task, tool, risk, needs, kind, id, record)
        for older in self.questions:
            older.is_void = older.is_void or (older.task, older.id) == (task, id)
        self.questions.append(question)
        await self.store.record([record])
        if any(grant.covers(question, self.now) for grant in self.grants):
            question.decision = "approve"
        await self._same()

    async def _decide(self, which: int, person: int, verb: Verb, scope: Scope) -> None:
        question = self._nth(which)
        if question is None or question.key is None:
            return
        scope = scope if verb is Verb.APPROVE else Scope.ONCE
        act = Intervention(
            tenant=self.tenant(question.task),
            verb=verb,
            key=question.key,
            actor=PEOPLE[person],
            scope=scope,
            source=PEOPLE[person].provider,
            idempotency_key=uuid4().hex,
            at=datetime.now(UTC),
        )
        verdict = await self.store.interventions.intervene(act)
        self.done.append((act, verdict.result))
        is_open = not question.decision and not question.is_void
        if is_open and verb is Verb.DENY:
            question.decision = "deny"
        elif is_open and question.kind != "secret" and (scope is Scope.ONCE or question.may_go_further):
            if question.needs > 1:
                kept = [one for one in question.approvals if (one, person) in DIFFERENT]
                question.approvals = [*kept, person]
            if question.needs == 1 or len(question.approvals) >= question.needs:
                question.decision = "approve"
            if scope is not Scope.ONCE:
                assert verdict.rule is not None
                self.grants.append(Grant(scope, question, self.now + LASTS[scope], verdict.rule))
        await self._same()

    async def _revoke(self, which: int, tenant: str) -> None:
        if not self.grants:
            return
        grant = self.grants[which % len(self.grants)]
        act = Intervention(
            tenant=f"{tenant}-{self.run}",
            verb=Verb.REVOKE,
            key=grant.id,
            actor=PEOPLE[2],
            source="api",
            idempotency_key=uuid4().hex,
            at=datetime.now(UTC),
        )
        await self.store.interventions.intervene(act)
        grant.is_revoked = grant.is_revoked or tenant == TASKS[grant.question.task][0]

    async def _wait(self, seconds: float) -> None:
        await self.wait(seconds)
        self.now += seconds

    async def _repeat(self, which: int) -> None:
        """Send a question and an act once more, at another gateway."""
        if (question := self._nth(which)) is not None:
            await self.store.record([question.record])
        if self.done:
            act, result = self.done[which % len(self.done)]
            again = await self.store.interventions.intervene(act)
            assert (again.result, again.is_repeat) == (result, True)
        await self._same()

    def _nth(self, which: int) -> Question | None:
        return self.questions[which % len(self.questions)] if self.questions else None

    async def _same(self) -> None:
        """Compare every question with the oracle."""
        for question in self.questions:
            trace = question.record.trace_id.hex()
            query = ApprovalQuery(tenant=self.tenant(question.task), approval_id=question.id, trace=trace)
            rows = await self.store.interventions.approvals(query)
            asked = question.record.attributes["agent.approval.question"]
            [row] = [row for row in rows if row.question == asked]
            question.key = row.key
            got = row.decision if row.state is InterventionState.DECIDED else ""
            assert got == question.decision, (question, row)


async def with_memory(actions: Sequence[tuple[Any, ...]]) -> None:
    """Play on one store in memory."""
    ahead = timedelta()

    async def wait(seconds: float) -> None:
        nonlocal ahead
        ahead += timedelta(seconds=seconds)

    store = MemoryStore(clock=lambda: datetime.now(UTC) + ahead)
    play = Play([store], wait)
    await play.play(actions)
    await used(play)


async def used(play: Play) -> None:
    """Each standing approval is listed with its uses, each of which is an act of its owner."""
    listed = await play.store.interventions.standing_approvals(StandingQuery(is_in_force=False, limit=10_000))
    mine = [one for one in listed if one.tenant.endswith(play.run)]
    assert {one.id for one in mine} == {grant.id for grant in play.grants}
    by_rule = 0
    for task in range(len(TASKS)):
        rows = await play.store.interventions.approvals(ApprovalQuery(tenant=play.tenant(task), limit=1_000))
        by_rule += sum(row.source == "rule" and row.trace == f"{task + 1:032x}" for row in rows)
    assert sum(one.used for one in mine) == by_rule


@pytest.mark.slow
@thorough(200)
@given(st.lists(ACTIONS, max_size=25))
def test_no_wrong_grant_in_memory(actions: list[tuple[Any, ...]]) -> None:
    """The store in memory decides what people allowed, and nothing else."""
    asyncio.run(with_memory(actions))


@pytest.mark.proves("by-the-rules")
@pytest.mark.acceptance
def test_no_wrong_grant_on_postgres(postgres_dsn: str) -> None:
    """Two gateways on one database decide what people allowed, and nothing else."""

    with asyncio.Runner() as runner:
        stores = [PostgresStore(postgres_dsn, pool_size=1) for _ in range(2)]
        for store in stores:
            runner.run(store.open())

        async def wait(seconds: float) -> None:
            async with stores[0]._pool.acquire() as connection:
                statement = "UPDATE standing_approvals SET expires_at = expires_at - $1::interval"
                await connection.execute(statement, timedelta(seconds=seconds))

        async def with_postgres(actions: Sequence[tuple[Any, ...]]) -> None:
            play = Play(stores, wait)
            await play.play(actions)
            await used(play)

        @settings(thorough(60), suppress_health_check=list(HealthCheck))
        @given(st.lists(ACTIONS, min_size=8, max_size=25))
        def tried(actions: list[tuple[Any, ...]]) -> None:
            runner.run(with_postgres(actions))

        tried()
        for store in stores:
            runner.run(store.close())
