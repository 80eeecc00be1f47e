"""Behaviour of the Postgres store alone: rows, partitions, replicas, refusals."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.outcomes import GiveUp
from spanpost.model.queries import TaskQuery
from spanpost.runtime.assembly import open_store
from spanpost.settings import load
from spanpost.store import task_state
from spanpost.store.embedded_roles import READER
from spanpost.store.embedded_store import EmbeddedStore
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.store.transactions import transact
from spanpost.tasks.stall import StallRules
from spanpost.testing.exercise_stall import beat
from spanpost.testing.exercise_store import POSTED, ROUTED_RULES, SINK
from spanpost.testing.observed import a_run, an_event, ended, started
from spanpost.testing.postgres import with_database
from tests.tasks.test_lifetime_totals import run as lifetime
from tests.tasks.test_links import agent

pytestmark = pytest.mark.acceptance


# --- rows -----------------------------------------------------------------------------------------------------------


async def test_every_event_is_a_row_under_its_task(store: PostgresStore, database: Any) -> None:
    """Children that came before their root span move to its task: rows, checkpoints and artifacts agree in
    the end.
    """
    for observation in reversed(a_run("late box")):
        await store.record([observation])
    [task] = await store.tasks(TaskQuery())
    assert await database.fetchval("SELECT array_agg(DISTINCT task_uid) FROM agent_events") == [task.uid]
    assert await database.fetchval("SELECT array_agg(DISTINCT task_uid) FROM agent_checkpoints") == [task.uid]
    artifact = await database.fetchrow("SELECT task_uid, uri, kind, checkpoint_id FROM task_artifacts")
    checkpoint_id = await database.fetchval("SELECT id FROM agent_checkpoints WHERE kind = 'artifact'")
    assert tuple(artifact) == (task.uid, "https://example.org/1", "pr", checkpoint_id)


async def test_rows_of_another_tenant_stay(store: PostgresStore, database: Any) -> None:
    """What arrives late moves the rows of its own tenant alone, also where another has rows with equal ids."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    agent = {"gen_ai.operation.name": "invoke_agent"}
    for tenant in ("red", "blue"):
        call = ended(trace=1, span=3, parent=1, name="grep", attributes=tool, tenant=tenant)
        start = started(trace=1, span=4, parent=1, name="grep", attributes=tool, tenant=tenant)
        await store.record([call, start])
    await store.record([ended(trace=1, span=span, name="agent", attributes=agent, tenant="red") for span in (1, 2)])
    await store.record([ended(trace=1, span=4, parent=2, name="grep", attributes=tool, tenant="red")])
    tasks = {task.uid: task.tenant for task in await store.tasks(TaskQuery())}
    rows = await database.fetch("SELECT tenant, task_uid FROM agent_events")
    assert len(rows) == 7
    assert all(tasks[uid] == tenant for tenant, uid in rows)


async def test_rows_of_a_call_go_where_it_ends(store: PostgresStore, database: Any) -> None:
    """All rows of a call are its last task's, also those that were written while it hung below another agent."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    agents = [
        ended(trace=1, span=span, name="agent", attributes={"gen_ai.operation.name": "invoke_agent"}) for span in (1, 2)
    ]
    await store.record([*agents, started(trace=1, span=3, parent=1, name="grep", attributes=tool)])
    await store.record([ended(trace=1, span=3, parent=2, name="grep", attributes=tool)])
    rows = await database.fetch("SELECT span_id, array_agg(DISTINCT task_uid) FROM agent_events GROUP BY 1 ORDER BY 1")
    (_, ann), (_, bob), (_, of_call) = map(tuple, rows)
    assert (of_call == bob, of_call == ann) == (True, False)


async def test_a_task_reads_back_as_it_was_recorded(store: PostgresStore, database: Any) -> None:
    """The task that a batch returns equals the task that is read, and its public columns."""
    recorded = await store.record(a_run("same"))
    assert await store.tasks(TaskQuery()) == recorded.tasks
    row = await database.fetchrow(
        "SELECT name, status, input_tokens, llm_calls, announced, artifacts->0->>'kind' FROM agent_tasks"
    )
    assert tuple(row) == ("same", "complete", 100, 1, True, "pr")


async def test_a_reported_decision_is_no_intervention(store: PostgresStore, database: Any) -> None:
    """A question and its answer from telemetry are one approval row and no human intervention."""
    asked = {"agent.approval.id": "a1", "agent.approval.question": "deploy?", "agent.approval.risk": "high"}
    answered = {"agent.approval.id": "a1", "agent.approval.decision": "approve", "agent.approval.by": "ada"}
    await store.record(
        [
            started(trace=1, span=1, name="agent", attributes={"agent.task.name": "asking"}),
            an_event(trace=1, span=1, name="agent.approval.requested", attributes=asked, index=0),
        ]
    )
    await store.record(
        [an_event(trace=1, span=1, name="agent.approval.resolved", attributes=answered, index=1, at=2.0)]
    )
    [row] = await database.fetch("SELECT approval_id, question, risk, source FROM approvals")
    assert tuple(row) == ("a1", "deploy?", "high", "")
    assert await database.fetchval("SELECT count(*) FROM human_interventions") == 0


async def test_the_views_read_well(store: PostgresStore, database: Any) -> None:
    """The views show hex ids, roles as words and the task's name."""
    await store.record(a_run("viewed"))
    row = await database.fetchrow(
        "SELECT task, role, trace_id, span_id, duration_ms FROM agent_spans WHERE name = 'chat'"
    )
    assert tuple(row)[:4] == ("viewed", "llm", "0" * 31 + "1", "0" * 15 + "2")
    assert float(row["duration_ms"]) == 2000.0
    assert set(await database.fetchval("SELECT array_agg(task) FROM agent_timeline")) == {"viewed"}


@pytest.mark.proves("one-row", "same-ids")
@pytest.mark.parametrize("size", [1, 2, 4])
async def test_other_content_under_one_identity_is_kept_beside(store: PostgresStore, database: Any, size: int) -> None:
    """The same span with other content is another row, in one batch or in several; the same content again is not."""
    [root_span, *_] = a_run("copies")
    other = msgspec.structs.replace(root_span, attributes={**root_span.attributes, "more": 1})
    copies = [root_span, other, root_span, other]
    for first in range(0, len(copies), size):
        await store.record(copies[first : first + size])
    assert await database.fetchval("SELECT count(*) FROM agent_events") == 2
    assert await database.fetchval("SELECT count(DISTINCT event_id) FROM agent_events") == 1


async def test_a_repeat_is_known_when_the_records_of_its_trace_are_gone(store: PostgresStore, database: Any) -> None:
    """After the pruning of a trace's records a repeated span is still in the audit once."""
    run = a_run("long ago")
    await store.record(run)
    rows = await database.fetchval("SELECT count(*) FROM agent_events")
    await database.execute("DELETE FROM task_state")
    late = an_event(trace=1, span=1, name="agent.checkpoint", at=50, index=7)
    assert (await store.record([*run, late])).events == 1
    assert await database.fetchval("SELECT count(*) FROM agent_events") == rows + 1
    assert await database.fetchval("SELECT count(*) FROM quarantine") == 0


async def test_a_batch_may_reach_into_any_number_of_tasks(store: PostgresStore) -> None:
    """Spans below forty named tasks in forty traces, without a task of their own, are recorded in one batch."""
    root_spans = range(1, 41)
    for trace in root_spans:
        await store.record([started(trace=trace, span=1, name="agent", attributes={"agent.task.id": f"named {trace}"})])
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 1}
    recorded = await store.record([ended(trace=t, span=2, parent=1, name="chat", attributes=call) for t in root_spans])
    assert recorded.events == 40
    assert {(t.task_id, t.input_tokens) for t in await store.tasks(TaskQuery(limit=100))} == {
        (f"named {t}", 7) for t in root_spans
    }


# --- schema ---------------------------------------------------------------------------------------------------------


async def test_every_column_is_documented_in_the_database(database: Any) -> None:
    """Each column of each table, partition and view has a comment, and so has each table and view."""
    bare = await database.fetch(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v') AND c.relname <> 'spanpost_version'"
        " AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)"
    )
    assert bare == []


async def test_many_starts_migrate_once(postgres_server: str) -> None:
    """Six processes on an empty database upgrade it once to `HEAD`, and all succeed."""
    connection = await asyncpg.connect(postgres_server)
    await connection.execute("CREATE DATABASE fresh")
    try:
        answers = await asyncio.gather(*(schema.upgrade(with_database(postgres_server, "fresh")) for _ in range(6)))
        fresh = await asyncpg.connect(with_database(postgres_server, "fresh"))
        assert await fresh.fetchval("SELECT version_num FROM spanpost_version") == schema.HEAD
        await fresh.close()
    finally:
        await connection.execute("DROP DATABASE fresh WITH (FORCE)")
        await connection.close()
    assert sorted(before or "" for before, _ in answers) == ["", *[schema.HEAD] * 5]
    assert {after for _, after in answers} == {schema.HEAD}


@pytest.mark.proves("settings", "schema")
@pytest.mark.parametrize(("found", "is_refused"), [("0.9", True), (schema.HEAD, False), ("1.99", False), ("2.0", True)])
async def test_a_schema_that_does_not_fit_is_refused(
    postgres_dsn: str, database: Any, found: str, is_refused: bool
) -> None:
    """An older schema is refused with the command to run, a newer major is refused, a newer minor works."""
    await database.execute("UPDATE spanpost_version SET version_num = $1", found)
    store = PostgresStore(postgres_dsn)
    if is_refused:
        with pytest.raises(ConfigError, match="upgrade spanpost" if found == "2.0" else "spanpost db upgrade"):
            await store.open()
    else:
        await store.open()
        assert (await store.record(a_run("fits"))).events > 0
    await store.close()


@pytest.mark.proves("settings", "schema")
async def test_a_schema_that_is_not_spanposts_is_refused(postgres_dsn: str, database: Any) -> None:
    """An unknown revision, or a table of another program, is refused with the remedy."""
    await database.execute("UPDATE spanpost_version SET version_num = 'ae1027a6acf'")
    for refused in (PostgresStore(postgres_dsn).open(), schema.upgrade(postgres_dsn)):
        with pytest.raises(ConfigError, match=r"'ae1027a6acf', which is no revision .* name another database"):
            await refused
    await database.execute("DROP TABLE spanpost_version")
    with pytest.raises(ConfigError, match=r"already exists. spanpost did not make .* name another database"):
        await schema.upgrade(postgres_dsn)


async def test_a_database_without_schema_says_what_to_do(postgres_server: str) -> None:
    """A database without a schema is refused with the command; the embedded one is upgraded."""
    connection = await asyncpg.connect(postgres_server)
    await connection.execute("CREATE DATABASE bare")
    dsn = with_database(postgres_server, "bare")
    try:
        with pytest.raises(ConfigError, match="spanpost db upgrade"):
            await PostgresStore(dsn).open()
        bare = await asyncpg.connect(dsn)
        await bare.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as the embedded server does
        await bare.close()
        own = PostgresStore(dsn, own_reader=READER)
        await own.open()
        assert (await own.record(a_run("ours"))).events == 4
        await own.close()
    finally:
        await connection.execute("DROP DATABASE bare WITH (FORCE)")
        await connection.close()


@pytest.mark.proves("one-row", "sender-clock")
async def test_months_take_their_rows_out_of_the_rest(store: PostgresStore, database: Any) -> None:
    """Events of an unforeseen month are recorded, move when the month is made, and stay duplicates."""
    years = 3 * 365 * 86400.0
    batch = a_run("long ago", at=-years)
    await store.record(batch)
    assert await database.fetchval("SELECT count(*) FROM audit_rows_rest") == len(batch)
    assert (await store.record(batch)).duplicates == len(batch)
    at = datetime.now(UTC) - timedelta(seconds=years)
    assert await database.fetchval("SELECT spanpost_add_month($1)", at) is True
    assert await database.fetchval("SELECT spanpost_add_month($1)", at) is False
    assert await database.fetchval("SELECT count(*) FROM audit_rows_rest") == 0
    assert (await store.record(batch)).duplicates == len(batch)
    assert await database.fetchval("SELECT count(*) FROM agent_events") == len(batch)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("one-bad-span", "surrogates", "nan")
async def test_what_cannot_be_encoded_is_mended(store: PostgresStore, database: Any) -> None:
    """Lone surrogates and infinite numbers are repaired and flagged; a repeat of them is a duplicate."""
    worst = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "a\ud800", "y": 2**70}
    batch = [*a_run("siblings"), ended(trace=1, span=77, parent=1, name="bad\ud83d", attributes=worst)]
    assert (await store.record(batch)).events == len(batch)
    assert (await store.record(batch)).duplicates == len(batch)
    assert await database.fetchval("SELECT repairs <> 0 FROM agent_events WHERE span_id = $1", (77).to_bytes(8, "big"))


@pytest.mark.proves("quarantine")
async def test_what_cannot_be_mended_is_kept_aside(store: PostgresStore, database: Any) -> None:
    """An unreadable observation goes to quarantine with its bytes in the transaction of its siblings."""
    broken = msgspec.structs.replace(a_run("x")[0], trace_id=None)
    batch = [*a_run("a"), broken, *a_run("b", trace=2)]
    recorded = await store.record(batch)
    assert (recorded.events, recorded.dropped) == (len(batch) - 1, {"unfoldable": 1})
    assert len(await store.tasks(TaskQuery())) == 2
    again = await store.record([broken])
    assert again.dropped == {"unfoldable": 1}
    row = await database.fetchrow("SELECT attempts, source, tenant, bytes, txid_current() > 0 FROM quarantine")
    assert tuple(row)[:3] == (2, "record", "default")
    assert msgspec.msgpack.decode(row["bytes"])[0]["name"] == broken.name


@pytest.mark.proves("one-bad-span", "long-ids")
async def test_an_id_of_any_length_is_taken(store: PostgresStore) -> None:
    """A task id longer than any index page is recorded and found."""
    long = "t" * 20_000
    await store.record(
        [started(trace=1, span=1, name="agent", attributes={"agent.task.id": long, "agent.task.name": "long"})]
    )
    [task] = await store.tasks(TaskQuery())
    assert [t.uid for t in await store.tasks(TaskQuery(task_id=task.task_id))] == [task.uid]


# --- replicas -------------------------------------------------------------------------------------------------------


@pytest.mark.proves("replicas", "deadlocks")
async def test_replicas_come_to_the_same(postgres_dsn: str, store: PostgresStore, database: Any) -> None:
    """Three replicas with shuffled, repeated, overlapping batches make one row per event and each task's own
    figures.
    """
    others = [PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=2) for _ in range(2)]
    for other in others:
        await other.open()
    replicas = [store, *others]
    dice = random.Random(7)
    runs = [o for trace in range(1, 21) for o in a_run(f"run {trace}", trace=trace)]

    async def feed(replica: PostgresStore, seed: int) -> None:
        pile = [*runs, *runs]
        random.Random(seed).shuffle(pile)
        while pile:
            size = dice.randint(1, 12)
            batch, pile = pile[:size], pile[size:]
            await replica.record(batch)

    await asyncio.gather(*(feed(replica, seed) for seed, replica in enumerate(replicas)))
    assert await database.fetchval("SELECT count(*) FROM agent_events") == len(runs)
    tasks = await store.tasks(TaskQuery(limit=100))
    assert sorted(t.name for t in tasks) == sorted(f"run {trace}" for trace in range(1, 21))
    assert {(t.status, t.llm_calls, t.tool_calls, t.input_tokens, t.output_tokens) for t in tasks} == {
        ("complete", 1, 1, 100, 20)
    }
    assert await database.fetchval("SELECT count(*) FROM deliveries WHERE mode = 'state'") == len(tasks)
    for other in others:
        await other.close()


@pytest.mark.proves("delivered")
async def test_two_dispatchers_never_hold_one_ordering_key(postgres_dsn: str, store: PostgresStore) -> None:
    """Processes that claim at once get different ordering keys, and each delivery goes out once."""
    other = PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=4)
    await other.open()
    await store.record([o for trace in range(1, 31) for o in a_run(f"run {trace}", trace=trace)])
    sent: list[int] = []

    async def dispatcher(who: PostgresStore) -> None:
        while claimed := await who.outbox.claim([SINK], 3):
            ordering_keys = [d.ordering_key for d in claimed]
            assert len(set(ordering_keys)) == len(ordering_keys)
            for delivery in claimed:
                assert delivery.ordering_key not in held
                held.add(delivery.ordering_key)
            for delivery in claimed:
                held.discard(delivery.ordering_key)
                await who.outbox.finish(delivery, POSTED)
                sent.append(delivery.id)

    held: set[str] = set()
    while await store.outbox.due_in() is not None:
        await asyncio.gather(dispatcher(store), dispatcher(other), dispatcher(store), dispatcher(other))
    assert len(sent) == len(set(sent))
    assert {r.state for r in await store.outbox.deliveries(limit=1000)} == {"delivered"}
    assert len(sent) == len(await store.outbox.deliveries(limit=1000))
    await other.close()


@pytest.mark.proves("delivered")
async def test_another_process_cannot_finish_a_delivery(postgres_dsn: str, store: PostgresStore) -> None:
    """A process without the lease cannot finish a delivery that another one claimed."""
    other = PostgresStore(postgres_dsn, rules=ROUTED_RULES)
    await other.open()
    await store.record(a_run("fenced"))
    [delivery] = await store.outbox.claim([SINK], 1)
    await other.outbox.finish(delivery, GiveUp(reason="stranger"))
    assert [r.state for r in await store.outbox.deliveries() if r.id == delivery.id] == ["sending"]
    await other.close()


async def test_without_prepared_statements(postgres_dsn: str) -> None:
    """With the setting for poolers in transaction mode no statement stays prepared, and all works."""
    store = PostgresStore(postgres_dsn, rules=ROUTED_RULES, statement_cache=0, pool_size=1)
    await store.open()
    assert (await store.record(a_run("pooled"))).events == 4
    [delivery] = await store.outbox.claim([SINK], 1)
    await store.outbox.finish(delivery, POSTED)
    assert await store.run(lambda c: c.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")) == 0
    await store.close()


async def test_tables_of_another_version_are_named(postgres_dsn: str) -> None:
    """A database whose tables lack a column of this version says so, and which command mends it."""
    store = PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=1)
    await store.open()
    await store.run(lambda c: c.execute("ALTER TABLE agent_tasks DROP COLUMN title CASCADE"))
    with pytest.raises(StoreUnavailable, match=r"not those of this version.*title.*`spanpost db upgrade`.*db reset"):
        await store.record(a_run("older"))
    await store.close()


async def test_as_many_statements_are_kept_as_the_settings_say(postgres_dsn: str) -> None:
    """`database.statement_cache` sets the statements of a pool's connection, for both kinds of database."""
    named = open_store(load(database={"url": postgres_dsn, "statement_cache": 3}, console={}))
    embedded = open_store(load(database={"embedded": True, "data_dir": "/nowhere", "statement_cache": 3}, console={}))
    assert isinstance(named, PostgresStore)
    assert isinstance(embedded, EmbeddedStore)
    assert embedded._statement_cache == 3
    await named.open()
    for i in range(9):
        await named.run(lambda c, i=i: c.fetchval(f"SELECT {i}"))  # type: ignore[misc]
    pool = await named.run(
        lambda c: c.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '__asyncpg_stmt%'")
    )
    assert pool <= 3
    await named.close()


async def test_lost_prepared_statements_name_an_existing_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names a variable that the settings read."""

    class Pool:
        def acquire(self, timeout: float) -> Any:
            raise asyncpg.InvalidSQLStatementNameError("prepared statement does not exist")

    with pytest.raises(StoreUnavailable) as raised:
        await transact(Pool, lambda c: c)
    [(name, value)] = re.findall(r"(SPANPOST_\w+)=(\d+)", str(raised.value))
    monkeypatch.setenv(name, value)
    assert load(console={}).database.statement_cache == 0


@pytest.mark.proves("never-500", "certificate-expired")
async def test_an_expired_certificate_is_an_outage_and_no_bad_value() -> None:
    """A server whose certificate is not valid is away: no observation is blamed for it, and the batch is kept."""

    class Pool:
        def acquire(self, timeout: float) -> Any:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")

    with pytest.raises(StoreUnavailable, match="certificate has expired"):
        await transact(Pool, lambda c: c, retry_for=0.05)


@pytest.mark.proves("answered", "index-corrupted", "failover")
@pytest.mark.parametrize(
    "error",
    [
        asyncpg.AdminShutdownError,
        asyncpg.DataCorruptedError,
        asyncpg.DiskFullError,
        asyncpg.IndexCorruptedError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.InternalServerError,
        asyncpg.PostgresIOError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.TooManyConnectionsError,
        asyncpg.UndefinedTableError,
    ],
)
async def test_what_is_wrong_with_the_server_is_no_bad_value(
    store: PostgresStore, database: Any, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """An error of the server puts no observation into quarantine: its sender keeps it, and sends it again."""

    async def fails(*_: Any, **__: Any) -> None:
        raise error("it cannot be done now")

    with monkeypatch.context() as broken:
        broken.setattr("spanpost.store.audit.copy_into", fails)
        with pytest.raises(Exception, match="cannot be done now"):
            await store.record(a_run("later"))
    assert await database.fetchval("SELECT count(*) FROM quarantine") == 0
    assert (await store.record(a_run("later"))).events > 0


# --- refusals -------------------------------------------------------------------------------------------------------


async def test_no_server_is_a_clear_error(tmp_path: Any) -> None:
    """An unreachable database is reported with the next step, without the password."""
    with pytest.raises(ConfigError, match="DATABASE_URL") as refused:
        await PostgresStore(f"postgresql://someone:s3cret@/none?host={tmp_path}").open()
    assert "s3cret" not in str(refused.value)


@pytest.mark.proves("settings", "settings-values")
@pytest.mark.parametrize("url", ["postgresql://u:s3cret:x@h:s3cret/db", "mysql://u:s3cret@h/db", "s3cret"])
async def test_an_unreadable_url_is_not_shown(url: str) -> None:
    """An unreadable URL is refused without being quoted, when opening and when upgrading."""
    for refused in (PostgresStore(url).open(), schema.upgrade(url)):
        with pytest.raises(ConfigError, match="DATABASE_URL") as raised:
            await refused
        assert "s3cret" not in str(raised.value)


@pytest.mark.proves("never-500", "connections-cut")
async def test_a_lost_database_is_reported_in_time(postgres_server: str, store: PostgresStore, database: Any) -> None:
    """When connections are cut the batch uses another; without any, the caller learns it soon."""
    await store.record(a_run("before"))
    await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spanpost'")
    assert (await store.record(a_run("after", trace=2))).events == 4
    name = await database.fetchval("SELECT current_database()")
    installed_apps = await asyncpg.connect(postgres_server)
    await installed_apps.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spanpost'")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.record(a_run("lost", trace=3))
    assert time.monotonic() - began < 10
    await installed_apps.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await installed_apps.close()
    assert (await store.record(a_run("lost", trace=3))).events == 4


@pytest.mark.proves("replicas")
def test_the_batch_is_ordered_by_key() -> None:
    """Rows are written in order of their keys, so that two writers cannot deadlock."""
    from spanpost.store.audit import events
    from spanpost.tasks import batches

    batch: list[Observation] = a_run("sorted")
    placed = batches.prepare(batch)
    keys = [key for key, _ in events(placed, dict.fromkeys(range(len(placed)), (None, b"")), datetime.now(UTC))]
    assert keys == sorted(keys)
    assert len(keys) == len(batch)


# --- stall --------------------------------------------------------------------------------------

_AGO = "UPDATE agent_tasks SET last_seen_at = now() - interval '1 hour'"
JOB = {"agent.task.name": "job"}


@pytest.mark.proves("stall-waits")
async def test_after_an_outage_the_whole_stall_timeout_passes_first(postgres_dsn: str, database: Any) -> None:
    """Without a receiver no producer is stalled: neither during the outage nor at once after it."""
    rules = msgspec.structs.replace(ROUTED_RULES, stall_rules=StallRules(stall_after=timedelta(minutes=5)))
    made = PostgresStore(postgres_dsn, rules=rules, pool_size=2)
    await made.open()
    await made.record([started(trace=1, span=1, name="agent", attributes=JOB)])
    await database.execute(_AGO)
    await database.execute(
        "UPDATE heartbeats SET seen_at = now() - interval '50 min', resumed_at = now() - interval '2 hours'"
    )
    assert [t.status for t in await made.tasks(TaskQuery())] == ["starting"]  # the outage goes on
    await made.outbox.due_in()  # it is over
    assert [t.status for t in await made.tasks(TaskQuery())] == ["starting"]
    await database.execute("UPDATE timers SET at = now()")
    await made.elapse()
    assert [c.kind for c in await made.reader.checkpoints()] == ["start"]
    await database.execute("UPDATE heartbeats SET resumed_at = now() - interval '6 min'")  # a whole timeout later
    assert [t.status for t in await made.tasks(TaskQuery())] == ["stalled"]
    assert await database.fetchval("SELECT status FROM agent_tasks") == "starting"  # nothing of it is stored
    assert await database.fetchval("SELECT status FROM agent_tasks_now") == "stalled"
    await database.execute("UPDATE timers SET at = now()")
    await made.elapse()
    assert {c.kind for c in await made.reader.checkpoints()} == {"start", "stalled"}
    await made.close()


@pytest.mark.proves("judged-once")
async def test_a_stalled_task_is_reported_once_by_many_replicas(postgres_dsn: str, database: Any) -> None:
    """Of several replicas whose timers run at the same moment one reports, and one interrupts."""
    rules = msgspec.structs.replace(
        ROUTED_RULES,
        stall_rules=StallRules(stall_after=timedelta(minutes=5), interrupt_after=timedelta(milliseconds=1)),
    )
    stores = [PostgresStore(postgres_dsn, rules=rules, pool_size=2) for _ in range(4)]
    await asyncio.gather(*(one.open() for one in stores))
    tasks = [started(trace=n, span=n, name="agent", attributes={"agent.task.name": f"job {n}"}) for n in range(1, 9)]
    await stores[0].record(tasks)
    await stores[1].record([beat((n, n), seq=1, producer=f"p{n}", interval=0) for n in range(1, 5)])
    await database.execute(_AGO)
    # Receivers ran all the time: the schema's creation may be long ago by now.
    await database.execute("UPDATE heartbeats SET seen_at = now(), resumed_at = now() - interval '1 hour'")
    for _ in range(3):
        await database.execute("UPDATE timers SET at = now()")
        await asyncio.gather(*(one.elapse() for one in stores))
    kinds = [c.kind for c in await stores[0].reader.checkpoints()]
    assert (kinds.count(Kind.STALLED), kinds.count(Kind.END)) == (4, 4)
    found = await database.fetch("SELECT status, count(*) FROM agent_tasks_now GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in found] == [("error", 4), ("stalled", 4)]
    await asyncio.gather(*(one.close() for one in stores))


# --- one of several -------------------------------------------------------------------------------------------------


async def under_way(store: PostgresStore) -> dict[str, int] | None:
    fleet = await store.fleet()
    return None if fleet is None else fleet.by_status


async def test_one_elected_process_counts_for_all(store: PostgresStore, postgres_dsn: str, database: Any) -> None:
    """One of two processes counts the open tasks of both; when it is gone, the other takes over."""
    other = PostgresStore(postgres_dsn, rules=ROUTED_RULES)
    await other.open()
    root_span = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
    await other.record([started(trace=3, span=1, name="agent", attributes=root_span)])
    assert (await under_way(store), await under_way(other)) == ({"starting": 1}, None)
    asked = await other.fleet(is_asked=True)  # by a person: it takes no turn
    assert asked is not None
    assert asked.by_status == {"starting": 1}
    assert (await under_way(store), await under_way(other)) == ({"starting": 1}, None)
    await database.execute("UPDATE heartbeats SET reported_until = now() - interval '1 s'")  # as after a kill
    assert (await under_way(other), await under_way(store)) == ({"starting": 1}, None)
    await other.close()
    assert await under_way(store) == {"starting": 1}


@pytest.mark.parametrize("names", ["their traces", "ids of their own"])
async def test_many_timers_ask_few_questions(postgres_dsn: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of many traces are folded together, without a query for each."""
    store = PostgresStore(
        postgres_dsn, rules=msgspec.structs.replace(ROUTED_RULES, announce_delay=timedelta(0), usage_delay=timedelta(0))
    )
    await store.open()
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}
    ids = [{"agent.task.id": f"t{n}"} if names == "ids of their own" else {} for n in range(60)]
    await store.record(
        [ended(trace=n, span=7, parent=1, name="chat", attributes=call | ids[n - 1]) for n in range(1, 61)]
    )
    missed: list[bytes] = []
    around = task_state.FetchedRecords.fetch_around

    async def counted(records: task_state.FetchedRecords, connection: Any, key: bytes) -> None:
        missed.append(key)
        await around(records, connection, key)

    monkeypatch.setattr(task_state.FetchedRecords, "fetch_around", counted)
    recorded = await store.elapse()
    assert 60 in (len(recorded.finalized), len(recorded.tasks))
    assert len(missed) < 3
    await store.close()


@pytest.mark.proves("answered", "database-killed")
async def test_what_was_recorded_survives_a_crash_of_a_hasty_server(postgres_dsn: str, database: Any) -> None:
    """Where the server's default is asynchronous commit, spanpost's commits wait for the disk, with and
    without a pooler.
    """
    assert await database.fetchval("SHOW synchronous_commit") == "off"  # so that this proves something
    for is_pooled in (False, True):
        store = PostgresStore(postgres_dsn, rules=ROUTED_RULES, statement_cache=0 if is_pooled else 100)
        await store.open()
        assert await store.run(lambda c: c.fetchval("SHOW synchronous_commit")) == "on"
        await store.close()


# --- what lies in several traces ------------------------------------------------------------------------------------


async def test_what_links_and_lifetimes_join_is_what_memory_makes_of_it(store: PostgresStore) -> None:
    """Linked runs and lifetime totals, each span a transaction of its own, give the memory store's rows."""
    spans = [
        *(agent(number, 4, number, 9, "writer", links=(1,)) for number in (2, 3)),
        agent(1, 1, 0, 9, "planner"),
        *(lifetime(number, total) for number, total in ((12, 700), (11, 500))),
    ]
    memory = MemoryStore()
    for one in spans:
        assert not (await store.record([one])).dropped
        memory.record_now([one])
    query = TaskQuery(limit=100)
    found = [(t.uid, t.parent_uid, t.name, t.runs, t.input_tokens) for t in await store.tasks(query)]
    assert sorted(found, key=str) == sorted(
        [(t.uid, t.parent_uid, t.name, t.runs, t.input_tokens) for t in memory.tasks_now(query)], key=str
    )
    assert sorted(one[4] for one in found if one[4] is not None) == [200, 500]
