"""What each day's model calls came to: the same rule for both stores, and its query in PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from spanpost.model.costs import SPEND_KEYS, DaySpend, SpendBy

#: The task's attribute, where it is not the call's own model.
FIELDS: Final = {"agent": "agent_name", "person": "requested_by", "repo": "repo"}
_FIGURES: Final = ("cost_usd", "calls", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens")
_ROWS: Final = """
SELECT (u.at AT TIME ZONE $4)::date::text AS day, {key} AS key, {sums}
FROM model_usage u {join} WHERE u.tenant = $1 AND u.at >= $2 AND u.at < $3 GROUP BY 1, 2"""


async def read(
    connection: Any, tenant: str, by: SpendBy, since: datetime, until: datetime, zone: str
) -> list[DaySpend]:
    """Return the cost of each day by model, agent, person or repository."""
    query = _ROWS.format(
        key="u.model" if by == "model" else f"coalesce(t.{FIELDS[by]}, '')",
        sums=", ".join(f"sum(u.{name}){'' if name == 'cost_usd' else '::bigint'} AS {name}" for name in _FIGURES),
        join="" if by == "model" else "LEFT JOIN agent_tasks t ON t.uid = u.task_uid",
    )
    rows = await connection.fetch(query, tenant, since, until, zone)
    return gathered(DaySpend(**dict(row)) for row in rows)


def gathered(rows: Iterable[DaySpend]) -> list[DaySpend]:
    """Return rows by day and key; those beyond the `SPEND_KEYS` that cost most are one (None)."""
    rows = list(rows)
    cost: dict[str | None, tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for row in rows:
        usd, tokens = cost[row.key]
        cost[row.key] = usd + row.cost_usd, tokens + row.input_tokens + row.output_tokens
    shown = set(sorted(cost, key=lambda key: cost[key], reverse=True)[:SPEND_KEYS])
    sums: dict[tuple[str, str | None], list[Any]] = {}
    for row in rows:
        key = row.day, row.key if row.key in shown else None
        known = sums.setdefault(key, [Decimal(0), 0, 0, 0, 0, 0])
        for n, name in enumerate(_FIGURES):
            known[n] += getattr(row, name)
    return [
        DaySpend(day=day, key=key, **dict(zip(_FIGURES, sums[day, key], strict=True)))
        for day, key in sorted(sums, key=lambda one: (one[0], one[1] is None, one[1] or ""))
    ]
