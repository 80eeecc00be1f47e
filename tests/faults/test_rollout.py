"""A rollout: what an older spanpost left in a database that it shared with this one is gone on from.

No older version can be had wherever the tests run, so what a real one wrote is recorded: `rollouts/<its schema>.sql.gz`, made
by `python -m tests.faults.rollout`, is a database at the moment when an older gateway left that had run beside a newer one.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from spanpost.intake.decode import decode_traces
from spanpost.ledger.sql import schema
from tests.conftest import find, made_server
from tests.faults.rollout import BEGAN, RUNS, alone, body, empty_database, held, stream

KEPT = sorted(Path(__file__).with_name("rollouts").glob("*.sql.gz"))

pytestmark = [pytest.mark.acceptance]


async def restore(dsn: str, kept: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute(kept)
    await connection.close()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name.removesuffix(".sql.gz"))
def test_what_an_older_version_left_is_gone_on_from(kept: Path, needs: Callable[[str], str]) -> None:
    """Upgraded and given the whole stream, what an older gateway wrote last comes to what this version alone comes to."""
    from spanpost.ledger.postgres import PostgresLedger

    whole, written = stream(RUNS, BEGAN), gzip.decompress(kept.read_bytes()).decode()

    async def go_on(dsn: str) -> None:
        await restore(dsn, written)
        assert (await schema.upgrade(dsn))[1] == schema.HEAD
        ledger = PostgresLedger(dsn)
        await ledger.open()
        for at in range(0, len(whole), 50):
            await ledger.record(decode_traces(body(whole[at : at + 50])).observations)
        assert (await ledger.counts())["dead_letters"] == 0
        await ledger.close()

    with made_server(Path(find("postgres"))) as server, empty_database(server) as dsn:
        asyncio.run(go_on(dsn))
        assert held(dsn) == alone(whole)


@pytest.mark.parametrize(
    ("found", "said"), [("2.0", "upgrade spanpost"), ("0.9", "spanpost db upgrade"), (None, "no spanpost schema")]
)
async def test_what_does_not_fit_is_refused(found: str | None, said: str, needs: Callable[[str], str]) -> None:
    """A schema of another major, an older one and none at all are refused with what to do; a newer minor is gone along with."""

    class Connection:
        async def fetchval(self, sql: str) -> object:
            return found is not None if "to_regclass" in sql else found

    assert said in (await schema.check(Connection()) or "")
    if found == "2.0":
        found = "1.99"
        assert await schema.check(Connection()) is None
