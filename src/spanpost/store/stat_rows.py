"""Sums over tasks, as PostgreSQL adds them up."""

from __future__ import annotations

from typing import Any, Final

from spanpost.model.queries import Sums

_START: Final = "coalesce(t.started_at, '-infinity'::timestamptz)"
STATS: Final = f"""
SELECT grouping(agent_name, day, status) AS which, agent_name, day::text, status, count(*) AS tasks,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
  sum(unpriced_calls) AS unpriced_calls, sum(llm_calls) AS llm_calls,
  sum(tool_calls) AS tool_calls, sum(tool_errors) AS tool_errors, count(seconds) AS ended,
  count(*) FILTER (WHERE status = 'error') AS failed, avg(seconds) AS seconds_mean,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS seconds_p95
FROM (
  SELECT t.agent_name, (t.started_at AT TIME ZONE 'UTC')::date AS day, spanpost_phase(t) AS status,
    t.input_tokens, t.output_tokens, t.cost_usd, t.unpriced_calls, t.llm_calls, t.tool_calls, t.tool_errors,
    extract(epoch FROM t.ended_at - t.started_at)::float8 AS seconds
  FROM agent_tasks t
  WHERE t.tenant = $1 AND {_START} >= $2 AND {_START} < $3 AND t.started_at IS NOT NULL AND t.announced
) found
GROUP BY GROUPING SETS ((), (agent_name), (day), (status))"""


def sums_of(row: Any, word: str | None) -> Sums:
    def count(name: str) -> int | None:
        return int(row[name]) if row[name] is not None else None

    return Sums(
        word=word,
        tasks=row["tasks"],
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cost_usd=row["cost_usd"],
        unpriced_calls=count("unpriced_calls") or 0,
        llm_calls=count("llm_calls") or 0,
        tool_calls=count("tool_calls") or 0,
        tool_errors=count("tool_errors") or 0,
        ended=row["ended"],
        failed=row["failed"],
        seconds_mean=row["seconds_mean"],
        seconds_p50=row["seconds_p50"],
        seconds_p95=row["seconds_p95"],
    )
