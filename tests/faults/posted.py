"""A fake Slack as a process of its own, and the contents of a store that posted to it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from spanpost.model.queries import TaskQuery
from spanpost.testing.fake_slack import TOKEN
from tests.acceptance.gateways import SOON_TAKEN_OVER
from tests.conftest import ROOT


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **more}


def settings(slack: str) -> dict[str, str]:
    """Return the environment of a process that posts to that Slack, with the shortest delays."""
    return {
        "SPANPOST_SLACK__TOKEN": TOKEN,
        "SPANPOST_SLACK__BASE_URL": slack,
        "SPANPOST_SLACK__TIMEOUT": "1",
        "SPANPOST_SLACK__RECONCILE_TIMEOUT": "3",
        "SPANPOST_SLACK__EDITS_PER_MINUTE": "6000",
        "SPANPOST_SLACK__POSTS_PER_MINUTE": "12000",
        "SPANPOST_SLACK__POSTS_PER_CHANNEL_PER_MINUTE": "12000",
        "SPANPOST_SLACK__LOOKUPS_PER_MINUTE": "600",
        "SPANPOST_SLACK__VERBOSITY": "live",
        **SOON_TAKEN_OVER,
    }


class Slack:
    """The fake Slack, as a process of its own."""

    def __init__(self, state: Path, *options: str, **variables: str) -> None:
        self._state = state
        command = [sys.executable, "-m", "spanpost.testing.fake_slack", "--state", str(state), *options]
        self._process = subprocess.Popen(command, env=environment(**variables), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def end(self) -> Any:
        """Stop it; return its state."""
        self._process.terminate()
        self._process.wait(60)
        return self.state()

    def state(self) -> Any:
        """Return the state at the end."""
        return json.loads(self._state.read_text())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


async def final_states(dsn: str, seconds: float) -> Counter[str]:
    """Wait until no delivery waits or is under way, or the time is over; return the deliveries by state."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    deadline = time.monotonic() + seconds
    try:
        while True:
            rows = await connection.fetch("SELECT state, count(*) FROM deliveries GROUP BY 1")
            states = Counter({row[0]: row[1] for row in rows})
            if not states["waiting"] and not states["sending"]:
                return states
            if time.monotonic() > deadline:
                return states
            await asyncio.sleep(0.5)  # leaves processor time to the other processes
    finally:
        await connection.close()


async def left(dsn: str) -> list[str]:
    """Describe for each undelivered delivery why it waits: its row, its ordering key, its closed rate limits."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        deliveries = await connection.fetch(
            "SELECT to_jsonb(d)::text FROM deliveries d WHERE state <> 'delivered'"
            " UNION ALL SELECT to_jsonb(l)::text FROM ordering_keys l "
            "WHERE due_at IS NOT NULL OR lease_until IS NOT NULL"
            " UNION ALL SELECT to_jsonb(b)::text FROM rate_limits b "
            "WHERE blocked_until > clock_timestamp() OR opened > 0"
        )
        return [f"by {time.time():.0f}:", *(row[0] for row in deliveries)]
    finally:
        await connection.close()


#: Records in the database, in the same transactions, each claim with its time and its rate limits.
_WITNESS = """
CREATE TABLE seen_claims (tx xid8, at timestamptz);
CREATE TABLE seen_rate_limits (tx xid8, key text, was_blocked_until timestamptz, blocked_until timestamptz);
CREATE FUNCTION see_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO seen_claims VALUES (pg_current_xact_id(), NEW.claimed_at); RETURN NULL; END $$;
CREATE FUNCTION see_bucket() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO seen_rate_limits VALUES (pg_current_xact_id(), NEW.key, OLD.blocked_until, NEW.blocked_until);
  RETURN NULL; END $$;
CREATE TRIGGER see_claim AFTER UPDATE ON deliveries FOR EACH ROW
  WHEN (NEW.state = 'sending' AND OLD.state <> 'sending') EXECUTE FUNCTION see_claim();
CREATE TRIGGER see_bucket AFTER UPDATE ON rate_limits FOR EACH ROW EXECUTE FUNCTION see_bucket()"""
_IMPATIENT = """
SELECT b.key, c.at::text, b.was_blocked_until::text FROM seen_rate_limits b JOIN seen_claims c ON c.tx = b.tx
WHERE b.was_blocked_until > c.at ORDER BY c.at"""
_CLOSINGS = (
    "SELECT count(DISTINCT (key, blocked_until)) FROM seen_rate_limits "
    "WHERE blocked_until IS DISTINCT FROM was_blocked_until"
)


async def watch_claims(dsn: str) -> None:
    """Record in the database which claims drew on which rate limits, so that no process clock matters."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute(_WITNESS)
    await connection.close()


async def impatient(dsn: str) -> tuple[list[tuple[str, ...]], int]:
    """Return the claims on closed rate limits, and how often a rate limit was closed; see `watch_claims`."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        rows = [tuple(row) for row in await connection.fetch(_IMPATIENT)]
        return rows, await connection.fetchval(_CLOSINGS)
    finally:
        await connection.close()


async def truth(dsn: str, but: str = "") -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return tasks by id, without those of one tenant, reported checkpoints by id, and the number of audit rows."""
    from spanpost.store.postgres import PostgresStore

    store = PostgresStore(dsn)
    await store.open()
    tasks = {t.task_id: t for t in await store.tasks(TaskQuery(limit=1_000_000)) if t.tenant != but}
    checkpoints = {str(c.id): c for c in await store.reader.checkpoints(limit=1_000_000)}
    rows = (await store.counts())["agent_events"]
    await store.close()
    return tasks, checkpoints, rows
