"""Roles of the database that may do no more than they need, and sessions of people that can be ended.

`human_interventions` is only inserted into from here on: questions, and answers that agents tell, stand in `approvals` alone.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.18"
down_revision = "1.17"

SECRET = table(
    "session_secret",
    "One row: what the sessions of people who logged in are signed with, the same in all gateways. A new secret ends all sessions.",
    [
        ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "True: there is one row."),
        ("secret", "bytea NOT NULL CHECK (length(secret) >= 32)", "Random bytes."),
        ("made_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was made, by the database's clock."),
    ],
)
ENDED = table(
    "ended_sessions",
    "One row per session that was ended by logging out, until it would have run out.",
    [
        ("id", "text PRIMARY KEY", "The session's id, as its cookie says."),
        ("until", "timestamptz NOT NULL", "When it would have run out; after that the row is let go of."),
    ],
)
GRANTED = table(
    "granted_roles",
    "One row per role of the database that `spanpost db grant` gave rights: an upgrade gives it those on new tables, too.",
    [
        ("role", "text PRIMARY KEY", "The role's name."),
        ("kind", "text NOT NULL CHECK (kind IN ('writer', 'reader'))", "What it may: record, or read."),
        ("granted_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was granted that last, by the database's clock."),
    ],
)
#: A role that may not make tables has the months of the audit rows made by this: it takes nothing from who calls it.
MONTHS = [
    """
DO $$ BEGIN
  EXECUTE format('ALTER FUNCTION spanpost_keep_months() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
END $$""",
    "REVOKE EXECUTE ON FUNCTION spanpost_keep_months(), spanpost_add_month(timestamptz) FROM PUBLIC",
]
COMMENTS = [
    "COMMENT ON TABLE human_interventions IS"
    " 'One row per act of a person through spanpost, granted or refused, and per deadline that decided. Rows are added, and neither changed nor deleted.'",
    "COMMENT ON COLUMN human_interventions.task_uid IS"
    " 'The task that it counts to now: agent_tasks.uid. It alone is written again, when that task becomes part of another.'",
    "COMMENT ON COLUMN human_interventions.action IS 'resolved for a decision that stands; else what was asked, as in verb.'",
    "COMMENT ON COLUMN human_interventions.via IS 'Where it came from: slack, api, cli, or spanpost (a deadline).'",
    "COMMENT ON COLUMN human_interventions.key IS 'What an act is about: approvals.key, or agent_tasks.uid as it was then.'",
    "COMMENT ON COLUMN human_interventions.once IS 'The same for every repeat of the same act; null for a deadline.'",
]


def upgrade() -> None:
    """Add three tables, and have the months be made with the owner's rights."""
    connection = op.get_bind()
    for statement in [*SECRET, *ENDED, *GRANTED, *MONTHS, *COMMENTS]:
        connection.exec_driver_sql(statement)
