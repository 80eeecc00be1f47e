"""Who tells of all processes: gauges that describe the database are published by one of those that use it.

A spanpost of 1.2 goes on beside: it publishes what it saw itself, as before.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns

revision = "1.3"
down_revision = "1.2"

WATCH = [
    ("told_by", "uuid", "Process that publishes the gauges of all; null when nobody does."),
    ("told_until", "timestamptz", "Until when it is its turn, by the database's clock; it asks for more before."),
]


def upgrade() -> None:
    """Add the columns, and the index by which open tasks are counted."""
    connection = op.get_bind()
    for statement in [
        *add_columns("watch", WATCH),
        "CREATE INDEX agent_tasks_open ON agent_tasks (status) WHERE status NOT IN ('complete', 'error', 'cancelled')",
    ]:
        connection.exec_driver_sql(statement)
