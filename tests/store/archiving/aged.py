"""Telemetry of long ago for tests of retention, and what a database holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from spanpost.model.deliveries import Receipt
from spanpost.model.interventions import Actor
from spanpost.model.observations import Observation
from spanpost.model.retention import KeptFor, RetentionRules
from spanpost.store.archiving import running
from spanpost.store.archiving.running import RetentionRun
from spanpost.store.archiving.sources import SOURCES
from spanpost.store.archiving.writing import Watch
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import SINK

KEEP = timedelta(days=190)
LONG_AGO = timedelta(days=300)
#: Columns that the database's clock has stamped.
_STAMPS = (
    ("task_state", "touched_at"), ("audit_rows", "received_at"), ("agent_tasks", "updated_at"),
    ("agent_checkpoints", "recorded_at"), ("task_artifacts", "recorded_at"), ("approvals", "recorded_at"),
    ("human_interventions", "recorded_at"), ("evaluations", "recorded_at"), ("model_usage", "at"),
    ("deliveries", "finalized_at"), ("deliveries", "born_at"), ("standing_approvals", "expires_at"),
    ("alerts", "reported_at"), ("launch_orders", "recorded_at"), ("quarantine", "last_at"), ("task_redirects", "at"),
)  # fmt: skip


def rules(directory: Path | None, **changed: Any) -> RetentionRules:
    """Return rules that keep everything for half a year, and placement for half of that."""
    kinds = KeptFor().by_kind
    given: dict[str, Any] = {**dict.fromkeys(kinds, KEEP), "placement": KEEP / 2, "directory": directory, **changed}
    return RetentionRules(**given)


def back(observations: list[Observation], by: timedelta = LONG_AGO) -> list[Observation]:
    """Return observations dated so long ago."""
    ns = int(by.total_seconds()) * 10**9
    times = ("at_ns", "start_ns", "end_ns")
    return [msgspec.structs.replace(o, **{t: getattr(o, t) - ns for t in times if getattr(o, t)}) for o in observations]


async def age(database: Any, by: timedelta = LONG_AGO) -> None:
    """Date everything that the database's clock has stamped until now so long ago."""
    for table, column in _STAMPS:
        await database.execute(f"UPDATE {table} SET {column} = {column} - $1::interval", by)


async def deliver(store: PostgresStore) -> None:
    """Deliver everything that waits."""
    while claimed := await store.outbox.claim([SINK], 50):
        for delivery in claimed:
            await store.outbox.finish(delivery, Receipt(ref={"ts": str(delivery.id)}))


async def retain(
    database: Any, given: RetentionRules, *, is_done: bool = True, watch: Watch = lambda step: None
) -> RetentionRun:
    """Run retention once."""
    return await running.run(database, given, is_done=is_done, actor=Actor(provider="cli", id="test"), watch=watch)


async def contents(database: Any) -> dict[str, list[str]]:
    """Return all rows that are archived, as text; audit rows as people read them, and no operations."""
    tables = {source.target for source in SOURCES.values()}
    shown = {"audit_rows": "agent_events", "agent_checkpoints": "agent_checkpoints"}
    found = {}
    for table in sorted(tables):
        rows = await database.fetch(f"SELECT to_jsonb(t) - 'xid' AS row FROM {shown.get(table, table)} t ORDER BY 1")
        found[table] = [row["row"] for row in rows if '"verb": "archive"' not in row["row"]]
    return found
