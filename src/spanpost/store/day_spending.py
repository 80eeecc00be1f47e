"""What each day's model calls came to: the same rule for both stores, and its query in PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from spanpost.model.costs import SPEND_KEYS, DaySpend, SpendBy

#: The task's attribute, where it is not the call's own model.
FIELDS: Final = {"agent": "agent_name", "person": "requested_by", "repo": "repo"}
_FIGURES: Final = ("cost_usd", "calls", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens")
_ROWS: Final = """
SELECT width_bucket(u.at, $2::timestamptz[]) AS day, {key} AS key, {sums}
FROM model_usage u {join} WHERE u.tenant = $1 AND u.at >= ($2::timestamptz[])[1] AND u.at < $3 GROUP BY 1, 2"""


def day_of(day: datetime) -> str:
    """Return the date of a day by its begin, in the begin's own time zone."""
    return day.date().isoformat()


async def read(connection: Any, tenant: str, by: SpendBy, days: Sequence[datetime], until: datetime) -> list[DaySpend]:
    """Return the cost of each day by model, agent, person or repository.

    PostgreSQL is given the begin of each day: it may not know the name of a time zone that Python knows.
    """
    query = _ROWS.format(
        key="u.model" if by == "model" else f"coalesce(t.{FIELDS[by]}, '')",
        sums=", ".join(f"sum(u.{name}){'' if name == 'cost_usd' else '::bigint'} AS {name}" for name in _FIGURES),
        join="" if by == "model" else "LEFT JOIN agent_tasks t ON t.uid = u.task_uid",
    )
    rows = await connection.fetch(query, tenant, list(days), until)
    return gathered(DaySpend(**{**dict(row), "day": day_of(days[row["day"] - 1])}) for row in rows)


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
