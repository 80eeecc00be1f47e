"""Acts of people in PostgreSQL: rows, faults, poolers, and notifications."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from spanpost.model.interventions import Result, Verb
from spanpost.model.queries import TaskQuery
from spanpost.store.postgres import PostgresStore
from spanpost.tasks import batches
from spanpost.tasks.approvals import APPROVAL, topic_of
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import ROUTED_RULES

pytestmark = pytest.mark.acceptance

_ACTS = (
    "SELECT action, verb, result, refusal, actor_id, decision, via FROM human_interventions "
    "WHERE idempotency_key IS NOT NULL ORDER BY number"
)


@pytest.mark.proves("by-the-rules", "replay")
async def test_every_click_is_one_row(store: PostgresStore, database: Any) -> None:
    """Granted, late, refused and unknown acts are a row each, with person, act and reason; repeats add none."""
    await store.record([at_work(), asking()])
    row = await the_question(store)
    acts = [
        an_act(Verb.APPROVE, row.key, refusal="only the release group may"),
        an_act(Verb.APPROVE, row.key),
        an_act(Verb.DENY, row.key),
        an_act(Verb.CANCEL, uuid4()),
    ]
    for act in [*acts, *acts]:
        await store.interventions.intervene(act)
    assert [tuple(r) for r in await database.fetch(_ACTS)] == [
        ("approve", "approve", "refused", "only the release group may", "slack:T1:U1", "approve", "slack"),
        ("resolved", "approve", "done", "", "slack:T1:U1", "approve", "slack"),
        ("deny", "deny", "decided", "", "slack:T1:U1", "deny", "slack"),
        ("cancel", "cancel", "unknown", "", "slack:T1:U1", "", "slack"),
    ]
    assert await database.fetchval("SELECT count(*) FROM human_interventions") == len(acts)
    parts = await database.fetch("SELECT name, attributes->>'agent.approval.decision' FROM agent_events WHERE part = 5")
    assert [tuple(p) for p in parts] == [("agent.approval.resolved", "approve")]


@pytest.mark.proves("stored-first", "modal")
async def test_hostile_words_of_a_person_are_kept(store: PostgresStore) -> None:
    """NUL and lone surrogates in a name, comment or id are repaired, and the decision stands."""
    await store.record([at_work(), asking()])
    row = await the_question(store)
    act = an_act(Verb.APPROVE, row.key, text="a\0b\ud800" + "x" * 20_000, idempotency_key="o\0\ud800")
    act = msgspec.structs.replace(act, actor=msgspec.structs.replace(act.actor, name="al\0ice", email="\ud800"))
    assert (await store.interventions.intervene(act)).result is Result.DONE
    assert (await store.interventions.intervene(act)).is_repeat
    [task] = await store.tasks(TaskQuery())
    assert [a.decision for a in task.approvals] == ["approve"]


async def test_a_decision_stands_though_the_fold_fails(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault while a task is updated does not undo the decision: the agent gets it and the log has it."""
    await store.record([at_work(), asking()])
    row = await the_question(store)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(batches, "fold", broken)
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).result is Result.DONE
    assert (await the_question(store)).decision == "approve"
    assert "its task does not show it" in caplog.text


async def test_behind_a_pooler_decisions_are_looked_for(store: PostgresStore, postgres_dsn: str) -> None:
    """Behind a pooler without LISTEN a decision is found by polling."""
    other = PostgresStore(postgres_dsn, rules=ROUTED_RULES, statement_cache=0, pool_size=2)
    await other.open()
    try:
        await store.record([at_work(), asking()])
        received: asyncio.Queue[bytes] = asyncio.Queue()
        await other.interventions.listen(received.put_nowait)
        await store.interventions.intervene(an_act(Verb.APPROVE, (await the_question(store)).key))
        async with asyncio.timeout(60):
            while await received.get() != topic_of("default", APPROVAL, "a1"):
                pass
    finally:
        await other.close()


@pytest.mark.proves("stored-first", "connections-cut")
async def test_a_listener_goes_on_after_its_connection_was_cut(store: PostgresStore, database: Any) -> None:
    """A listener whose connection is cut listens again, and reports that something may have been missed."""
    await store.record([at_work(), asking()])
    received: asyncio.Queue[bytes] = asyncio.Queue()
    await store.interventions.listen(received.put_nowait)
    assert await received.get() == b""
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'"
    )
    async with asyncio.timeout(60):
        while await received.get() != b"":
            pass
        await store.interventions.intervene(an_act(Verb.APPROVE, (await the_question(store)).key))
        while await received.get() != topic_of("default", APPROVAL, "a1"):
            pass


async def test_the_row_of_an_expired_question_says_who_decided(store: PostgresStore, database: Any) -> None:
    """A deadline leaves a row by spanpost, with the decision `expired`."""
    await store.record([at_work(), asking(expires_at="2026-01-01T00:00:00Z", options=["blue"])])
    for _ in range(3):
        await store.elapse()
    found = await database.fetchrow(
        "SELECT decision, actor, via, options::text FROM human_interventions WHERE action = 'resolved'"
    )
    assert (found[0], found[1], found[2], json.loads(found[3])) == ("expired", "spanpost", "spanpost", ["blue"])
