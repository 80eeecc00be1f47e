"""What the API asks: tasks by page, by trace, and checkpoints in an order that nothing is put into afterwards.

A spanpost of 1.6 goes on beside: what it tells has its transaction too (the default), and `recorded_at` in place of `first_at`.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns

revision = "1.7"
down_revision = "1.6"

# The default is set after the columns are there: what was told before has none, is not streamed, and no row is written anew.
CHECKPOINTS = [
    ("xid", "xid8", "Transaction that told it first, for streams (`/api/events`); null for what was told before schema 1.7."),
    ("first_at", "timestamptz", "As at, when it was told first: never changes."),
]


def upgrade() -> None:
    """Add the columns and the indexes."""
    connection = op.get_bind()
    for statement in [
        *add_columns("agent_checkpoints", CHECKPOINTS),
        "ALTER TABLE agent_checkpoints ALTER COLUMN xid SET DEFAULT pg_current_xact_id()",
        "CREATE INDEX agent_checkpoints_stream ON agent_checkpoints (xid) WHERE xid IS NOT NULL",
        "CREATE INDEX agent_tasks_page ON agent_tasks (tenant, (coalesce(started_at, '-infinity'::timestamptz)) DESC, uid DESC)",
        "CREATE INDEX agent_tasks_trace ON agent_tasks (trace_id)",
    ]:
        connection.exec_driver_sql(statement)
