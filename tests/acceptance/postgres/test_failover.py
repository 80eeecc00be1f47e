"""A primary and a standby in one URL: failover under load, and servers that take no writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from tests.acceptance.gateways import run_gateway
from tests.acceptance.postgres.failover import Load, Pair, fail_over, missing, pair, prepare
from tests.acceptance.postgres.servers import a_writer
from tests.eventually import eventually, eventually_async

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


@pytest.fixture(params=[True, False], ids=["synchronous", "asynchronous"])
def servers(request: pytest.FixtureRequest, programs: Path, open_dir: Callable[[], Path]) -> Iterator[Pair]:
    """A primary and a standby that streams from it."""
    if not (programs / "pg_basebackup").exists():
        pytest.skip("these binaries have no pg_basebackup")
    with pair(programs, open_dir(), is_synchronous=request.param) as made:
        prepare(made)
        yield made


only = partial(pytest.mark.parametrize, "servers", indirect=True)


@pytest.mark.proves("standby", "failover", "database-killed")
@only([True], ids=["synchronous"])
def test_no_acknowledged_span_is_lost_in_a_failover(servers: Pair, tmp_path: Path) -> None:
    """Under load the primary is killed and the standby promoted: each acknowledged span is there once, and the
    gateway accepts again. The old primary comes back and is not written, even while the new one is down.
    """
    with run_gateway(servers.url, tmp_path) as gateway, Load(gateway) as load:
        eventually(lambda: len(load.acknowledged) > 10)
        killed, _ = fail_over(servers, load)
        count = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > count + 10)
        assert load.since(killed + 0.2)

        servers.primary.start()
        servers.primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        servers.primary.sql("SELECT pg_reload_conf()")
        last = "SELECT max(received_at) FROM audit_rows"
        before = servers.primary.sql(last)
        servers.standby.kill()
        refused = len(load.refused)
        eventually(lambda: len(load.refused) > refused + 5)
        servers.standby.start()
        count = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > count + 10)
        assert servers.primary.sql(last) == before
    assert missing(servers.standby, load) == (set(), 0)


@pytest.mark.proves("standby", "standby-cancelled")
@only([True], ids=["synchronous"])
async def test_a_repeat_is_no_answer_before_the_standby_has_it(servers: Pair) -> None:
    """A commit whose wait for the standby was cancelled is visible and not replicated: its repeat is refused as long
    as the standby is away, and known when it is back.
    """
    writer = await asyncio.to_thread(a_writer, servers.primary)
    store = PostgresStore(servers.primary.url(user=writer), rules=ROUTED_RULES)
    await store.open()
    await store.record(a_run("before"))
    await asyncio.to_thread(servers.standby.kill)
    first = asyncio.create_task(store.record(a_run("during", trace=2)))
    waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'writer'"

    async def cancelled() -> bool:
        await asyncio.to_thread(servers.primary.sql, f"SELECT count(pg_cancel_backend(pid)) {waiting}")
        return first.done()

    await eventually_async(cancelled)
    await first  # the server reports the commit, with a warning: nobody can tell
    repeat = asyncio.create_task(store.record(a_run("during", trace=2)))
    await eventually_async(lambda: asyncio.to_thread(servers.primary.sql, f"SELECT count(*) {waiting}"))
    assert not repeat.done()
    await asyncio.to_thread(servers.standby.start)
    assert (await repeat).duplicates == 4
    count = "SELECT count(*) FROM audit_rows"
    assert await eventually_async(lambda: asyncio.to_thread(servers.standby.sql, count), lambda n: n == 8)
    await store.close()


@pytest.mark.proves("standby", "failover")
@only([False], ids=["asynchronous"])
async def test_writes_go_to_the_server_that_takes_them(servers: Pair) -> None:
    """Of several hosts the one that takes writes is found, in any order; beside one that hangs within two seconds.
    One that stops taking writes is left, and its transactions are refused, not lost.
    """
    primary, standby = servers
    turned = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres"
    store = PostgresStore(turned, rules=ROUTED_RULES)
    await store.open()
    assert (await store.record(a_run("turned"))).events == 4

    await asyncio.to_thread(primary.sql, "ALTER SYSTEM SET default_transaction_read_only = on")
    await asyncio.to_thread(primary.sql, "SELECT pg_reload_conf()")
    with pytest.raises(StoreUnavailable, match=r"read-write|read-only"):
        await store.record(a_run("read only", trace=2))
    await asyncio.to_thread(primary.sql, "ALTER SYSTEM RESET ALL")
    await asyncio.to_thread(primary.sql, "SELECT pg_reload_conf()")
    assert (await store.record(a_run("read only", trace=2))).events == 4
    await store.close()

    with standby.frozen():
        began = time.monotonic()
        store = PostgresStore(turned, rules=ROUTED_RULES)
        await store.open()
        assert (await store.record(a_run("beside", trace=3))).events == 4
        assert time.monotonic() - began < 5
        await store.close()

    one = PostgresStore(standby.url(query="?target_session_attrs=read-write"))
    with pytest.raises(ConfigError, match="not read-write: a standby"):
        await one.open()
