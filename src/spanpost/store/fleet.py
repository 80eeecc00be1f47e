"""Figures of all open work on a database. One process at a time publishes them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from spanpost.model.fleet import (
    MOST_RETRIES,
    SHOWN,
    Archived,
    Fleet,
    Health,
    OpenApprovals,
    OpenTasks,
    RetentionLag,
    RetriedChain,
    Sealing,
    SinkQueue,
)
from spanpost.semconv import ALERT
from spanpost.store import access_tokens, budgets, journal

#: How long a turn lasts unless it is renewed. The publishing process renews it three times as often.
TURN = timedelta(seconds=30)
_TAKE = """
UPDATE heartbeats SET reported_by = $1, reported_until = clock_timestamp() + $2
WHERE reported_by = $1 OR reported_until IS NULL OR reported_until < clock_timestamp() RETURNING true"""
_LEAVE = "UPDATE heartbeats SET reported_by = NULL, reported_until = NULL WHERE reported_by = $1"
_LIVING = "status NOT IN ('complete', 'error', 'cancelled')"
_TASKS = f"""
SELECT spanpost_phase(t) AS status, t.agent_name, t.type AS task_type, t.environment, t.tenant, count(*)::int AS count,
  greatest(max(extract(epoch FROM clock_timestamp() -
    CASE WHEN clock_timestamp() - t.last_seen_at < '1 min' THEN t.last_seen_at
      ELSE spanpost_last_active(t) END)), 0)::float8 AS stall,
  max(t.context_used_tokens::float8 / nullif(t.context_window_tokens, 0)) AS context_share,
  min((t.context_forecast->>'seconds')::float8) AS context_ahead,
  count(*) FILTER (WHERE NOT (t.loop->>'is_dismissed')::boolean)::int AS looping
FROM agent_tasks t WHERE t.{_LIVING} AND NOT (t.type IS NOT DISTINCT FROM '{ALERT}' AND t.agent_name IS NULL)
GROUP BY 1, 2, 3, 4, 5"""
#: A question with an id is open until it is decided here, whatever telemetry says. Without an id, telemetry
#: closes it.
_APPROVALS = f"""
SELECT t.agent_name, t.environment, t.tenant, count(*)::int AS count,
  greatest(max(extract(epoch FROM clock_timestamp() - greatest(a.recorded_at, a.requested_at))), 0)::float8 AS oldest
FROM agent_tasks t JOIN approvals a ON a.task_uid = t.uid AND a.state = 'open' WHERE t.{_LIVING} GROUP BY 1, 2, 3"""
#: Each failed task at the end of its chain of retries, and the tasks before it. A retry that began more than a day
#: ago is not looked for.
_RETRIED = f"""
WITH RECURSIVE chain AS (
  SELECT t.uid, t.tenant, t.agent_name, t.environment, t.retry_of, 1 AS retries
  FROM agent_tasks t WHERE t.started_at > clock_timestamp() - interval '1 day' AND t.status = 'error'
    AND t.ended_at > clock_timestamp() - interval '1 hour' AND t.retry_of IS NOT NULL
    AND NOT EXISTS (SELECT FROM agent_tasks n WHERE n.retry_of = t.task_id AND n.tenant = t.tenant)
  UNION
  SELECT c.uid, c.tenant, c.agent_name, c.environment, p.retry_of, c.retries + 1
  FROM chain c JOIN agent_tasks p ON p.task_id = c.retry_of AND p.tenant = c.tenant
  WHERE p.retry_of IS NOT NULL AND c.retries < {MOST_RETRIES}
)
SELECT agent_name, environment, tenant, max(retries) AS retries FROM chain GROUP BY 1, 2, 3"""
_DELIVERIES = """
SELECT sink, sum(waiting)::int AS waiting, max(oldest)::float8 AS oldest, sum(dead)::int AS dead FROM (
  SELECT sink, count(*) AS waiting, greatest(max(extract(epoch FROM clock_timestamp() - born_at)), 0) AS oldest,
    0 AS dead
  FROM deliveries WHERE state IN ('waiting', 'sending') GROUP BY sink
  UNION ALL SELECT sink, 0, 0, count(*) FROM deliveries WHERE state = 'dead' GROUP BY sink
) AS each GROUP BY sink"""
_CLOSED = """
SELECT key, CASE WHEN refused THEN 'refused' WHEN opened > 0 THEN 'failing' ELSE 'throttled' END
FROM rate_limits WHERE blocked_until > clock_timestamp() OR opened > 0"""
#: Of the newest deliveries: a sink that had none among them has been quiet for long.
_DELIVERED = """
SELECT sink, max(sent_at) FROM (SELECT sink, state, sent_at FROM deliveries ORDER BY id DESC LIMIT 5000) AS newest
WHERE state = 'delivered' AND sent_at IS NOT NULL GROUP BY sink"""
_DEAD = "SELECT reason, count(*)::int FROM (SELECT reason FROM quarantine LIMIT 100000) AS kept GROUP BY 1"
_HEALTH = "SELECT tenant, agent_name, score, errors, stalls, waiting, budget FROM agent_health"
_SEALED = """
SELECT extract(epoch FROM clock_timestamp() - greatest(s.caught_up_at, (SELECT min(began_at) FROM seal_logs)))::float8
FROM seal_state s WHERE EXISTS (SELECT FROM seal_logs)"""
_PUBLISHED = """
SELECT way, max(extract(epoch FROM clock_timestamp() - coalesce(p.left_at, l.began_at)))::float8
FROM seal_publications p JOIN seal_logs l ON l.tenant = p.tenant WHERE p.size < l.size OR p.failure <> '' GROUP BY 1"""
_ARCHIVED = 'SELECT source AS "table", sum(rows)::int8 AS rows, sum(size)::int8 AS size FROM archives GROUP BY 1'
_RETENTION = """
SELECT greatest(extract(epoch FROM clock_timestamp() - coalesce(completed_at, failed_at)), 0)::float8 AS run_age,
  coalesce(greatest(extract(epoch FROM clock_timestamp() - due_since), 0), 0)::float8 AS overdue
FROM retention_progress WHERE coalesce(completed_at, failed_at) IS NOT NULL"""
_SCHEMA = "SELECT max(version_num) FROM spanpost_version"


async def figures(connection: Any, owner: UUID | None) -> Fleet | None:
    """Return the figures when it is the owner's turn to publish, else None; without an owner in any case."""
    if owner is not None and not await connection.fetchval(_TAKE, owner, TURN):
        return None
    closed = [(row[0], row[1]) for row in await connection.fetch(_CLOSED)]
    return Fleet(
        tasks=[OpenTasks(**dict(row)) for row in await connection.fetch(_TASKS)],
        approvals=[OpenApprovals(**dict(row)) for row in await connection.fetch(_APPROVALS)],
        retried=[RetriedChain(**dict(row)) for row in await connection.fetch(_RETRIED)],
        deliveries=[SinkQueue(**dict(row)) for row in await connection.fetch(_DELIVERIES)],
        health=[Health(**dict(row)) for row in await connection.fetch(_HEALTH)],
        spending=await budgets.listed(connection, None, SHOWN),
        closed_rate_limits=Counter(why for _, why in closed),
        circuits=Fleet.circuits_of(closed),
        delivered_at={row[0]: row[1] for row in await connection.fetch(_DELIVERED)},
        quarantined={row[0]: row[1] for row in await connection.fetch(_DEAD)},
        journal=await journal.depth(connection),
        sealing=await _sealing(connection),
        archived=[Archived(**dict(row)) for row in await connection.fetch(_ARCHIVED)],
        retention=next((RetentionLag(**dict(row)) for row in await connection.fetch(_RETENTION)), None),
        ending_tokens=await access_tokens.ending_soon(connection),
        schema_version=await connection.fetchval(_SCHEMA) or "",
    )


async def leave(connection: Any, owner: UUID) -> None:
    """End the owner's turn, if it has it."""
    await connection.execute(_LEAVE, owner)


async def _sealing(connection: Any) -> Sealing | None:
    lag = await connection.fetchval(_SEALED)
    if lag is None:
        return None
    return Sealing(lag=max(lag, 0.0), ways={row[0]: row[1] for row in await connection.fetch(_PUBLISHED)})
