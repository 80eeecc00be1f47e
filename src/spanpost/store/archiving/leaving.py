"""How the rows of each table leave it: archived (`sources`), pruned without a file, by themselves, or never.

`tests/store/archiving/test_leaving.py` compares this with the database's catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from spanpost.model.retention import RetentionRules

#: Tables whose old rows are deleted without a file, and their kinds in the settings. `retention_floors` says what is
#: old and may be deleted at all.
PRUNED: Final[Mapping[str, str]] = {
    # Sums over rows that are archived: `model_usage` and the audit rows. Raises by people are interventions as well.
    "spending": "operations",
    "provider_limits": "operations",
    # Of a question that was archived, or of a task that was.
    "budget_questions": "interventions",
    "task_redirects": "tasks",
    # Expired ones of budgets that are not asked any more; all others end by themselves.
    "budget_reservations": "operations",
}
#: Tables whose rows end with what they serve.
BY_THEMSELVES: Final[Mapping[str, str]] = {
    "attribute_sets": "deleted when no audit row names them",
    "ordering_keys": "deleted when they have no deliveries",
    "task_state": "deleted `placement` after their trace is over",
    "timers": "deleted when they are due, or with the task state",
    "journal": "deleted when the request is recorded",
    "processes": "deleted a while after the process has gone",
    "interaction_requests": "deleted after an hour",
    "ended_sessions": "deleted when the session would have expired",
    "erased_traces": "the newest million are kept",
    "tenant_totals": "deleted when the tenant has no rows",
}
#: Tables whose rows stay, and why.
FOR_EVER: Final[Mapping[str, str]] = {
    "erasures": "they prove what was erased, and name no person",
    "archives": "they name the files, which are yours to keep or delete",
    "seal_logs": "the sealed log",
    "sealed_rows": "the sealed log",
    "seal_entries": "the sealed log",
    "seal_tiles": "the sealed log",
    "seal_checkpoints": "the sealed log",
    "seal_notes": "the sealed log",
    "seal_keys": "the sealed log",
    "seal_publications": "one row for each tenant and way",
    "seal_state": "one row",
    "access_tokens": "they say whose token acted; few",
    "slack_installations": "one row for each workspace",
    "kafka_offsets": "one row for each partition",
    "rate_limits": "one row for each destination",
    "budgets_begun": "one row for each budget in the settings",
    "granted_roles": "one row for each database role",
    "heartbeats": "one row",
    "redaction_key": "one row",
    "session_secret": "one row",
    "retention_floors": "one row for each table",
    "retention_progress": "one row",
    "spanpost_version": "one row",
}
_HAS_TENANT: Final = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'tenant')"""


async def prune(connection: Any, rules: RetentionRules, now: datetime, *, is_done: bool) -> int:
    """Delete old rows of the pruned tables, or only count them; return their number."""
    found = 0
    own = sorted(rules.tenants)
    for table, kind in PRUNED.items():
        if not await connection.fetchval(_HAS_TENANT, table):
            longest = max(rules.kept_for(kind, tenant) for tenant in ("", *own))
            found += await _prune(connection, table, now - longest, [], is_done=is_done)
            continue
        for tenant in own:
            found += await _prune(connection, table, now - rules.kept_for(kind, tenant), [tenant], is_done=is_done)
        found += await _prune(connection, table, now - rules.by_kind[kind], own, is_done=is_done, is_rest=True)
    return found


async def _prune(
    connection: Any, table: str, before: datetime, tenants: list[str], *, is_done: bool, is_rest: bool = False
) -> int:
    found = 0
    query = "SELECT spanpost_prune($1, $2, $3, $4, $5)"
    while count := await connection.fetchval(query, table, before, tenants, is_rest, is_done):
        found += count
        if not is_done:
            break
    return found
