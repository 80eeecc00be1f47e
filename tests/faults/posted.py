"""A fake Slack in a process of its own, and what a ledger holds that was posted to it."""

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

from spanpost.ledger.base import TaskQuery
from spanpost.testing.fake_slack import TOKEN
from tests.conftest import ROOT


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **more}


def settings(slack: str) -> dict[str, str]:
    """Return the environment of who posts to that Slack, as fast as it may be tried."""
    return {
        "SPANPOST_SLACK__TOKEN": TOKEN,
        "SPANPOST_SLACK__BASE_URL": slack,
        "SPANPOST_SLACK__TIMEOUT": "1",
        "SPANPOST_SLACK__SETTLE": "3",
        "SPANPOST_SLACK__EDITS_PER_MINUTE": "6000",
        "SPANPOST_SLACK__POSTS_PER_MINUTE": "12000",
        "SPANPOST_SLACK__POSTS_PER_CHANNEL_PER_MINUTE": "12000",
        "SPANPOST_SLACK__LOOKS_PER_MINUTE": "600",
        "SPANPOST_SLACK__VERBOSITY": "live",
    }


class Slack:
    """The fake Slack, as a process of its own."""

    def __init__(self, state: Path, *options: str) -> None:
        self._state = state
        command = [sys.executable, "-m", "spanpost.testing.fake_slack", "--state", str(state), *options]
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def end(self) -> Any:
        """Stop it; return its state."""
        self._process.terminate()
        self._process.wait(30)
        return json.loads(self._state.read_text())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


async def settled(dsn: str, seconds: float) -> Counter[str]:
    """Look until no letter waits or is under way, or the time is over; return the letters by state."""
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
            await asyncio.sleep(0.5)  # between two looks at other processes' work
    finally:
        await connection.close()


async def left(dsn: str) -> list[str]:
    """Say of each letter that is not delivered what it waits for: its own row, its lane's, and what closes the budgets."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        letters = await connection.fetch(
            "SELECT to_jsonb(d)::text FROM deliveries d WHERE state <> 'delivered'"
            " UNION ALL SELECT to_jsonb(l)::text FROM lanes l WHERE due_at IS NOT NULL OR lease_until IS NOT NULL"
            " UNION ALL SELECT to_jsonb(b)::text FROM buckets b WHERE blocked_until > clock_timestamp() OR opened > 0"
        )
        return [f"by {time.time():.0f}:", *(row[0] for row in letters)]
    finally:
        await connection.close()


async def truth(dsn: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return tasks by id, told checkpoints by id, and the number of audit rows."""
    from spanpost.ledger.postgres import PostgresLedger

    ledger = PostgresLedger(dsn)
    await ledger.open()
    tasks = {t.task_id: t for t in await ledger.tasks(TaskQuery(limit=10_000))}
    told = {str(c.id): c for c in await ledger.checkpoints(limit=1_000_000)}
    rows = (await ledger.counts())["agent_events"]
    await ledger.close()
    return tasks, told, rows
