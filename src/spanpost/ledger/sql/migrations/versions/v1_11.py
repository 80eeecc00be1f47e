"""What followed a task is looked for: its retries, what its end started, and what an order came to."""

from __future__ import annotations

from alembic import op

revision = "1.11"
down_revision = "1.10"


def upgrade() -> None:
    """Add three indexes, over the few tasks that say such a thing."""
    connection = op.get_bind()
    for column in ("retry_of", "caused_by", "order_id"):
        connection.exec_driver_sql(
            f"CREATE INDEX agent_tasks_{column} ON agent_tasks USING hash ({column}) WHERE {column} IS NOT NULL"
        )
