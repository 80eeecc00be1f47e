"""When a context window will be full, which calls have no price, and what a task came to with all tasks below it.

What is added has a default or is null: a spanpost of 1.3 goes on beside.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns, view

revision = "1.4"
down_revision = "1.3"

TASKS = [
    ("unpriced_calls", "bigint NOT NULL DEFAULT 0", "Own model calls of which no cost is known; cost_usd is that of the others."),
    (
        "context_forecast",
        "jsonb",
        "When the window will be as full as is warned of: tokens, limit, calls, seconds, each of these two with _low and _high. "
        "Null when there is nothing to say.",
    ),
]

_SUMS = (
    ("llm_calls", "Model calls."),
    ("input_tokens", "Input tokens, cache included."),
    ("output_tokens", "Output tokens, reasoning included."),
    ("cache_read_tokens", "Part of the input that was read from the cache."),
    ("cache_write_tokens", "Part of the input that was written to the cache."),
    ("reasoning_tokens", "Part of the output that was reasoning."),
    ("cost_usd", "Cost in US dollars."),
    ("unpriced_calls", "Model calls of which no cost is known; cost_usd is that of the others."),
    ("tool_calls", "Tool calls."),
    ("tool_errors", "Tool calls that failed."),
)
TOTALS = view(
    "agent_task_totals",
    "What each task came to with all tasks below it. Null where none of them knows.",
    [
        ("uid", "t.uid", "The task: agent_tasks.uid."),
        ("tenant", "t.tenant", "Whose it is."),
        ("task_id", "t.task_id", "Its public id."),
        ("tasks", "s.tasks", "Tasks that are added up: itself and all below it."),
        *((name, f"s.{name}", text) for name, text in _SUMS),
    ],
    """FROM agent_tasks t CROSS JOIN LATERAL (
  WITH RECURSIVE below AS (
    SELECT t.uid AS uid
    UNION
    SELECT c.uid FROM below b JOIN agent_tasks c ON c.parent_uid = b.uid
  )
  SELECT count(*) AS tasks, """
    + ", ".join(f"sum(x.{name}) AS {name}" for name, _ in _SUMS)
    + """ FROM below b JOIN agent_tasks x ON x.uid = b.uid
) s""",
)


def upgrade() -> None:
    """Add the columns and the view."""
    connection = op.get_bind()
    for statement in [
        *add_columns("agent_tasks", TASKS),
        *TOTALS,
        "COMMENT ON COLUMN agent_tasks.context_window_source IS"
        " 'How the window is known: given, said, observed, table, default; empty when unknown.'",
    ]:
        connection.exec_driver_sql(statement)
