"""Tests of who did what, in every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from spanpost.model.acts import ActFilter, ActRow, ContentKind, ContentRead, Operation, ReadRow
from spanpost.model.interventions import Verb
from spanpost.model.queries import TaskQuery
from spanpost.model.standing_approvals import Scope
from spanpost.store.protocols import Store
from spanpost.testing.exercise_chains import RULES as CHAINED
from spanpost.testing.exercise_people import ALICE, BOB, an_act, asking, at_work, fold_timers, the_question
from spanpost.testing.exercise_standing import a_task
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import started

_NOON = datetime(2026, 3, 1, 12, 10, tzinfo=UTC)


async def acts_of(store: Store, **asked: Any) -> list[ActRow]:
    """Return acts, oldest first."""
    return (await store.acts.listed(ActFilter(is_oldest_first=True, **asked), None, 100)).items


def in_short(rows: list[ActRow]) -> list[tuple[str, str, str]]:
    """Return verb, result and identity of acts."""
    return [(row.verb, row.result, row.actor_id) for row in rows]


class ExerciseActs(Exercised):
    """Tests of the rows of acts in every store."""

    async def test_an_act_says_who_by_what_and_what_was_shown(self, make_store: MakeStore) -> None:
        """A row has the person, the credential, the client, the system's user, the question as it stood with its
        mark, and the outcome; a refused act has its reason; a repeat adds none.
        """
        store = await make_store()
        await store.record([at_work(), asking(detail="to production", risk="high")])
        row = await the_question(store)
        carol = msgspec.structs.replace(ALICE, credential="token ci", client="mcp")
        refused = an_act(Verb.APPROVE, row.key, actor=BOB, refusal="only the release group may")
        granted = an_act(Verb.APPROVE, row.key, actor=carol, text="go on", source="api")
        for act in (refused, granted, granted):
            await store.interventions.intervene(act)
        first, second = await acts_of(store)
        assert in_short([first, second]) == [("approve", "refused", "slack:T1:U2"), ("approve", "done", "slack:T1:U1")]
        assert first.refusal == "only the release group may"
        shown = second.question, second.detail, second.risk, second.mark, second.approval_id, second.task_name
        assert shown == ("Deploy?", "to production", "high", row.mark, "a1", "deploy")
        said = second.credential, second.client, second.source, second.comment, second.decision, second.actor_email
        assert said == ("token ci", "mcp", "api", "go on", "approve", "alice@example.com")
        assert "@" in second.os_user

    async def test_a_task_has_the_acts_of_its_family(self, make_store: MakeStore) -> None:
        """Acts on a task, on those above and below it, and tries of another tenant are its; those on others are not."""
        store = await make_store()
        below = started(
            trace=1, span=2, parent=1, name="agent", attributes={"agent.task.name": "below", "agent.name": "helper"}
        )
        await store.record([at_work("above", attributes={"agent.name": "boss"}), below, at_work("other", trace=2)])
        tasks = {task.name: task for task in await store.tasks(TaskQuery())}
        for name in ("above", "below", "other"):
            await store.interventions.intervene(an_act(Verb.PAUSE, tasks[name].uid))
        await store.interventions.intervene(an_act(Verb.CANCEL, tasks["below"].uid, tenant="acme"))
        for name in ("above", "below"):
            found = await acts_of(store, task_uid=tasks[name].uid)
            assert [(row.verb, row.task_name, row.tenant) for row in found] == [
                *(("pause", "above", "default"), ("pause", "below", "default"), ("cancel", "", "acme")),
            ]
        own = await acts_of(store, task_uid=tasks["below"].uid, tenant="default")
        assert [row.verb for row in own] == ["pause", "pause"]
        assert [row.task_name for row in await acts_of(store, task_uid=tasks["other"].uid)] == ["other"]

    async def test_programs_and_deadlines_are_in_it(self, make_store: MakeStore) -> None:
        """A chain's next place, an escalation, an expiry and a withdrawal are rows of spanpost itself; the use of a
        standing approval is one of its owner.
        """
        store = await make_store(CHAINED)
        late = (datetime.now(UTC) + timedelta(seconds=3_600)).isoformat()
        await store.record([a_task()])
        await store.record([asking(expires_at=late, at_expiry="escalate"), asking("q2", "Sing?", tool="Bash", index=1)])
        standing = await store.interventions.intervene(
            an_act(Verb.APPROVE, (await the_question(store, "q2")).key, scope=Scope.TASK)
        )
        await store.record([asking("q3", "Dance?", tool="Bash", index=2, at=3.0), asking("q4", "Rest?", index=3)])
        await store.interventions.withdraw((await the_question(store, "q4")).key, "answered elsewhere")
        for seconds in (601.0, 3_600.0, 100_000.0):
            await self.pass_time(store, seconds)
            await fold_timers(store)
        rows = await acts_of(store)
        assert standing.rule is not None
        assert [(row.verb, row.approval_id, row.source, row.comment) for row in rows] == [
            ("approve", "q2", "slack", ""),
            ("approve", "q3", "rule", ""),
            ("withdraw", "q4", "withdrawal", "answered elsewhere"),
            ("ask_next", "a1", "spanpost", "#leads"),
            ("escalate", "a1", "spanpost", ""),
            ("expire", "a1", "spanpost", ""),
        ]
        assert (rows[1].credential, rows[1].actor_id) == (f"standing approval {standing.rule}", "slack:T1:U1")
        assert {row.actor_id for row in rows[2:]} == {"spanpost"}

    async def test_the_end_of_a_standing_approval_is_an_act_on_its_task(self, make_store: MakeStore) -> None:
        """Granted, revoked and refused: the task in which it was granted has all three."""
        store = await make_store()
        await store.record([at_work(), asking("q1", tool="Bash")])
        granted = await store.interventions.intervene(
            an_act(Verb.APPROVE, (await the_question(store, "q1")).key, scope=Scope.TASK)
        )
        assert granted.rule is not None
        await store.interventions.intervene(an_act(Verb.REVOKE, granted.rule, actor=BOB, refusal="not its owner"))
        await store.interventions.intervene(an_act(Verb.REVOKE, granted.rule))
        found = await acts_of(store, task_uid=(await store.tasks(TaskQuery()))[0].uid)
        assert [(row.verb, row.result, row.rule) for row in found] == [
            ("approve", "done", granted.rule),
            ("revoke", "refused", granted.rule),
            ("revoke", "done", granted.rule),
        ]

    async def test_a_decision_on_the_same_words_counts_in_every_task(self, make_store: MakeStore) -> None:
        """Two tasks ask the same question under the same id: both show the one act that answered both."""
        store = await make_store()
        await store.record([at_work(), asking(), at_work("second", trace=2), asking(trace=2)])
        await store.interventions.intervene(an_act(Verb.DENY, (await the_question(store)).key))
        for task in await store.tasks(TaskQuery()):
            assert [row.verb for row in await acts_of(store, task_uid=task.uid)] == ["deny"]

    async def test_acts_are_found_by_person_source_verb_and_time(self, make_store: MakeStore) -> None:
        """A person is an identity, an email address or a name in any case; pages follow each other without gaps."""
        store = await make_store()
        await store.record([at_work()])
        [task] = await store.tasks(TaskQuery())
        await store.interventions.intervene(an_act(Verb.PAUSE, task.uid))
        await store.interventions.intervene(an_act(Verb.RESUME, task.uid, actor=BOB, source="api"))
        pruning = Operation("prune", "root@db", "older than 90 days", result="failed", refusal="no right")
        await store.acts.note_operation(pruning)
        for person in ("slack:T1:U1", "Alice@example.com", "ALICE"):
            assert [row.verb for row in await acts_of(store, person=person)] == ["pause"]
        assert [row.verb for row in await acts_of(store, source="api")] == ["resume"]
        assert [row.verb for row in await acts_of(store, verb="prune")] == ["prune"]
        assert await acts_of(store, until=datetime(2020, 1, 1, tzinfo=UTC)) == []
        [operation] = await acts_of(store, source="cli")
        assert (operation.actor, operation.actor_id, operation.tenant, operation.detail, operation.refusal) == (
            *("root@db", "cli:root@db", "", "older than 90 days", "no right"),
        )
        page = await store.acts.listed(ActFilter(), None, 2)
        rest = await store.acts.listed(ActFilter(), page.next, 2)
        assert [row.verb for row in (*page.items, *rest.items)] == ["prune", "resume", "pause"]
        assert rest.next is None

    async def test_reads_are_counted_by_person_task_and_hour(self, make_store: MakeStore) -> None:
        """Reads of one hour are one row with their number; another person, task, kind or hour is another row."""
        store = await make_store()
        await store.record([at_work()])
        [task] = await store.tasks(TaskQuery())
        one = ContentRead(
            tenant="default",
            task_uid=task.uid,
            content=ContentKind.RECORDED,
            actor="alice",
            actor_id="oidc:1",
            at=_NOON,
        )
        later = msgspec.structs.replace(one, at=_NOON + timedelta(minutes=20))
        others = [
            msgspec.structs.replace(one, actor_id="oidc:2", actor="bob"),
            msgspec.structs.replace(one, at=_NOON + timedelta(hours=2)),
            msgspec.structs.replace(one, task_uid=uuid4(), tenant="acme"),
        ]
        await store.acts.count_reads([later, one, *others])
        await store.acts.count_reads([one])
        rows = await store.acts.reads(ActFilter(task_uid=task.uid), 10)
        assert sorted(map(_read, rows)) == [
            ("alice", 12, 3, "deploy"),
            ("alice", 14, 1, "deploy"),
            ("bob", 12, 1, "deploy"),
        ]
        assert rows[0].hour.hour == 14
        assert [_read(row) for row in await store.acts.reads(ActFilter(tenant="acme"), 10)] == [("alice", 12, 1, "")]
        [row] = await store.acts.reads(
            ActFilter(person="Alice", until=_NOON + timedelta(hours=1), tenant="default"), 10
        )
        assert (row.first_at, row.last_at) == (_NOON, _NOON + timedelta(minutes=20))
        assert await store.acts.reads(ActFilter(source="api"), 10) == []


def _read(row: ReadRow) -> tuple[str, int, int, str]:
    return row.actor, row.hour.hour, row.reads, row.task_name
