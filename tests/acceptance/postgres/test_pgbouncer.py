"""spanpost behind a real PgBouncer that pools sessions, transactions or statements."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Verb
from spanpost.store.connections import Pooling
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from tests.acceptance.features import FEATURES, Deployment, settings, surroundings, walk
from tests.acceptance.gateways import run_gateway
from tests.acceptance.postgres.servers import Server, bouncer

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres", "pgbouncer")]
MODES = {"session": Pooling.SESSION, "transaction": Pooling.TRANSACTION}
_numbers = itertools.count(1)


@pytest.fixture
def database(plain_server: Server) -> str:
    """The name of a new database."""
    name = f"bounced_{next(_numbers)}"
    plain_server.sql(f"CREATE DATABASE {name}")
    return name


@pytest.fixture(params=list(MODES))
def pooled(
    request: pytest.FixtureRequest, plain_server: Server, open_dir: Callable[[], Path], database: str
) -> Iterator[tuple[str, Pooling]]:
    """The URL of a new database through a PgBouncer, and how that pools."""
    with bouncer("pgbouncer", open_dir(), plain_server, request.param) as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}", MODES[request.param]


async def test_processes_share_a_pooler(pooled: tuple[str, Pooling]) -> None:
    """Behind each pooler that can work, the schema is made, and two stores with default settings record at
    once; each recognises the pooling, and keeps statements prepared only where a session is its own.
    """
    url, expected = pooled
    await schema.upgrade(url)
    assert await schema.upgrade(url) == (schema.HEAD, schema.HEAD)
    stores = [PostgresStore(url, rules=ROUTED_RULES) for _ in range(3)]
    for store in stores:
        await store.open()
        assert store.server is not None
        assert store.server.pooling is expected
    recorded = await asyncio.gather(
        *(stores[number % 3].record(a_run("pooled", trace=number + 1)) for number in range(30))
    )
    assert [r.events for r in recorded] == [4] * 30
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
    assert (await stores[0].run(lambda c: c.fetchval(kept)) > 0) is (expected is Pooling.SESSION)
    for store in stores:
        await store.close()


@pytest.mark.needs("local-slack")
async def test_a_gateway_has_every_feature_behind_a_pooler(
    pooled: tuple[str, Pooling], plain_server: Server, database: str, tmp_path: Path
) -> None:
    """A whole gateway records, delivers, and wakes the agent that waits, with a pooler in front of its database."""
    url, _ = pooled
    await schema.upgrade(url)
    async with surroundings(tmp_path) as (slack, webhooks):
        with run_gateway(url, tmp_path, **settings(slack, webhooks)) as gateway:
            results = await walk(
                Deployment(
                    gateway=gateway.url,
                    dsn=plain_server.url(database=database),
                    slack=slack,
                    webhooks=webhooks,
                    otlp_grpc=f"http://127.0.0.1:{gateway.grpc}",
                )
            )
    assert results == dict.fromkeys(FEATURES, "yes")


async def test_answers_arrive_behind_a_pooler(pooled: tuple[str, Pooling]) -> None:
    """A process that waits for answers learns of one that another process records: by LISTEN where a session is
    its own, by polling elsewhere.
    """
    url, _ = pooled
    await schema.upgrade(url)
    waiting, other = (PostgresStore(url, rules=ROUTED_RULES) for _ in range(2))
    await waiting.open()
    await other.open()
    await other.record([at_work(), asking()])
    question = await the_question(other)
    changes: asyncio.Queue[bytes] = asyncio.Queue()
    await waiting.interventions.listen(changes.put_nowait)
    assert await changes.get() == b""  # what changed before
    assert (await other.interventions.intervene(an_act(Verb.APPROVE, question.key))).result == "done"
    assert await asyncio.wait_for(changes.get(), 60)
    await waiting.close()
    await other.close()


async def test_a_pool_of_one_session_is_enough(
    plain_server: Server, open_dir: Callable[[], Path], database: str
) -> None:
    """A pooler with one session of the server for everything is recognised, and works."""
    with bouncer("pgbouncer", open_dir(), plain_server, "transaction", default_pool_size=1) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{database}"
        await schema.upgrade(url)
        store = PostgresStore(url, rules=ROUTED_RULES)
        await store.open()
        assert store.server is not None
        assert store.server.pooling is Pooling.TRANSACTION
        assert (await store.record(a_run("one"))).events == 4
        await store.close()


@pytest.mark.parametrize(
    ("mode", "parameter", "expected"),
    [
        ("statement", "", "pools statements.*pool_mode"),
        ("session", "?search_path=other", "parameter of DATABASE_URL.*ALTER ROLE"),
    ],
)
async def test_a_pooler_that_cannot_work_is_explained(
    plain_server: Server, open_dir: Callable[[], Path], database: str, mode: str, parameter: str, expected: str
) -> None:
    """A pooler that pools statements, and one that refuses a parameter of the URL, are refused with the cure."""
    with bouncer("pgbouncer", open_dir(), plain_server, mode) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{database}{parameter}"
        for refused in (PostgresStore(url).open(), schema.upgrade(url)):
            with pytest.raises(ConfigError, match=expected):
                await refused
