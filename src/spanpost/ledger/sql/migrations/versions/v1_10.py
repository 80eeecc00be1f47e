"""Budgets of money and tokens: what is spent of them, and where they stand. A spanpost that is older counts nothing of them."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table, view

revision = "1.10"
down_revision = "1.9"

SPENDING = table(
    "spending",
    "One row per budget, tenant, scope and period: what model calls that have settled came to. Whoever set no budget has none.",
    [
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        ("tenant", "text NOT NULL", "Whose it is."),
        ("scope", "jsonb NOT NULL", "Whom it is kept for: values by attribute, as the budget's `per` names them; {} for all."),
        ("began_at", "timestamptz NOT NULL", "When the period began, by the database's clock and the time zone of the settings."),
        ("ends_at", "timestamptz NOT NULL", "When it ends."),
        ("cost_usd", "numeric NOT NULL DEFAULT 0", "US dollars spent."),
        ("tokens", "bigint NOT NULL DEFAULT 0", "Input and output tokens used."),
        ("calls", "bigint NOT NULL DEFAULT 0", "Model calls."),
        ("unpriced", "bigint NOT NULL DEFAULT 0", "Those of them of which no cost is known: the true cost is higher."),
        ("limit_usd", "numeric", "The limit when it was counted last; null: none."),
        ("limit_tokens", "bigint", "The same for tokens."),
        ("warned", "double precision NOT NULL DEFAULT 0", "The highest share that was warned of."),
        ("changed_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was counted last."),
    ],
    rules=["PRIMARY KEY (budget, tenant, scope, began_at)"],
    options="WITH (fillfactor = 70)",
)


LIMITS = table(
    "provider_limits",
    "How often model providers held calls back, by account and day: rate limits, and quotas that are spent.",
    [
        ("tenant", "text NOT NULL", "Whose it is."),
        ("account", "text NOT NULL", "The account at the provider, as the agent says (agent.account); empty when it does not."),
        ("provider", "text NOT NULL", "Who serves the model; empty when unknown."),
        ("model", "text NOT NULL", "The model that was asked for."),
        ("kind", "text NOT NULL", "rate_limit, or quota."),
        ("day", "date NOT NULL", "The day (UTC), by the database's clock."),
        ("count", "bigint NOT NULL", "Calls, each once."),
        ("last_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When the last was recorded."),
    ],
    rules=["PRIMARY KEY (tenant, account, provider, model, kind, day)"],
)


_SHARE = """(SELECT max(greatest(coalesce(s.cost_usd / nullif(s.limit_usd, 0), 0), coalesce(s.tokens::numeric / nullif(s.limit_tokens, 0), 0)))
    FROM spending s WHERE s.tenant = g.tenant AND s.ends_at > now()
      AND s.scope IN ('{}'::jsonb, jsonb_build_object('agent.name', g.agent_name)))"""
HEALTH = view(
    "agent_health",
    "How each agent does: 100 less what each cause takes away. Of tasks that began in the last day, and those under way.",
    [
        ("tenant", "h.tenant", "Whose it is."),
        ("agent_name", "h.agent_name", "Who works."),
        ("score", "100 - h.errors - h.stalls - h.waiting - h.budget", "0 to 100."),
        ("errors", "h.errors", "Taken away, up to 50, for the share of ended tasks that failed."),
        ("stalls", "h.stalls", "Up to 20, for the share of tasks that stall or were interrupted."),
        ("waiting", "h.waiting", "Up to 15, for the share of open tasks that wait for a person for a quarter of an hour."),
        ("budget", "h.budget", "Up to 15, for a budget beyond 80 per cent: the agent's own, or its tenant's."),
        ("ended", "h.ended", "Tasks that came to an end of their own."),
        ("failed", "h.failed", "Those of them that failed."),
        ("interrupted", "h.interrupted", "Tasks whose process was gone."),
        ("open", "h.open", "Tasks under way."),
        ("stalled", "h.stalled", "Those of them that stall."),
        ("kept_waiting", "h.kept_waiting", "Those of them that wait long for a person."),
    ],
    f"""FROM (
  SELECT g.*, coalesce(floor(50.0 * g.failed / nullif(g.ended, 0) + 0.5), 0)::int AS errors,
    floor(20.0 * (g.stalled + g.interrupted) / g.tasks + 0.5)::int AS stalls,
    coalesce(floor(15.0 * g.kept_waiting / nullif(g.open, 0) + 0.5), 0)::int AS waiting,
    floor(15.0 * least(greatest(coalesce({_SHARE}, 0) - 0.8, 0), 0.2) / 0.2 + 0.5)::int AS budget
  FROM (
    SELECT t.tenant, t.agent_name, count(*)::int AS tasks,
      (count(*) FILTER (WHERE t.status IN ('complete', 'error') AND t.end_reason IS DISTINCT FROM 'interrupted'))::int AS ended,
      (count(*) FILTER (WHERE t.status = 'error' AND t.end_reason IS DISTINCT FROM 'interrupted'))::int AS failed,
      (count(*) FILTER (WHERE t.end_reason = 'interrupted' AND NOT t.is_open))::int AS interrupted,
      (count(*) FILTER (WHERE t.is_open))::int AS open,
      (count(*) FILTER (WHERE t.is_open AND t.phase = 'stalled'))::int AS stalled,
      (count(*) FILTER (WHERE t.is_open AND EXISTS (
        SELECT FROM approvals a WHERE a.task_uid = t.uid AND a.state = 'open' AND a.requested_at < now() - interval '15 min'
      )))::int AS kept_waiting
    FROM (
      SELECT o.uid, o.tenant, o.agent_name, o.status, o.end_reason, true AS is_open, spanpost_phase(o) AS phase FROM agent_tasks o
      WHERE o.status NOT IN ('complete', 'error', 'cancelled') AND o.announced AND o.agent_name <> ''
      UNION ALL
      SELECT e.uid, e.tenant, e.agent_name, e.status, e.end_reason, false, e.status FROM agent_tasks e
      WHERE e.started_at > now() - interval '1 day' AND e.status IN ('complete', 'error', 'cancelled') AND e.announced
        AND e.agent_name <> ''
    ) t GROUP BY 1, 2
  ) g
) h""",
)


def upgrade() -> None:
    """Add the table."""
    connection = op.get_bind()
    for statement in [*SPENDING, *LIMITS, *HEALTH, "CREATE INDEX spending_now ON spending (ends_at)"]:
        connection.exec_driver_sql(statement)
