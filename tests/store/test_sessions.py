"""Sessions of logged-in people in PostgreSQL: one secret for all gateways, and the sessions that were ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spanpost import cli
from spanpost.store.postgres import PostgresStore
from spanpost.testing.postgres import as_role
from tests.conftest import WRITER

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def gateways(dsn: str) -> AsyncIterator[list[PostgresStore]]:
    """Three stores on one new database, with a gateway's rights."""
    made = [PostgresStore(as_role(dsn, WRITER), pool_size=2) for _ in range(3)]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


async def test_one_secret_for_all(gateways: list[PostgresStore]) -> None:
    """Of several gateways that start at once one makes the secret, and all have it: 32 bytes, kept."""
    states = await asyncio.gather(*(store.sessions.state() for store in gateways * 5))
    assert len({state.secret for state in states}) == 1
    assert len(states[0].secret) == 32
    assert (await gateways[0].sessions.state()).secret == states[0].secret


async def test_ended_until_they_would_have_run_out(gateways: list[PostgresStore]) -> None:
    """A session ended at one gateway is ended at all, ending it twice is harmless, and expired ones are
    deleted.
    """
    now = datetime.now(UTC)
    await gateways[0].sessions.end("old", now - timedelta(minutes=2))
    for _ in range(2):
        await gateways[0].sessions.end("one", now + timedelta(hours=1))
    assert (await gateways[1].sessions.state()).ended == {"one"}
    assert await gateways[2].run(lambda c: c.fetchval("SELECT count(*) FROM ended_sessions")) == 1


async def test_all_are_ended_by_a_command(
    dsn: str,
    gateways: list[PostgresStore],
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`db end-sessions` makes a new secret, also if there is none yet; a gateway's role may not."""
    for code, address in ((0, dsn), (0, dsn), (2, as_role(dsn, WRITER))):
        before = (await gateways[0].sessions.state()).secret
        monkeypatch.setattr(sys, "argv", ["spanpost", "db", "end-sessions", "--database-url", address])
        assert await asyncio.to_thread(_run) == code
        assert ((await gateways[1].sessions.state()).secret != before) is (code == 0)
    assert "Run it with the role that made the tables" in capfd.readouterr().err


def _run() -> int:
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
