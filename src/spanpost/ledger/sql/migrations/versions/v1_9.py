"""Alerts that came home: a table, which older versions do not mind.

A spanpost of before it takes no alerts, and cannot carry the letters of one: send alerts once all run this version.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.9"
down_revision = "1.7"

ALERTS = table(
    "alerts",
    "One row per alert from when it fires until it is over. The same alert that fires again later is another.",
    [
        ("id", "uuid PRIMARY KEY", "Made of tenant, fingerprint and starts_at. agent_checkpoints.ref where a task is told of it."),
        ("tenant", "text NOT NULL", "Whose it is; part of every identity."),
        ("source", "text NOT NULL", "alertmanager or grafana."),
        ("fingerprint", "text NOT NULL", "What the sender knows it by: a hash of its labels."),
        ("starts_at", "timestamptz NOT NULL", "Since when it fires, by the sender's clock."),
        ("ends_at", "timestamptz", "When it was over; null while it fires."),
        ("name", "text NOT NULL", "The label alertname: untrusted text, as all that follow."),
        ("severity", "text NOT NULL", "The label severity."),
        ("summary", "text NOT NULL", "The annotation summary."),
        ("description", "text NOT NULL", "The annotation description: what to do."),
        ("links", "jsonb NOT NULL", "Runbook, Dashboard, Panel, Query, Silence: http and https alone."),
        ("labels", "jsonb NOT NULL", "All its labels."),
        ("annotations", "jsonb NOT NULL", "All its annotations."),
        ("trace_id", "bytea NOT NULL", "The task that it is told of: its trace; of one that names no task a trace of its own."),
        ("span_id", "bytea NOT NULL", "And its span."),
        ("received_at", "timestamptz NOT NULL DEFAULT now()", "When it came first."),
        ("told_at", "timestamptz NOT NULL DEFAULT now()", "When it was told last."),
        ("repeats", "bigint NOT NULL DEFAULT 0", "How often it was told without anything new."),
    ],
    options="WITH (fillfactor = 80)",
)


def upgrade() -> None:
    """Add the table."""
    connection = op.get_bind()
    for statement in [*ALERTS, "CREATE INDEX alerts_newest ON alerts (tenant, starts_at DESC)"]:
        connection.exec_driver_sql(statement)
