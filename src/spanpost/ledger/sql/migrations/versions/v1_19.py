"""The journal: requests that are answered and not recorded yet."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.19"
down_revision = "1.18"

JOURNAL = table(
    "journal",
    "One row per part of requests that are answered and not recorded yet. Whoever records it deletes it in the same transaction.",
    [
        ("tenant", "text NOT NULL", "Tenant of all its observations."),
        ("id", "bigint GENERATED ALWAYS AS IDENTITY", "Its place in the order of arrival."),
        ("received_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was written, by the database's clock."),
        ("observations", "integer NOT NULL", "How many observations it holds."),
        ("domains", "integer NOT NULL", "How many locks its recording takes: rows are recorded together up to a number of them."),
        (
            "body",
            "bytea NOT NULL",
            "The observations as they were read, without secrets and without content that is not kept: MessagePack, deflated.",
        ),
    ],
    rules=["PRIMARY KEY (tenant, id)"],
    options="WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
)


def upgrade() -> None:
    """Add the table. Its bodies are deflated already."""
    connection = op.get_bind()
    for statement in [*JOURNAL, "ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL"]:
        connection.exec_driver_sql(statement)
