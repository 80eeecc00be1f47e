"""Questions to people that are kept until they are answered, and what people did.

What is added has a default or is null: a spanpost of 1.4 goes on beside. It writes no `approvals`; what it takes in can be answered
once a newer one has written the task.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns, table

revision = "1.5"
down_revision = "1.4"

APPROVALS = table(
    "approvals",
    "One row per question to a person, and what became of it. Asked again in other words it is another.",
    [
        ("key", "uuid PRIMARY KEY", "What a button carries. Made of tenant, approval id and digest."),
        ("tenant", "text NOT NULL", "Whose it is; part of every identity."),
        ("approval_id", "text NOT NULL", "The question's id, as the agent gave it."),
        ("digest", "text NOT NULL", "Hash of what is asked: question, detail, options, risk and mark."),
        ("mark", "text NOT NULL", "The agent's own mark of what it asks; empty where it gave none."),
        ("task_uid", "uuid NOT NULL", "The task that asked last: agent_tasks.uid."),
        ("span", "text NOT NULL", "Trace and span of that asking, hex, with a dash between."),
        ("question", "text NOT NULL", "What is asked: untrusted text."),
        ("detail", "text NOT NULL", "Longer text behind the question."),
        ("options", "jsonb NOT NULL", "Answers that the agent offers; empty: approve or deny."),
        ("risk", "text NOT NULL", "Risk as the agent says."),
        ("requested_at", "timestamptz NOT NULL", "When it was asked last, by the sender's clock."),
        ("expires_at", "timestamptz", "When its time is over, by the database's clock; null: never."),
        ("at_expiry", "text NOT NULL", "What happens then: wait, deny, escalate or expire."),
        ("escalated_at", "timestamptz", "When it was told once more because nobody had answered."),
        (
            "state",
            "text NOT NULL CHECK (state IN ('open', 'decided', 'void', 'expired'))",
            "open, decided, void (asked again in other words) or expired (nobody decided in time).",
        ),
        ("decision", "text NOT NULL", "approve, deny, expired, or one of the options; empty while it is open."),
        ("by", "text NOT NULL", "Who decided, for people."),
        ("by_id", "text NOT NULL", "Who decided: provider, team and id; empty where the agent told it."),
        ("comment", "text NOT NULL", "What they said with it."),
        ("source", "text NOT NULL", "slack, api, cli, spanpost (a deadline); empty where the agent told it."),
        ("decided_at", "timestamptz", "When it was decided."),
        ("recorded_at", "timestamptz NOT NULL DEFAULT now()", "When it was recorded, by the database's clock."),
    ],
    options="WITH (fillfactor = 80)",
)

ACTS = [
    ("number", "bigint GENERATED ALWAYS AS IDENTITY", "Ascending; by which agents ask for what is new."),
    (
        "key",
        "uuid",
        "What a person's act is about: approvals.key, or agent_tasks.uid as it was then. Null for what telemetry told.",
    ),
    ("once", "text", "The same for every repeat of the same act; null for what telemetry told."),
    (
        "verb",
        "text NOT NULL DEFAULT ''",
        "What a person did: approve, deny, choose, cancel, retry, pause, resume, mute, unmute, message.",
    ),
    ("result", "text NOT NULL DEFAULT ''", "What became of it: done, decided, void, expired, too_late, refused or unknown."),
    ("refusal", "text NOT NULL DEFAULT ''", "Why the rules of who may refused it."),
    ("actor_id", "text NOT NULL DEFAULT ''", "Who did it: provider, team and id."),
    ("actor_email", "text NOT NULL DEFAULT ''", "Their address, as verified by the provider; empty when unknown."),
    ("verdict", "jsonb", "What was answered, and is to every repeat."),
]

KNOCKS = table(
    "desk_requests",
    "Internal: requests that came to the desk, so that none is heard twice.",
    [
        ("key", "bytea PRIMARY KEY", "Hash of what makes a request the same."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it came, by the database's clock."),
    ],
)


def upgrade() -> None:
    """Add the tables and the columns; what is open already gets its row when its task changes."""
    connection = op.get_bind()
    for statement in [
        *APPROVALS,
        "CREATE INDEX approvals_id ON approvals USING hash (approval_id)",
        "CREATE INDEX approvals_open ON approvals (requested_at) WHERE state = 'open'",
        "CREATE INDEX approvals_task ON approvals (task_uid)",
        *add_columns("human_interventions", ACTS),
        "CREATE UNIQUE INDEX human_interventions_once ON human_interventions (once, tenant) WHERE once IS NOT NULL",
        "CREATE INDEX human_interventions_number ON human_interventions (task_uid, number) WHERE result = 'done'",
        "CREATE UNIQUE INDEX human_interventions_numbers ON human_interventions (number)",
        *KNOCKS,
        "CREATE INDEX desk_requests_at ON desk_requests (at)",
        "CREATE INDEX deliveries_shown ON deliveries USING gin ((receipt -> 'ref') jsonb_path_ops) WHERE receipt IS NOT NULL",
        "COMMENT ON COLUMN human_interventions.action IS"
        " 'requested; resolved for a decision that stands; else what was asked, as in verb.'",
        "COMMENT ON COLUMN human_interventions.via IS 'Where it came from: telemetry, slack, api, cli, or spanpost (a deadline).'",
        "COMMENT ON COLUMN agent_events.part IS '0 ended span, 1 span not yet ended, 2 span event, 3 link, 4 log record,"
        " 5 a person''s act, recorded by spanpost itself.'",
    ]:
        connection.exec_driver_sql(statement)
