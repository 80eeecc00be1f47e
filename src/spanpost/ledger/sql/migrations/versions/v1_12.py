"""What tasks used, by model and time; and since when each budget counts. A spanpost that is older keeps nothing of both."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.12"
down_revision = "1.11"

USAGE = table(
    "model_usage",
    "What model calls that have settled came to: by task, by the model that each call names, and by quarter of an hour. The sum of a"
    " task's rows is what counters and budgets have of it; of what was too high a later row is less than 0.",
    [
        ("task_uid", "uuid NOT NULL", "The task it belongs to: agent_tasks.uid."),
        ("model", "text NOT NULL", "The model; empty where the calls name none."),
        ("at", "timestamptz NOT NULL", "When the quarter of an hour began in which it was counted, by the database's clock."),
        ("tenant", "text NOT NULL", "Whose it is."),
        ("calls", "bigint NOT NULL", "Model calls, each once."),
        ("unpriced", "bigint NOT NULL", "Those of them of which no cost is known: the true cost is higher."),
        ("input_tokens", "bigint NOT NULL", "Input tokens, cache included."),
        ("output_tokens", "bigint NOT NULL", "Output tokens, reasoning included."),
        ("cache_read_tokens", "bigint NOT NULL", "Part of the input that was read from the cache."),
        ("cache_write_tokens", "bigint NOT NULL", "Part of the input that was written to the cache."),
        ("reasoning_tokens", "bigint NOT NULL", "Part of the output that was reasoning."),
        ("cost_usd", "numeric NOT NULL", "Cost in US dollars."),
    ],
    rules=["PRIMARY KEY (task_uid, model, at)"],
    options="WITH (fillfactor = 80)",
)

SINCE = table(
    "budgets_begun",
    "Periods of budgets in which what was used before is counted: a budget that is newly set begins with that.",
    [
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        ("began_at", "timestamptz NOT NULL", "When the period began."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was counted first."),
    ],
    rules=["PRIMARY KEY (budget, began_at)"],
)

#: What was used before there was such a table: by a task's last model, when it ended.
_BEFORE = """
INSERT INTO model_usage
SELECT uid, coalesce(model, ''), date_bin('15 min', updated_at, 'epoch'), tenant, llm_calls, coalesce(unpriced_calls, 0),
  coalesce(input_tokens, 0), coalesce(output_tokens, 0), coalesce(cache_read_tokens, 0), coalesce(cache_write_tokens, 0),
  coalesce(reasoning_tokens, 0), coalesce(cost_usd, 0)
FROM agent_tasks WHERE ended_at IS NOT NULL AND (llm_calls > 0 OR cost_usd > 0 OR input_tokens > 0)"""


def upgrade() -> None:
    """Add the tables, with what is known."""
    connection = op.get_bind()
    known = "INSERT INTO budgets_begun (budget, began_at) SELECT DISTINCT budget, began_at FROM spending"
    for statement in [*USAGE, *SINCE, _BEFORE, known, "CREATE INDEX model_usage_at ON model_usage (at)"]:
        connection.exec_driver_sql(statement)
