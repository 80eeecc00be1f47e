"""What telemetry tells of a decision stands beside a question, and every act names the database's role."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns

revision = "1.15"
down_revision = "1.14"

APPROVALS = [
    (
        "is_asked",
        "boolean NOT NULL DEFAULT false",
        "Spanpost itself is asked: the question bears its mark, or an agent waits. No telemetry answers it.",
    ),
    ("is_cut", "boolean NOT NULL DEFAULT false", "Not all of its words are kept as they were sent: it can only be denied."),
    ("told", "jsonb", "What telemetry tells of a decision: decision, by, comment, at. It decided nothing. Null: nothing."),
]
ACTS = [
    ("database_role", "text NOT NULL DEFAULT session_user", "The database's role by which the row was written."),
]


def upgrade() -> None:
    """Add the columns; a question's mark is now what its digest was."""
    connection = op.get_bind()
    for statement in [
        *add_columns("approvals", APPROVALS),
        "ALTER TABLE approvals DROP COLUMN digest",
        *add_columns("human_interventions", ACTS),
        "COMMENT ON COLUMN approvals.key IS 'What a button carries. Made of tenant, approval id, mark and the trace that asked.'",
        "COMMENT ON COLUMN approvals.mark IS"
        " 'Hash of the words: question, detail, options and risk, as spanpost computed it (SHA-256, hex).'",
        "COMMENT ON COLUMN approvals.task_uid IS 'The task that asked: agent_tasks.uid.'",
        "COMMENT ON COLUMN approvals.span IS 'Trace and span of the newest asking, hex, with a dash between.'",
        "COMMENT ON COLUMN approvals.source IS"
        " 'slack, api, cli, spanpost (a deadline). Empty for a decision that only telemetry told: no person made it here.'",
        "COMMENT ON COLUMN human_interventions.actor IS 'Who, for people. Of the command line: who was claimed by --as.'",
        "COMMENT ON COLUMN human_interventions.actor_id IS"
        " 'Who did it: provider, team and id. Of the command line the operating system''s user and host.'",
        "COMMENT ON COLUMN human_interventions.result IS"
        " 'What became of it: done, decided, void, expired, too_late, hidden, refused or unknown.'",
    ]:
        connection.exec_driver_sql(statement)
