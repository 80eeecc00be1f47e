"""Budgets of money and tokens: what is spent of them, and where they stand. A spanpost that is older counts nothing of them."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.10"
down_revision = "1.6"

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


def upgrade() -> None:
    """Add the table."""
    connection = op.get_bind()
    for statement in [*SPENDING, *LIMITS, "CREATE INDEX spending_now ON spending (ends_at)"]:
        connection.exec_driver_sql(statement)
