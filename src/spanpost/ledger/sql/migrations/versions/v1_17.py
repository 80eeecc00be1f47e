"""A key for the hashes that stand in the place of secrets: a table of one row, which older versions do not mind."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.17"
down_revision = "1.15"

KEY = table(
    "redaction_key",
    "The key of the hashes in [redacted:kind:length:hash]. Who reads it can try short secrets: grant it to no reading role. "
    "Not used where redaction.hash_key is set.",
    [
        ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "There is one row."),
        ("key", "bytea NOT NULL", "32 random bytes, written by the first process that opens the database."),
    ],
)


def upgrade() -> None:
    """Add the table."""
    connection = op.get_bind()
    for statement in KEY:
        connection.exec_driver_sql(statement)
