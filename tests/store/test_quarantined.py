"""What was set aside is listed, recorded when it can be, and discarded."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from spanpost.model.observations import Observation
from spanpost.model.quarantine import QuarantineFilter
from spanpost.store.postgres import PostgresStore
from spanpost.store.quarantine import discarded, unpacked
from spanpost.testing.exercise_redaction import by_tenant
from spanpost.testing.observed import ended
from spanpost.text.rules import RedactionAction, RedactionRule
from tests.tasks.hostile_traces import SHAPES

pytestmark = pytest.mark.acceptance

POISON = SHAPES["circle, as many agents"](1500)
ALL = QuarantineFilter()


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_dsn)
    await store.open()
    yield store
    await store.close()


def span(number: int, tenant: str = "default") -> Observation:
    return ended(trace=number, span=1, name=f"s{number}", attributes={"gen_ai.agent.name": "a"}, tenant=tenant)


async def names(store: PostgresStore) -> list[str]:
    rows = await store.run(lambda c: c.fetch("SELECT name FROM agent_events ORDER BY 1"))
    return [row[0] for row in rows]


async def test_a_trace_is_recorded_once_it_gets_the_time(store: PostgresStore) -> None:
    """A trace over its time is set aside, stays so at a retry with the same time, and is recorded with more."""
    await store.record([span(1)])  # modules are loaded now
    store.batch_budget = store.trace_budget = 0.05
    await store.record(POISON)
    kept = await store.quarantined.list(QuarantineFilter(reason="over_budget"), 10_000)
    assert (len(kept), {row.attempts for row in kept}, {row.source for row in kept}) == (len(POISON), {1}, {"record"})
    again = await store.quarantined.retry(QuarantineFilter(ids=tuple(row.id for row in kept)))
    assert (again.recorded, again.kept) == (0, len(POISON))
    assert {row.attempts for row in await store.quarantined.list(ALL, 10_000)} == {2}
    store.batch_budget = store.trace_budget = 60.0
    done = await store.quarantined.retry(QuarantineFilter(reason="over_budget"))
    assert (done.recorded, done.kept, done.skipped) == (len(POISON), 0, 0)
    assert await store.quarantined.list(ALL, 10) == []
    assert len(await names(store)) == len(POISON) + 1


async def test_rows_are_chosen_by_all_that_is_given(store: PostgresStore) -> None:
    """A tenant, a reason and ids choose together; bodies are skipped by a retry, and discarded like the rest."""
    await store.quarantine([span(1), span(2, "acme")], ValueError("x"))
    await store.quarantine([span(3, "acme")], RuntimeError("y"))
    await store.keep_body("acme", "otlp traces", "no protobuf", b"\xff")
    acme = QuarantineFilter(tenant="acme")
    done = await store.quarantined.retry(acme)
    assert (done.recorded, done.skipped, await names(store)) == (2, 1, ["s2", "s3"])
    [body] = await store.quarantined.list(acme, 10)
    assert (body.source, body.size, body.reason) == ("otlp traces", 1, "undecodable")
    assert await store.quarantined.discard(QuarantineFilter(ids=(body.id,), reason="ValueError")) == 0
    assert await store.quarantined.discard(QuarantineFilter(ids=(body.id,))) == 1
    assert [row.tenant for row in await store.quarantined.list(ALL, 10)] == ["default"]


async def test_an_error_is_kept_without_what_its_tenant_hides(store: PostgresStore) -> None:
    """An error that quotes a value passes the rules of the tenant, as the observation and an unreadable body do."""
    rule = RedactionRule(action=RedactionAction.REDACT, pattern="PROJ-[0-9]{4}")
    store.rules = by_tenant(acme=[rule])
    for tenant in ("acme", "default"):
        await store.quarantine([span(1, tenant)], ValueError("invalid value: 'PROJ-4711'"))
        await store.keep_body(tenant, "otlp traces", "no JSON at PROJ-4711", b"\x0a\xff PROJ-4711")
    kept = await store.run(lambda c: c.fetch("SELECT tenant, error, bytes FROM quarantine"))
    hidden = {tenant: ["PROJ" in repr((error, body)) for whose, error, body in kept if whose == tenant]
              for tenant in ("acme", "default")}  # fmt: skip
    assert hidden == {"acme": [False, False], "default": [True, True]}


@pytest.mark.proves("content")
@pytest.mark.parametrize("keeps", [False, True])
async def test_content_is_kept_aside_only_where_it_is_recorded(store: PostgresStore, keeps: bool) -> None:
    """What cannot be recorded stands in quarantine without prompts, unless content is recorded, too."""
    store.rules = msgspec.structs.replace(store.rules, keeps_content=keeps)
    await store.quarantine(
        [ended(trace=1, span=1, name="chat", attributes={"gen_ai.prompt": "the launch codes"})], ValueError("x")
    )
    [kept] = await store.run(lambda c: c.fetch("SELECT bytes FROM quarantine"))
    assert (b"launch codes" in bytes(kept["bytes"])) is keeps


@pytest.mark.proves("quarantine", "same-ids")
async def test_what_was_recorded_meanwhile_is_not_recorded_twice(store: PostgresStore) -> None:
    """The sender has sent it again since: the retry finds a duplicate, and the row goes."""
    await store.quarantine([span(1)], ValueError("x"))
    await store.record([span(1)])
    done = await store.quarantined.retry(ALL)
    assert (done.recorded, await names(store)) == (1, ["s1"])


def unchanged(_tenant: str, text: str) -> str:
    return text


def test_a_row_holds_the_whole_observation() -> None:
    """A log record's index of 128 bits comes back; a value that MessagePack cannot hold makes the row a text."""
    o = msgspec.structs.replace(span(1), index=2**128 - 1, links=((b"t" * 16, b"s" * 8),), body={"a": [1, None]})
    assert unpacked(next(discarded([o], ValueError("x"), unchanged))[-1]) == o
    large = msgspec.structs.replace(o, attributes={"n": 2**80})
    assert unpacked(next(discarded([large], ValueError("x"), unchanged))[-1]) is None
