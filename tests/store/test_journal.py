"""The journal of the Postgres store: durable before recording, and recorded once."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from spanpost.metrics.recorder import Metrics
from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.journal import JournalRow, Opened
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.recorded import OVER_BUDGET, UNFOLDABLE, Recorded
from spanpost.readers.redaction import Redaction
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run, ended
from tests.faults.stream import tangled
from tests.tasks.hostile_traces import SHAPES

POISON = SHAPES["circle, as many agents"](1500)
REDACTION = Redaction(key=b"k" * 32)


class Opener:
    """Opens rows whose bodies are numbers of batches."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys or (b"key",)
        self.contents: list[Opened] = []
        self.counted: list[Opened] = []

    def row(self, observations: Sequence[Observation], tenant: str = "default", **more: Any) -> JournalRow:
        """Return a row of a tenant with these observations."""
        self.contents.append(Opened(observations=observations, **more))
        number = len(self.contents) - 1
        return JournalRow(tenant=tenant, key=self.keys[0], observations=len(observations), body=b"%d" % number)

    def open(self, tenant: str, key: bytes, body: bytes) -> Opened:
        return self.contents[int(body)]

    def count(self, opened: Opened) -> None:
        self.counted.append(opened)


@pytest.fixture
def opener() -> Opener:
    return Opener()


async def drained(store: PostgresStore, opener: Opener, most: int = 2048) -> Recorded:
    """Record all waiting rows, tenant by tenant."""
    total = Recorded()
    while backlog := await store.journal_depth():
        for tenant in backlog:
            while (recorded := await store.record_journal(tenant.tenant, most, opener)) is not None:
                total = total.plus(recorded)
    return total


async def figures(store: Any) -> tuple[list[Any], set[Any]]:
    """Return the tasks' figures, and the ids of reported checkpoints."""
    tasks = await store.tasks(TaskQuery(limit=10_000))
    checkpoints = await store.reader.checkpoints(limit=10_000)
    came_to = sorted(
        (t.tenant, t.task_id, t.uid, t.agent_name, t.status, t.input_tokens, t.output_tokens, t.llm_calls)
        for t in tasks
    )
    return came_to, {c.id for c in checkpoints if c.kind in REPORTED_KINDS}


@pytest.mark.acceptance
class TestStore:
    """Tests with a real server."""

    async def test_what_came_through_the_journal_is_what_was_recorded_directly(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """Tangled runs, half through the journal and half directly, give the tables of one store."""
        whole = tangled(12, 1_700_000_000 * 10**9)
        pieces = [whole[i : i + 17] for i in range(0, len(whole), 17)]
        random.Random(1).shuffle(pieces)
        for n, piece in enumerate(pieces):
            if n % 2:
                await store.append([opener.row(piece)])
            else:
                await store.record(piece)
        assert sum(each.observations for each in await store.journal_depth()) > 0
        await drained(store, opener)
        memory = MemoryStore(ROUTED_RULES, keep=None)
        await memory.record(sorted(whole, key=lambda o: o.at_ns))
        assert await figures(store) == await figures(memory)
        assert await database.fetchval("SELECT count(*) FROM agent_events") == len(whole)
        assert await database.fetchval("SELECT count(*) FROM journal") == 0

    @pytest.mark.proves("journal", "same-ids")
    async def test_a_request_that_is_sent_twice_is_recorded_once(self, store: PostgresStore, opener: Opener) -> None:
        """A request twice in the journal and once directly is recorded once; the others are duplicates."""
        run = a_run("idempotency_key")
        await store.append([opener.row(run)])
        await store.append([opener.row(run)])
        assert (await store.record(run)).events == len(run)
        recorded = await drained(store, opener)
        assert (recorded.events, recorded.deliveries) == (0, 0)
        assert (await store.counts())["agent_events"] == len(run)

    @pytest.mark.proves("redacted")
    async def test_what_is_recorded_from_the_journal_holds_no_secret(
        self, postgres_dsn: str, database: Any, opener: Opener
    ) -> None:
        """Audit rows from the journal equal those of a direct batch: no key, no prompt."""
        key, prompt = "sk-proj-" + "a1B2c3D4" * 6, "tell me about the merger"
        said = {"gen_ai.operation.name": "chat", "gen_ai.prompt": prompt, "agent.note": f"the key is {key}"}
        store = PostgresStore(postgres_dsn, rules=FoldRules(redaction=Redaction(key=b"k" * 32)))
        await store.open()
        unreadable = [("otlp traces", f"bad {key}", key.encode())]
        batch = [ended(trace=1, span=1, name="chat", attributes=said)]
        await store.append([opener.row(batch, unreadable=unreadable)])
        assert sum((await drained(store, opener)).redacted.values()) == 3
        await store.record([ended(trace=2, span=1, name="chat", attributes=said)])
        rows = await database.fetch("SELECT attributes FROM agent_events")
        assert len(rows) == 2
        assert rows[0] == rows[1]
        assert key not in str(rows)
        assert prompt not in str(rows)
        assert key not in str(tuple(await database.fetchrow("SELECT error, bytes FROM quarantine")))
        await store.close()

    async def test_rows_of_another_key_are_left_to_others(self, store: PostgresStore, opener: Opener) -> None:
        """A gateway records the rows that it can decrypt, wherever they are in the queue; the others wait
        for theirs.
        """
        other = Opener(b"other")
        await store.append([other.row(a_run("other", trace=1)), opener.row(a_run("own", trace=2))])
        recorded = await store.record_journal("default", 2048, opener)
        assert recorded is not None
        assert recorded.events == len(a_run("own"))
        assert await store.record_journal("default", 2048, opener) is None
        assert (await drained(store, other)).events == len(a_run("other"))

    async def test_what_is_left_out_of_a_row_is_counted_once_it_is_recorded(
        self, store: PostgresStore, opener: Opener, database: Any
    ) -> None:
        """Dropped entries are counted after the commit; an unreadable entry is in quarantine."""
        await store.append([opener.row(a_run("a"), unreadable=[("otlp logs", "bad", b"x")], dropped={"bad_span": 2})])
        await drained(store, opener)
        assert [each.dropped for each in opener.counted] == [{"bad_span": 2}]
        assert tuple(await database.fetchrow("SELECT source, error, bytes FROM quarantine")) == (
            "otlp logs",
            "bad",
            b"x",
        )

    @pytest.mark.proves("journal")
    async def test_a_row_that_cannot_be_deleted_is_not_recorded(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """Recording and deleting a journal row are one transaction: if the delete fails nothing is recorded."""
        await store.append([opener.row(a_run("a"))])
        await database.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN RAISE 'no' USING ERRCODE = '57P03'; END $$;"
            "CREATE TRIGGER no BEFORE DELETE ON journal FOR EACH ROW EXECUTE FUNCTION no()"
        )
        with pytest.raises(StoreUnavailable):
            await store.record_journal("default", 2048, opener)
        counts = await store.counts()
        assert (counts["agent_events"], counts["agent_tasks"], counts["deliveries"]) == (0, 0, {})
        await database.execute("DROP TRIGGER no ON journal")
        assert (await drained(store, opener)).events == len(a_run("a"))

    async def test_two_readers_take_different_rows(
        self, store: PostgresStore, postgres_dsn: str, database: Any, opener: Opener
    ) -> None:
        """Each reader skips the rows that the other one holds; together they record all, once."""
        other = PostgresStore(postgres_dsn, rules=ROUTED_RULES)
        await other.open()
        many = [a_run(f"run {n}", trace=n) for n in range(1, 41)]
        for run in many:
            await store.append([opener.row(run)])
        found = await asyncio.gather(*(drained(each, opener, most=8) for each in (store, other, store, other)))
        assert sum(each.events for each in found) == sum(map(len, many))
        assert sum(len(each.started) for each in found) == len(many)
        assert await database.fetchval("SELECT count(*) FROM agent_events") == sum(map(len, many))
        await other.close()

    async def test_a_trace_that_others_record_is_waited_for(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """Rows with locked traces are skipped while others are free, and recorded after the lock ends."""
        await store.append([opener.row(a_run("locked", trace=1))])
        await store.append([opener.row(a_run("free", trace=2))])
        transaction = database.transaction()
        await transaction.start()
        from spanpost.store.locks import lock

        await lock(database, batches.domains(batches.prepare(a_run("locked", trace=1))))
        assert (await store.record_journal("default", 2048, opener)) is not None
        assert [task.name for task in await store.tasks(TaskQuery())] == ["free"]
        waiting = asyncio.create_task(store.record_journal("default", 2048, opener))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await transaction.rollback()
        assert (await waiting).events == len(a_run("x"))  # type: ignore[union-attr]

    @pytest.mark.proves("journal", "bit-flips")
    async def test_a_damaged_row_is_set_aside(self, store: PostgresStore, database: Any, opener: Opener) -> None:
        """A body that cannot be unpacked goes to quarantine with its bytes; its neighbours are recorded."""
        await database.execute(
            "INSERT INTO journal (tenant, key, observations, body) VALUES ('default', 'key', 7, 'nonsense')"
        )
        await store.append([opener.row(a_run("a"))])
        recorded = await store.record_journal("default", 2048, opener)
        assert recorded is not None
        assert (recorded.events, recorded.dropped) == (len(a_run("a")), {UNFOLDABLE: 7})
        assert tuple(await database.fetchrow("SELECT source, bytes FROM quarantine")) == ("journal", b"nonsense")
        assert not await store.journal_depth()

    async def test_a_row_that_is_too_much_for_the_memory_holds_up_its_tenant_for_a_while(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """A row that always ends in MemoryError is tried thirty times, then it is in quarantine with its bytes."""

        class Starving(Opener):
            def open(self, tenant: str, key: bytes, body: bytes) -> Opened:
                if body == b"0":
                    raise MemoryError
                return super().open(tenant, key, body)

        starving = Starving()
        await store.append([starving.row(a_run("a"), tenant="default")])
        await store.append([starving.row(a_run("b", trace=2))])
        with pytest.raises(MemoryError):
            await store.record_journal("default", 2048, starving)
        for _ in range(29):
            with pytest.raises(MemoryError):
                await store.record_journal_alone("default", starving)
        recorded = await store.record_journal_alone("default", starving)
        assert recorded is not None
        assert recorded.dropped == {UNFOLDABLE: len(a_run("a"))}
        assert (await drained(store, starving)).events == len(a_run("b"))
        [(source, body, error)] = await database.fetch("SELECT source, bytes, error FROM quarantine")
        assert (source, body, "not enough memory" in error) == ("journal", b"0", True)

    @pytest.mark.proves("journal")
    async def test_a_value_that_the_server_refuses_holds_up_nobody(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """One observation refused by a constraint goes to quarantine; all others are recorded."""
        refused = "role = 2 AND trace_id = decode(repeat('00', 15) || '02', 'hex')"
        await database.execute(f"ALTER TABLE audit_rows ADD CONSTRAINT no CHECK (NOT ({refused}))")
        for trace in (1, 2, 3):
            await store.append([opener.row(a_run(f"run {trace}", trace=trace))])
        recorded = await drained(store, opener)
        assert (recorded.events, recorded.dropped) == (3 * len(a_run("a")) - 1, {UNFOLDABLE: 1})
        assert await database.fetchval("SELECT count(*) FROM quarantine") == 1

    async def test_a_trace_that_takes_too_long_is_set_aside(
        self, postgres_dsn: str, database: Any, opener: Opener
    ) -> None:
        """After `OverBudget` the long trace alone goes to quarantine, and its neighbours are recorded."""
        store = PostgresStore(postgres_dsn, rules=ROUTED_RULES, batch_budget=0.05, trace_budget=0.1)
        await store.open()
        run = [msgspec.structs.replace(o, tenant="default") for o in a_run("honest", trace=9)]
        writer = PostgresStore(postgres_dsn, rules=ROUTED_RULES)
        await writer.open()
        await writer.append([opener.row([*POISON, *run])])
        with pytest.raises(OverBudget):
            await drained(store, opener)
        dropped = 0
        while (recorded := await store.record_journal_alone("default", opener)) is not None:
            dropped += recorded.dropped.get(OVER_BUDGET, 0)
        assert dropped == len(POISON) == await database.fetchval("SELECT count(*) FROM quarantine")
        assert [task.name for task in await store.tasks(TaskQuery())] == ["honest"]
        assert not await store.journal_depth()
        await store.close()
        await writer.close()

    async def test_a_row_of_very_many_traces_takes_several_transactions(
        self, store: PostgresStore, opener: Opener
    ) -> None:
        """A row with more traces than one transaction locks is recorded in several, then deleted."""
        many = [o for n in range(1, 301) for o in a_run(f"run {n}", trace=n)]
        await store.append([opener.row(many)])
        assert (await drained(store, opener)).events == len(many)
        assert len(await store.tasks(TaskQuery(limit=1000))) == 300

    @pytest.mark.proves("journal", "killed-at-each-step")
    async def test_a_row_whose_recording_is_cut_short_stays(
        self, store: PostgresStore, database: Any, opener: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A row of several transactions is still there when one of them fails, and is recorded once at the next try."""
        many = [o for n in range(1, 301) for o in a_run(f"run {n}", trace=n)]
        await store.append([opener.row(many)])
        apart = store.record_apart

        async def cut_short(batch: Sequence[Observation]) -> Recorded:
            await apart(batch[: len(batch) // 2])
            raise StoreUnavailable("the connection was lost")

        monkeypatch.setattr(store, "record_apart", cut_short)
        with pytest.raises(StoreUnavailable):
            await drained(store, opener)
        monkeypatch.setattr(store, "record_apart", apart)
        await drained(store, opener)
        assert len(await store.tasks(TaskQuery(limit=1000))) == 300
        assert await database.fetchval("SELECT count(*) FROM agent_events") == len(many)
        assert not await store.journal_depth()

    @pytest.mark.parametrize("is_inflated", [False, True])
    async def test_one_transaction_records_some_megabytes(
        self, store: PostgresStore, opener: Opener, is_inflated: bool
    ) -> None:
        """Large rows, and small rows that inflate, are recorded a few at a time: each transaction fits into memory."""
        rows = [opener.row(a_run(f"run {n}", trace=n), size=2**20 if is_inflated else 0) for n in range(1, 13)]
        bodies = [row.body if is_inflated else row.body.ljust(2**20) for row in rows]
        await store.append([msgspec.structs.replace(r, body=b) for r, b in zip(rows, bodies, strict=True)])
        left = []
        while (backlog := await store.journal_depth()) and await store.record_journal("default", 2048, opener):
            left.append(backlog[0].rows)
        assert left == ([12, 8, 3] if is_inflated else [12, 8, 4])

    async def test_a_row_with_more_observations_than_it_said_ends_the_group(
        self, store: PostgresStore, opener: Opener
    ) -> None:
        """What a row holds counts, not what was said of it: span events are not known before it is opened."""
        rows = [opener.row(a_run(f"run {n}", trace=n)) for n in range(1, 5)]
        await store.append([msgspec.structs.replace(row, observations=1) for row in rows])
        store._per_row = 1.0
        recorded = await store.record_journal("default", len(a_run("a")) + 1, opener)
        assert recorded is not None
        assert recorded.events == 2 * len(a_run("a"))

    async def test_rows_of_a_lost_key_are_counted_separately(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """The age of the rows that a gateway can record is not that of the others."""
        await store.append([Opener(b"lost").row(a_run("lost"))])
        await database.execute("UPDATE journal SET received_at = received_at - interval '1 day'")
        [backlog] = await store.journal_depth(opener.keys)
        assert (backlog.rows, backlog.undecryptable, backlog.own_age) == (1, 1, 0.0)
        assert backlog.age > 86_000
        await store.append([opener.row(a_run("own"))])
        [backlog] = await store.journal_depth(opener.keys)
        assert (backlog.rows, backlog.undecryptable) == (2, 1)
        assert 0 < backlog.own_age < 3600

    async def test_a_row_is_not_damaged_where_memory_is_short(
        self, store: PostgresStore, opener: Opener, database: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A row that cannot be opened for want of memory stays and is recorded later."""

        def fail(*_: object) -> Opened:
            raise MemoryError

        await store.append([opener.row(a_run("a"))])
        with monkeypatch.context() as patched:
            patched.setattr(opener, "open", fail)
            with pytest.raises(MemoryError):
                await store.record_journal("default", 2048, opener)
        assert (await drained(store, opener)).events == len(a_run("a"))
        assert await database.fetchval("SELECT count(*) FROM quarantine") == 0

    async def test_the_gauges_say_how_late_the_journal_is(
        self, store: PostgresStore, database: Any, opener: Opener
    ) -> None:
        """Bytes and the age of the oldest row are shown by tenant, and 0 when nothing waits."""
        metrics = Metrics()
        metrics.fleet(await store.fleet())
        assert 'spanpost_journal_bytes{tenant=""} 0.0' in metrics.page()[1].decode()
        await store.append([opener.row(a_run("a", tenant="late"), "late")])
        await database.execute("UPDATE journal SET received_at = received_at - interval '200 s'")
        metrics.fleet(await store.fleet())
        page = metrics.page()[1].decode()
        [lag] = re.findall(r'spanpost_journal_lag_seconds{tenant="late"} (\S+)', page)
        [size] = re.findall(r'spanpost_journal_bytes{tenant="late"} (\S+)', page)
        assert 200 <= float(lag) < 300
        assert float(size) == 1
