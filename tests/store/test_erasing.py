"""Erasure: what goes, what stays, and that nothing comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Result, Verb
from spanpost.model.queries import TaskQuery
from spanpost.model.standing_approvals import Scope
from spanpost.store.connections import Transacting
from spanpost.store.erasing.run import erase, survey
from spanpost.store.erasing.selection import Selection
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.observed import an_event
from tests.store.archiving.aged import back
from tests.store.erasing_history import ALICE, BOB, NEEDLES, a_task, act, deliver, erased, found

pytestmark = pytest.mark.acceptance


@pytest.mark.proves("erased")
async def test_a_person_is_gone_from_every_table(store: PostgresStore, database: Any) -> None:
    """Tasks of the person go whole; acts on others' tasks stay, without the person."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    await store.record(a_task(2, attributes={"user.id": "slack:T1:U0ALICE99"}))
    await store.record(a_task(3, requested_by="bob@wonder.example"))
    await act(store, ALICE)
    await deliver(store)
    assert await found(database) != []
    dry = await survey(Transacting(database), Selection(person=("alice@wonder.example",)))
    assert dry.found is not None
    assert dry.found.names == ("Alice Liddell", "alice@wonder.example")
    report = await erased(database, person=("alice@wonder.example",))
    assert await found(database) == []
    assert report.state == "done"
    assert {task.name for task in await store.tasks(TaskQuery())} == {"work 3", "deployment 900"}
    acts = await database.fetch("SELECT actor, verb, result FROM human_interventions WHERE verb = 'approve'")
    assert [(row["actor"][:7], row["verb"], row["result"]) for row in acts] == [("erased-", "approve", "done")]


async def test_a_dry_run_changes_nothing(store: PostgresStore, database: Any) -> None:
    """A dry run counts what goes and leaves every place as it was."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    await act(store, ALICE)
    before = sorted(await found(database))
    dry = await survey(Transacting(database), Selection(person=("alice@wonder.example",)))
    assert dry.places["agent_tasks"] >= 1
    assert sorted(await found(database)) == before


@pytest.mark.proves("erased")
async def test_what_is_sent_again_is_refused(store: PostgresStore, database: Any) -> None:
    """A sender that repeats spans of an erased task brings nothing back; other traces are recorded."""
    await store.record(a_task(1))
    await erased(database, task="task-default-1")
    again = await store.record(a_task(1))
    assert again.dropped == {"erased": 4}
    assert await store.tasks(TaskQuery()) == []
    assert await database.fetchval("SELECT count(*) FROM audit_rows") == 0
    assert (await store.record(a_task(2))).dropped == {}


async def test_a_tenant_goes_and_the_other_stays(store: PostgresStore, database: Any) -> None:
    """Of an erased tenant no row is left; the same traces of another tenant stay."""
    for tenant in ("acme", "other"):
        await store.record(a_task(1, tenant=tenant))
    await deliver(store)
    await erased(database, tenant="acme")
    assert [task.tenant for task in await store.tasks(TaskQuery())] == ["other"]
    left = [place for place in await found(database, ["acme"]) if not place.startswith("erasures.")]
    assert left == []


async def test_the_erasure_itself_names_nobody(store: PostgresStore, database: Any) -> None:
    """The row that stays says who erased and why, and holds neither the person nor the task."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    await erased(database, person=("alice@wonder.example",), task="task-default-1")
    [row] = await database.fetch("SELECT * FROM erasures")
    assert (row["actor"], row["reason"], row["state"], row["working"]) == ("root@tests", "ticket 18", "done", None)
    assert await found(database, [*NEEDLES, "task-default-1"]) == []


async def test_names_of_others_stay(store: PostgresStore, database: Any) -> None:
    """Another person's acts and tasks are as they were."""
    await store.record(a_task(1, requested_by="bob@wonder.example"))
    await act(store, BOB, 901)
    await act(store, ALICE, 902)
    before = await found(database, ["bob dodgson", "bob@wonder.example", "u0bob4711"])
    await erased(database, person=("alice@wonder.example",))
    after = await found(database, ["bob dodgson", "bob@wonder.example", "u0bob4711"])
    assert len(after) == len(before)


async def test_a_time_range_and_a_tenant_narrow_each_other(store: PostgresStore, database: Any) -> None:
    """Of one tenant the tasks of a time go; those before it, and the other tenant's, stay."""
    early = datetime.now(UTC) - timedelta(days=2)
    for tenant in ("acme", "other"):
        await store.record(back(a_task(1, tenant=tenant), timedelta(days=2)))
        await store.record(a_task(2, tenant=tenant))
    await erased(database, tenant="acme", since=early + timedelta(days=1))
    left = {task.task_id for task in await store.tasks(TaskQuery())}
    assert left == {"task-acme-1", "task-other-1", "task-other-2"}


async def test_further_texts_go_where_they_are_asked_for(store: PostgresStore, database: Any) -> None:
    """A text of --also is replaced in tasks that stay, in rows, state and documents alike."""
    said = {"agent.checkpoint.text": "the customer is K-4711, says the White Rabbit"}
    await store.record([*a_task(1), an_event(trace=1, span=1, name="agent.checkpoint", attributes=said, index=5)])
    assert await found(database, ["white rabbit", "k-4711"]) != []
    await erased(database, also=("White Rabbit", "K-4711"))
    assert await found(database, ["white rabbit", "k-4711"]) == []
    assert [task.name for task in await store.tasks(TaskQuery())] == ["work 1"]


async def test_a_name_of_several_people_is_refused(store: PostgresStore, database: Any) -> None:
    """Two people of one name differ by their ids; the erasure of one leaves the other's acts."""
    twin = msgspec.structs.replace(ALICE, id="U0TWIN4711", email="twin@wonder.example")
    await act(store, ALICE, 901)
    await act(store, twin, 902)
    with pytest.raises(ConfigError, match="several people have that name"):
        await erased(database, person=("Alice Liddell",))
    await erased(database, person=("slack:T1:U0ALICE99",))
    assert await found(database, ["u0alice99", "alice@wonder.example"]) == []
    acts = await database.fetch("SELECT actor, actor_email FROM human_interventions WHERE actor_id LIKE '%TWIN%'")
    assert {tuple(row) for row in acts} == {("Alice Liddell", "twin@wonder.example")}


async def test_a_reason_that_names_the_person_is_refused(store: PostgresStore, database: Any) -> None:
    """The reason stays for ever, so it must not hold what is erased; nothing is begun."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    connection = Transacting(database)
    asked = Selection(person=("alice@wonder.example",))
    with pytest.raises(ConfigError, match="--reason names what is erased"):
        await erase(connection, asked, actor="root", reason="asked by alice@wonder.example", key=b"0" * 32)
    assert await database.fetchval("SELECT count(*) FROM erasures") == 0


async def test_an_approval_that_stands_ends_with_its_owner(store: PostgresStore, database: Any) -> None:
    """What an erased person allowed for the future allows nothing any more."""
    await store.record([at_work(attributes={"agent.name": "coder"}), asking(tool="bash")])
    row = await the_question(store)
    grant = an_act(Verb.APPROVE, row.key, actor=ALICE, scope=Scope.ALWAYS)
    assert (await store.interventions.intervene(grant)).result is Result.DONE
    await erased(database, person=("alice@wonder.example",))
    assert await found(database) == []
    assert await database.fetchval("SELECT count(*) FROM standing_approvals WHERE revoked_at IS NULL") == 0
