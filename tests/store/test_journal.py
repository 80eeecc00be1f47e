"""The journal of the Postgres store: durable before it is recorded, recorded once, and no secret in it."""

from __future__ import annotations

import asyncio
import random
import re
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from spanpost.metrics import Metrics
from spanpost.model.checkpoints import TOLD
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.journal import Entry
from spanpost.model.observations import Observation
from spanpost.model.recorded import OVER_BUDGET, UNFOLDABLE, Recorded
from spanpost.readers.redaction import Redaction
from spanpost.store.journal_rows import pack, unpack
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.store.protocols import TaskQuery
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_store import TELLING
from spanpost.testing.observed import a_run, ended
from tests.faults.stream import tangled
from tests.tasks.hostile_traces import SHAPES
from tests.tasks.recorded_runs import COMMITTED, observations, runs

POISON = SHAPES["circle, as many agents"](1500)
REDACTION = Redaction(key=b"k" * 32)


def entry(observations: Sequence[Observation]) -> Entry:
    return Entry(tenant=observations[0].tenant, observations=observations)


async def drained(store: PostgresStore, most: int = 2048) -> Recorded:
    """Record all that waits, tenant by tenant."""
    total = Recorded()
    while backlog := await store.journal_depth():
        for tenant in backlog:
            while (recorded := await store.record_journal(tenant.tenant, most)) is not None:
                total = total.plus(recorded)
    return total


async def figures(store: Any) -> tuple[list[Any], set[Any]]:
    """Return what the tasks came to, and the ids of what was told."""
    tasks = await store.tasks(TaskQuery(limit=10_000))
    told = await store.checkpoints(limit=10_000)
    came_to = sorted(
        (t.tenant, t.task_id, t.uid, t.agent_name, t.status, t.input_tokens, t.output_tokens, t.llm_calls)
        for t in tasks
    )
    return came_to, {c.id for c in told if c.kind in TOLD}


def test_what_is_unpacked_is_what_was_packed() -> None:
    """Of every recording, what a row gives back is equal to what was read and redacted, keys and origins included."""
    for run in runs(COMMITTED):
        placed = batches.prepare(observations(COMMITTED / run), redaction=REDACTION)
        assert unpack(pack(placed)) == placed, run


@pytest.mark.acceptance
class TestStore:
    """With a real server."""

    async def test_what_came_through_the_journal_is_what_was_recorded_directly(
        self, store: PostgresStore, database: Any
    ) -> None:
        """Tangled runs, in shuffled pieces, half through the journal and half directly: the tables are those of one store."""
        whole = tangled(12, 1_700_000_000 * 10**9)
        pieces = [whole[i : i + 17] for i in range(0, len(whole), 17)]
        random.Random(1).shuffle(pieces)
        for n, piece in enumerate(pieces):
            if n % 2:
                await store.append([entry(piece)])
            else:
                await store.record(piece)
        assert sum(each.observations for each in await store.journal_depth()) > 0
        await drained(store)
        memory = MemoryStore(TELLING, keep=None)
        await memory.record(sorted(whole, key=lambda o: o.at_ns))
        assert await figures(store) == await figures(memory)
        assert await database.fetchval("SELECT count(*) FROM agent_events") == len(whole)
        assert await database.fetchval("SELECT count(*) FROM journal") == 0

    async def test_what_is_told_twice_is_once(self, store: PostgresStore) -> None:
        """The same request in the journal twice and directly once is recorded once; the others are repeats."""
        run = a_run("idempotency_key")
        await store.append([entry(run)])
        await store.append([entry(run)])
        assert (await store.record(run)).events == len(run)
        recorded = await drained(store)
        assert (recorded.events, recorded.deliveries) == (0, 0)
        assert (await store.counts())["agent_events"] == len(run)

    async def test_no_secret_and_no_content_waits_in_the_journal(self, postgres_dsn: str, database: Any) -> None:
        """Neither an API key nor a prompt is in a row of the journal; the audit row is as one that was recorded directly."""
        key, prompt = "sk-proj-" + "a1B2c3D4" * 6, "tell me about the merger"
        said = {"gen_ai.operation.name": "chat", "gen_ai.prompt": prompt, "agent.note": f"the key is {key}"}
        store = PostgresStore(postgres_dsn, rules=FoldRules(redaction=Redaction(key=b"k" * 32)))
        await store.open()
        appended = await store.append([entry([ended(trace=1, span=1, name="chat", attributes=said)])])
        assert sum(appended.recorded.redacted.values()) == 1
        body = zlib.decompress(await database.fetchval("SELECT body FROM journal"))
        assert b"agent.note" in body
        assert key.encode() not in body
        assert prompt.encode() not in body
        await drained(store)
        await store.record([ended(trace=2, span=1, name="chat", attributes=said)])
        rows = await database.fetch("SELECT attributes FROM agent_events")
        assert len(rows) == 2
        assert rows[0] == rows[1]
        await store.close()

    async def test_a_row_that_cannot_be_deleted_is_not_recorded(self, store: PostgresStore, database: Any) -> None:
        """Recording and deleting are one transaction: where the server refuses the one, nothing of the other is there."""
        await store.append([entry(a_run("a"))])
        await database.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '57P03'; END $$;"
            "CREATE TRIGGER no BEFORE DELETE ON journal FOR EACH ROW EXECUTE FUNCTION no()"
        )
        with pytest.raises(StoreUnavailable):
            await store.record_journal("default", 2048)
        counts = await store.counts()
        assert (counts["agent_events"], counts["agent_tasks"], counts["deliveries"]) == (0, 0, {})
        await database.execute("DROP TRIGGER no ON journal")
        assert (await drained(store)).events == len(a_run("a"))

    async def test_two_readers_take_different_rows(
        self, store: PostgresStore, postgres_dsn: str, database: Any
    ) -> None:
        """What one reader holds the other passes by; together they record all, once."""
        other = PostgresStore(postgres_dsn, rules=TELLING)
        await other.open()
        many = [a_run(f"run {n}", trace=n) for n in range(1, 41)]
        for run in many:
            await store.append([entry(run)])
        found = await asyncio.gather(*(drained(each, most=8) for each in (store, other, store, other)))
        assert sum(each.events for each in found) == sum(map(len, many))
        assert sum(len(each.started) for each in found) == len(many)
        assert await database.fetchval("SELECT count(*) FROM agent_events") == sum(map(len, many))
        await other.close()

    async def test_a_trace_that_others_record_is_waited_for(self, store: PostgresStore, database: Any) -> None:
        """Rows with locked traces are passed by while others are free, and recorded when the lock is given back."""
        await store.append([entry(a_run("locked", trace=1))])
        await store.append([entry(a_run("free", trace=2))])
        transaction = database.transaction()
        await transaction.start()
        from spanpost.store.locks import lock

        await lock(database, batches.domains(batches.prepare(a_run("locked", trace=1))))
        assert (await store.record_journal("default", 2048)) is not None
        assert [task.name for task in await store.tasks(TaskQuery())] == ["free"]
        waiting = asyncio.create_task(store.record_journal("default", 2048))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await transaction.rollback()
        assert (await waiting).events == len(a_run("x"))  # type: ignore[union-attr]

    async def test_a_damaged_row_is_set_aside(self, store: PostgresStore, database: Any) -> None:
        """A body that nobody can unpack goes to quarantine with its bytes, and its neighbours are recorded in the same go."""
        await database.execute(
            "INSERT INTO journal (tenant, observations, domains, body) VALUES ('default', 7, 1, 'nonsense')"
        )
        await store.append([entry(a_run("a"))])
        recorded = await store.record_journal("default", 2048)
        assert recorded is not None
        assert (recorded.events, recorded.lost) == (len(a_run("a")), {UNFOLDABLE: 7})
        assert tuple(await database.fetchrow("SELECT source, bytes FROM quarantine")) == ("journal", b"nonsense")
        assert not await store.journal_depth()

    async def test_a_value_that_the_server_refuses_holds_up_nobody(self, store: PostgresStore, database: Any) -> None:
        """One observation that a constraint refuses goes to quarantine; all others, of its request too, are recorded."""
        refused = "role = 2 AND trace_id = decode(repeat('00', 15) || '02', 'hex')"
        await database.execute(f"ALTER TABLE audit_rows ADD CONSTRAINT no CHECK (NOT ({refused}))")
        for trace in (1, 2, 3):
            await store.append([entry(a_run(f"run {trace}", trace=trace))])
        recorded = await drained(store)
        assert (recorded.events, recorded.lost) == (3 * len(a_run("a")) - 1, {UNFOLDABLE: 1})
        assert await database.fetchval("SELECT count(*) FROM quarantine") == 1

    async def test_a_trace_that_takes_too_long_is_set_aside(self, postgres_dsn: str, database: Any) -> None:
        """It is `OverBudget` at first; alone, the long trace goes to quarantine and its neighbours are recorded."""
        store = PostgresStore(postgres_dsn, rules=TELLING, batch_budget=0.05, trace_budget=0.1)
        await store.open()
        run = [msgspec.structs.replace(o, tenant="default") for o in a_run("honest", trace=9)]
        writer = PostgresStore(postgres_dsn, rules=TELLING)
        await writer.open()
        await writer.append([entry([*POISON, *run])])
        with pytest.raises(OverBudget):
            await drained(store)
        lost = 0
        while (recorded := await store.record_journal_alone("default")) is not None:
            lost += recorded.lost.get(OVER_BUDGET, 0)
        assert lost == len(POISON) == await database.fetchval("SELECT count(*) FROM quarantine")
        assert [task.name for task in await store.tasks(TaskQuery())] == ["honest"]
        assert not await store.journal_depth()
        await store.close()
        await writer.close()

    async def test_what_cannot_be_packed_is_refused(self, store: PostgresStore) -> None:
        """A value that no row can hold is refused, and all other entries are durable."""
        odd = ended(trace=5, span=1, name="x", attributes={"gen_ai.operation.name": "chat", "y": 2**70})
        broken = msgspec.structs.replace(a_run("x")[0], trace_id=None)
        appended = await store.append([entry(a_run("a")), entry([odd]), entry([broken]), entry(a_run("b", trace=2))])
        assert appended.refused == {1, 2}
        assert (await drained(store)).events == 2 * len(a_run("a"))

    async def test_a_request_of_very_many_traces_is_several_rows(self, store: PostgresStore) -> None:
        """A row holds whole traces, and so few that they are recorded under locks of their own."""
        many = [o for n in range(1, 301) for o in a_run(f"run {n}", trace=n)]
        await store.append([entry(many)])
        [backlog] = await store.journal_depth()
        assert backlog.rows > 1
        assert (await drained(store)).events == len(many)
        assert len(await store.tasks(TaskQuery(limit=1000))) == 300

    async def test_the_gauges_say_how_late_the_journal_is(self, store: PostgresStore, database: Any) -> None:
        """Bytes and the age of the oldest row are shown by tenant, and 0 when nothing waits."""
        metrics = Metrics()
        metrics.fleet(await store.fleet())
        assert 'spanpost_journal_bytes{tenant=""} 0.0' in metrics.page()[1].decode()
        await store.append([entry(a_run("a", tenant="late"))])
        await database.execute("UPDATE journal SET received_at = received_at - interval '200 s'")
        metrics.fleet(await store.fleet())
        page = metrics.page()[1].decode()
        [lag] = re.findall(r'spanpost_journal_lag_seconds{tenant="late"} (\S+)', page)
        [size] = re.findall(r'spanpost_journal_bytes{tenant="late"} (\S+)', page)
        assert 200 <= float(lag) < 300
        assert float(size) > 100
