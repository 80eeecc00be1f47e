"""Checkpoints carry the message that their English text renders, for other languages."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns

revision = "1.20"
down_revision = "1.18"

CHECKPOINTS = [
    (
        "message",
        "jsonb",
        "The message that text renders in English: its key, and its values, which are untrusted text. Null for an agent's own words.",
    )
]


def upgrade() -> None:
    """Add the column."""
    connection = op.get_bind()
    for statement in add_columns("agent_checkpoints", CHECKPOINTS):
        connection.exec_driver_sql(statement)
