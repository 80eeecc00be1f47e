"""Who was heard last: processes that send heartbeats, tasks, and whether anybody listened.

What a task's status is *now* is computed when it is read: `agent_tasks_now` for people, `spanpost_phase` for the ledger. A
spanpost of 1.1 goes on beside: it does not keep `agent_tasks.heard_at`, which is then as old as the last row that a newer one wrote.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns, table, view

revision = "1.2"
down_revision = "1.1"

TASKS = [("heard_at", "timestamptz NOT NULL DEFAULT now()", "When anything of it was recorded last, by the database's clock.")]

PRODUCERS = table(
    "producers",
    "Internal: processes that send heartbeats, one row each.",
    [
        ("key", "bytea PRIMARY KEY", "Hash of tenant and producer, and the letter p."),
        ("tenant", "text NOT NULL", "Whose it is."),
        ("producer", "text NOT NULL", "Its id, minted by itself."),
        ("seq", "bigint NOT NULL", "Number of its newest heartbeat."),
        ("at_ns", "bigint NOT NULL", "Time of its newest heartbeat by its own clock, Unix nanoseconds."),
        ("heard_at", "timestamptz NOT NULL", "The same by the database's clock."),
        ("lag", "interval NOT NULL", "Least time seen between its clock and the database's: what it is off, and the way."),
        ("beats_every", "interval NOT NULL", "How often it sends one."),
        ("roots", "bytea[] NOT NULL", "Open spans that have none above them in it: trace id and span id, 24 bytes."),
        ("traces", "bytea[] NOT NULL", "Their traces."),
        ("gone_at", "timestamptz", "When it was given up, by the database's clock; null while it is heard."),
    ],
    options="WITH (fillfactor = 70)",
)

WATCH = [
    *table(
        "watch",
        "Internal: one row. Since when somebody listens, and how long silence is borne.",
        [
            ("id", "boolean PRIMARY KEY DEFAULT true CHECK (id)", "There is one."),
            ("seen_at", "timestamptz NOT NULL DEFAULT now()", "When somebody listened last."),
            ("resumed_at", "timestamptz NOT NULL DEFAULT now()", "Since when, without an outage: silence counts from then on."),
            ("stall", "interval NOT NULL DEFAULT '5 min'", "Silence after which a task is stalled."),
            ("call", "interval NOT NULL DEFAULT '1 h'", "How long an open tool or model call explains silence."),
            ("outage", "interval NOT NULL DEFAULT '30 s'", "Nobody having listened for longer is an outage."),
        ],
        options="WITH (fillfactor = 50)",
    ),
    "INSERT INTO watch DEFAULT VALUES",
]

FUNCTIONS = [
    """
CREATE FUNCTION spanpost_heard(task agent_tasks) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  WITH RECURSIVE below AS (
    SELECT task.uid AS uid, task.heard_at AS heard_at, 0 AS depth
    UNION ALL
    SELECT t.uid, t.heard_at, b.depth + 1 FROM below b JOIN agent_tasks t ON t.parent_uid = b.uid
    WHERE t.ended_at IS NULL AND b.depth < 16
  )
  SELECT greatest(
    (SELECT max(b.heard_at) FROM below b),
    (SELECT max(p.heard_at) FROM producers p WHERE p.tenant = task.tenant AND p.traces @> ARRAY[task.trace_id] AND p.gone_at IS NULL),
    -- While nobody listens nobody is silent.
    (SELECT CASE WHEN w.seen_at < clock_timestamp() - w.outage THEN clock_timestamp() ELSE w.resumed_at END FROM watch w)
  )
$$""",
    "COMMENT ON FUNCTION spanpost_heard IS 'When a task was heard of last: itself, living tasks below it, its process.'",
    """
CREATE FUNCTION spanpost_phase(task agent_tasks) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  bears watch;
BEGIN
  IF task.ended_at IS NOT NULL OR task.status NOT IN ('starting', 'working', 'context_warning') THEN
    RETURN task.status;
  END IF;
  SELECT * INTO bears FROM watch;
  IF clock_timestamp() - task.heard_at < bears.stall OR clock_timestamp() - spanpost_heard(task) < bears.stall THEN
    RETURN task.status;
  END IF;
  IF EXISTS (
    WITH RECURSIVE below AS (
      SELECT task.uid AS uid, 0 AS depth
      UNION ALL
      SELECT t.uid, b.depth + 1 FROM below b JOIN agent_tasks t ON t.parent_uid = b.uid WHERE t.ended_at IS NULL AND b.depth < 16
    )
    SELECT FROM below b JOIN agent_events s ON s.task_uid = b.uid
    WHERE s.part = 1 AND s.role IN (2, 3) AND s.received_at > clock_timestamp() - bears.call
      AND NOT EXISTS (
        SELECT FROM agent_events e WHERE e.task_uid = b.uid AND e.part = 0 AND e.trace_id = s.trace_id AND e.span_id = s.span_id
      )
  ) THEN
    RETURN task.status;
  END IF;
  RETURN 'stalled';
END $$""",
    "COMMENT ON FUNCTION spanpost_phase IS 'A task''s status as it is now: stalled when it was not heard of for longer than is borne.'",
]

NOW = view(
    "agent_tasks_now",
    "Tasks with their status as it is now: silence is judged when they are read, by the database's clock.",
    [
        ("task_id", "t.task_id", "Public id."),
        ("name", "t.name", "Title that a person reads."),
        ("agent_name", "t.agent_name", "Who is working."),
        ("status", "spanpost_phase(t)", "Its status now; stalled when nothing was heard of it for longer than is borne."),
        ("end_reason", "t.end_reason", "Why it ended, when it ended; interrupted when its process is gone."),
        ("inferred", "t.inferred", "True when the status in agent_tasks was concluded rather than said."),
        ("progress", "t.progress", "Percent done, 0 to 100."),
        ("action", "t.action", "What it is doing now, one line."),
        ("step_name", "t.step_name", "Current step of its plan."),
        ("started_at", "t.started_at", "Start of its first span, by the sender's clock."),
        ("ended_at", "t.ended_at", "End of its run; null while it lives."),
        (
            "heard_at",
            "CASE WHEN t.ended_at IS NULL THEN spanpost_heard(t) ELSE t.heard_at END",
            "When it was heard of last, by the database's clock: itself, tasks below it, its process.",
        ),
        ("parent_task_id", "t.parent_task_id", "Public id of the task that started this one."),
        ("tenant", "t.tenant", "Whose it is."),
        ("uid", "t.uid", "Internal identity: agent_tasks.uid."),
    ],
    "FROM agent_tasks t",
)


def upgrade() -> None:
    """Add the column, the two tables, the functions and the view; tasks that live are as heard as their last change."""
    connection = op.get_bind()
    for statement in [
        *add_columns("agent_tasks", TASKS),
        "UPDATE agent_tasks SET heard_at = updated_at WHERE ended_at IS NULL",
        *PRODUCERS,
        "CREATE INDEX producers_traces ON producers USING gin (traces) WHERE gone_at IS NULL",
        *WATCH,
        "CREATE INDEX agent_tasks_living ON agent_tasks (trace_id) WHERE ended_at IS NULL OR end_reason = 'interrupted'",
        *FUNCTIONS,
        *NOW,
    ]:
        connection.exec_driver_sql(statement)
