"""The house: tasks, checkpoints, events, artifacts, interventions, deliveries, and what the ledger keeps for itself.

Why `agent_events` is partitioned by month of the event's own time
------------------------------------------------------------------

PostgreSQL demands the partition column in every unique key. Partitioned by `received_at`, a repeat after midnight would be a
second row. The event's own time (`occurred_at`, as sent, never clamped to a window around now) is the same in every repeat:
it is computed from `at_ns`, which `content_hash` covers, so equal (event_id, content_hash) implies equal occurred_at, and
the key (occurred_at, event_id, content_hash) refuses exactly what (event_id, content_hash) would.

What it buys over one table (about 1 kB a row; 100 million rows are 100 GB): the past is dropped as a table instead of
deleted row by row; with time in front the key's index grows at its right edge instead of at random pages, serves time ranges
without another index, and the month that is written stays small enough for memory. What it costs: a look-up by trace or task
without a time range visits each month's index (a handful, by retention), and months must exist beforehand.

So: `spanpost_add_month` makes a month; the ledger keeps the previous, this and the next two when it opens and daily after.
Whatever falls outside (senders with broken clocks, replayed recordings, a role that may not make tables) goes to
`agent_events_rest` and is as good there; when a month is made later, its rows are moved out of the rest. Nothing is refused.

No foreign keys: events come before the tasks that they turn out to belong to, and tasks merge.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table, view

revision = "1.0"
down_revision = None

_TENANT = ("tenant", "text NOT NULL", "Whose it is; part of every identity.")
_AT_TASK = ("task_uid", "uuid NOT NULL", "The task it belongs to: agent_tasks.uid.")
_TRACE = ("trace_id", "bytea NOT NULL", "W3C trace id, 16 bytes; the views show it as hex.")
_SPAN = ("span_id", "bytea NOT NULL", "Span id, 8 bytes; the views show it as hex.")
_UNIT = ("unit", "bytea", "Internal: span of the box that owns it, by which rows move when a box arrives late.")

TASKS = table(
    "agent_tasks",
    "One row per task: one run of an agent on one piece of work, as known now. Figures are its own calls, not its child tasks'; null is unknown.",
    [
        ("uid", "uuid PRIMARY KEY", "Internal identity; the public id is task_id."),
        _TENANT,
        ("task_id", "text NOT NULL", "Public id: the highest-ranked of its aliases."),
        ("aliases", "jsonb NOT NULL", "All ids by which it was ever known; each stays valid for look-up."),
        ("parent_uid", "uuid", "The task that started this one: agent_tasks.uid."),
        ("parent_task_id", "text", "Public id of the task that started this one."),
        ("root_uid", "uuid", "The topmost task above it, whose message carries it: agent_tasks.uid."),
        (
            "message_uid",
            "uuid",
            "Lane of that message: the root's own uid, or that of a provisional task whose message it took over.",
        ),
        ("trace_id", "bytea", "Trace of its topmost span, 16 bytes."),
        ("span_id", "bytea", "Its topmost span, 8 bytes."),
        ("name", "text NOT NULL", "Title that a person reads."),
        ("type", "text", "Sort of work, as the agent says."),
        ("agent_name", "text", "Who is working."),
        ("agent_id", "text", "The agent's own id."),
        ("agent_version", "text", "The agent's version."),
        ("service", "text", "service.name of the sender."),
        ("environment", "text", "deployment.environment.name of the sender."),
        ("repo", "text", "Repository or scope of the work."),
        ("topic", "text", "What routes use to choose a channel."),
        ("requested_by", "text", "The person for whom it runs."),
        ("retry_of", "text", "Public id of the task that this one retries."),
        ("session_id", "text", "Conversation or session that it continues."),
        ("status", "text NOT NULL", "starting, working, waiting, paused, stalled, context_warning, error, complete or cancelled."),
        ("end_reason", "text", "Why it ended, when it ended."),
        ("inferred", "boolean NOT NULL", "True when the status was concluded rather than said."),
        ("rule", "text NOT NULL", "The rule that decided the status."),
        (
            "announced",
            "boolean NOT NULL",
            "False for what is recorded and not posted (a lone model call, a trace not settled yet).",
        ),
        ("progress", "double precision", "Percent done, 0 to 100."),
        ("action", "text", "What it is doing now, one line."),
        ("step_name", "text", "Current step of its plan."),
        ("step_index", "bigint", "Number of the current step, from 1."),
        ("step_count", "bigint", "Steps in the plan."),
        ("started_at", "timestamptz", "Start of its first span, by the sender's clock."),
        ("ended_at", "timestamptz", "End of its run, by the sender's clock; null while it lives."),
        ("last_event_at", "timestamptz", "Newest time that anything of it told of itself, by the sender's clock."),
        ("segments", "bigint NOT NULL", "Runs in this task: the first, its resumptions and retries in place."),
        ("input_tokens", "bigint", "Input tokens of its own model calls, cache included; each call once."),
        ("output_tokens", "bigint", "Output tokens of its own model calls, reasoning included."),
        ("cache_read_tokens", "bigint", "Part of the input that was read from the cache."),
        ("cache_write_tokens", "bigint", "Part of the input that was written to the cache."),
        ("reasoning_tokens", "bigint", "Part of the output that was reasoning."),
        ("cost_usd", "numeric", "Cost of its own model calls in US dollars."),
        ("context_used_tokens", "bigint", "Tokens in the context window at the last call."),
        ("context_window_tokens", "bigint", "Size of the context window."),
        ("context_window_source", "text NOT NULL", "How the window is known: given, table, default; empty when unknown."),
        ("model", "text", "Model of its last call."),
        ("llm_calls", "bigint NOT NULL", "Own model calls."),
        ("tool_calls", "bigint NOT NULL", "Own tool calls."),
        ("tool_errors", "bigint NOT NULL", "Own tool calls that failed."),
        ("error_count", "bigint NOT NULL", "Errors of its parts."),
        ("child_count", "bigint NOT NULL", "Direct child tasks."),
        ("child_failed", "bigint NOT NULL", "Direct child tasks that failed."),
        ("steps", "jsonb NOT NULL", "Steps seen: name, index, at."),
        ("artifacts", "jsonb NOT NULL", "What it made: name, uri, kind; task_artifacts has a row for each."),
        ("approvals", "jsonb NOT NULL", "Questions to people and their answers; human_interventions has a row for each."),
        ("links", "jsonb NOT NULL", "Links worth showing, by name."),
        ("results", "jsonb NOT NULL", "Figures and words worth showing at the end, by name."),
        ("error", "jsonb", "What went wrong: type, message, log_tail."),
        ("updated_at", "timestamptz NOT NULL DEFAULT now()", "When this row last changed, by the database's clock."),
        ("doc", "bytea NOT NULL", "Internal: the task as the ledger reads it back."),
    ],
    # Most updates change no indexed column: with room on the page they stay there (HOT).
    options="WITH (fillfactor = 70)",
)

CHECKPOINTS = table(
    "agent_checkpoints",
    "One row per piece of news about a task: what was or would have been posted.",
    [
        ("id", "uuid PRIMARY KEY", "Derived from the task and what caused it: the same telling has the same id everywhere."),
        _TENANT,
        _AT_TASK,
        (
            "kind",
            "text NOT NULL",
            "start, checkpoint, artifact, error, approval_requested, approval_resolved, end, context_warning, compaction or stalled.",
        ),
        ("status", "text NOT NULL", "The task's status as of this occurrence."),
        ("text", "text NOT NULL", "One line, as the agent or spanpost said it: untrusted text."),
        ("detail", "text NOT NULL", "Longer text behind it: an error's log tail, an approval's detail."),
        ("ref", "text NOT NULL", "Approval id, artifact key, error type or context threshold, by kind."),
        ("progress", "double precision", "Percent done, as of this occurrence."),
        ("at", "timestamptz NOT NULL", "When it happened, by the sender's clock."),
        ("trace_id", "bytea NOT NULL", "Trace of what caused it, 16 bytes, or empty."),
        ("span_id", "bytea NOT NULL", "Span of what caused it, 8 bytes, or empty."),
        _UNIT,
        ("recorded_at", "timestamptz NOT NULL DEFAULT now()", "When it was recorded, by the database's clock."),
    ],
)

EVENTS = table(
    "agent_events",
    "The audit: each span, span event and log record of a task, once, as it was received. Partitioned by month of occurred_at.",
    [
        ("event_id", "uuid NOT NULL", "Wire identity: a hash of tenant, trace, span, part and index."),
        (
            "content_hash",
            "bytea NOT NULL",
            "Hash of the content without resource and scope. A repeat has both equal and is not stored again; other content under one event_id is kept beside.",
        ),
        _TENANT,
        _TRACE,
        _SPAN,
        ("parent_span_id", "bytea", "The parent span, 8 bytes; null for a root."),
        ("part", "smallint NOT NULL", "0 ended span, 1 span not yet ended, 2 span event, 3 link, 4 log record."),
        ("idx", "bigint", "Position among the span's events or links; null for log records, whose index is a hash."),
        ("name", "text NOT NULL", "Span name or event name; empty for a plain log line."),
        ("kind", "smallint NOT NULL", "OTLP span kind, 0 to 5."),
        (
            "role",
            "smallint NOT NULL",
            "What the span is: 0 other, 1 step, 2 model call, 3 tool, 4 agent, 5 workflow, 6 task, 7 plumbing, 8 handoff.",
        ),
        ("occurred_at", "timestamptz NOT NULL", "Its own time as sent: a span's end (else its start), an event's timestamp."),
        ("start_ns", "bigint", "Start of the span, Unix nanoseconds as sent."),
        ("end_ns", "bigint", "End of the span, Unix nanoseconds as sent."),
        ("status", "smallint NOT NULL", "Span status: 0 unset, 1 ok, 2 error."),
        ("status_message", "text NOT NULL", "Span status message."),
        ("attributes", "jsonb NOT NULL", "Attributes as received."),
        ("resource", "jsonb NOT NULL", "Resource attributes of the sender."),
        ("scope", "text NOT NULL", "Instrumentation scope: name and version."),
        ("links", "jsonb NOT NULL", "Span links: pairs of hex trace id and span id."),
        ("body", "jsonb", "A log record's body."),
        ("severity", "smallint NOT NULL", "A log record's severity number, 0 when not given."),
        (
            "repairs",
            "integer NOT NULL",
            "Bits: 1 synthetic id, 2 text, 4 number, 8 truncated, 16 time, 32 depth, 64 not UTF-8 was mended; 128 time far from received_at; 0 as received.",
        ),
        ("task_uid", "uuid", "The task it belongs to, as known now: agent_tasks.uid."),
        _UNIT,
        ("producer", "text NOT NULL", "Live records: the process that sent it."),
        ("seq", "bigint NOT NULL", "Live records: number given by the process."),
        ("received_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was stored, by the database's clock."),
    ],
    rules=["PRIMARY KEY (occurred_at, event_id, content_hash)"],
    options="PARTITION BY RANGE (occurred_at)",
)

ARTIFACTS = table(
    "task_artifacts",
    "One row per thing that a task made.",
    [
        _AT_TASK,
        ("key", "text NOT NULL", "What it is known by: its uri, else its name."),
        _TENANT,
        ("name", "text NOT NULL", "Its name."),
        ("uri", "text NOT NULL", "Where it is; empty when not said."),
        ("kind", "text NOT NULL", "pr, file, deploy, … as the agent says."),
        ("at", "timestamptz", "When it was first told, by the sender's clock."),
        ("checkpoint_id", "uuid", "The checkpoint that told it: agent_checkpoints.id."),
        ("recorded_at", "timestamptz NOT NULL DEFAULT now()", "When it was recorded, by the database's clock."),
    ],
    rules=["PRIMARY KEY (task_uid, key)"],
)

INTERVENTIONS = table(
    "human_interventions",
    "One row per question to a person and per answer, however it was reached.",
    [
        ("id", "uuid PRIMARY KEY", "The checkpoint that told it, or an id of its own for what a person did through spanpost."),
        _TENANT,
        _AT_TASK,
        ("approval_id", "text NOT NULL", "The question's id, as the agent gave it."),
        ("action", "text NOT NULL", "requested or resolved."),
        ("question", "text NOT NULL", "What is asked: untrusted text."),
        ("detail", "text NOT NULL", "Longer text behind the question."),
        ("options", "jsonb NOT NULL", "Answers that the agent offers."),
        ("risk", "text NOT NULL", "Risk as the agent says."),
        ("expires_at", "text NOT NULL", "When the question expires, as the agent wrote it."),
        ("decision", "text NOT NULL", "The answer; empty while it is asked."),
        ("actor", "text NOT NULL", "Who answered, as told."),
        ("comment", "text NOT NULL", "What they said with it."),
        ("via", "text NOT NULL", "Where it came from: telemetry, or the desk that took it."),
        ("at", "timestamptz NOT NULL", "When it happened."),
        ("trace_id", "bytea NOT NULL", "Trace of the record that told it, or empty."),
        ("span_id", "bytea NOT NULL", "Span of the record that told it, or empty."),
        _UNIT,
        ("recorded_at", "timestamptz NOT NULL DEFAULT now()", "When it was recorded, by the database's clock."),
    ],
)

DELIVERIES = table(
    "deliveries",
    "One row per letter to a sink: each piece of news, and one for the state of each lane (the message that is edited), which waits again when there is something newer.",
    [
        ("id", "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "Number by which the command line names it."),
        _TENANT,
        ("sink", "text NOT NULL", "Name of the sink."),
        ("address", "text NOT NULL", "The sink's own address; empty is its default."),
        ("lane", "text NOT NULL", "What is delivered in order: sink, address and root task."),
        (
            "mode",
            "text NOT NULL CHECK (mode IN ('news', 'state'))",
            "news: each is delivered, in order. state: only the newest matters.",
        ),
        ("key", "text NOT NULL", "What makes telling twice the same telling."),
        ("revision", "bigint NOT NULL DEFAULT 0", "A state's: counts up with each newer state."),
        (
            "claimed_revision",
            "bigint NOT NULL DEFAULT 0",
            "Revision as claimed: when it is behind afterwards, something newer came meanwhile.",
        ),
        ("urgency", "text NOT NULL", "approval, end, error or normal."),
        ("rank", "smallint NOT NULL", "Order of urgency, 0 first."),
        _AT_TASK,
        ("checkpoint_id", "uuid", "The news: agent_checkpoints.id; null for a state."),
        (
            "state",
            "text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'delivered', 'dead'))",
            "waiting, sending, delivered or dead.",
        ),
        ("attempt", "integer NOT NULL DEFAULT 0", "Attempts begun, the current one included."),
        (
            "born_at",
            "timestamptz NOT NULL",
            "When it was put, or a state put anew, by the database's clock; news goes in the order of id.",
        ),
        ("not_before", "timestamptz", "Waits until then, by the database's clock."),
        ("lease_until", "timestamptz", "While sending: when another may take it over, by the database's clock."),
        ("owner", "uuid", "While sending: the process that has it."),
        (
            "unsure",
            "boolean NOT NULL DEFAULT false",
            "True when an earlier attempt may have arrived: it is looked up before it is sent again.",
        ),
        ("receipt", "jsonb", "What the sink brought back."),
        ("reason", "text NOT NULL DEFAULT ''", "Short word for the last failure."),
        ("error", "text NOT NULL DEFAULT ''", "The last failure in words."),
        ("settled_at", "timestamptz", "When an attempt was last settled, by the database's clock."),
    ],
    options="WITH (fillfactor = 80)",
)

PRIVATE = [
    *table(
        "lanes",
        "Internal: one row per lane, locked by whoever puts or claims its letters, so that one is under way at a time.",
        [
            ("sink", "text NOT NULL", "Name of the sink."),
            ("lane", "text NOT NULL", "deliveries.lane."),
            ("due_at", "timestamptz", "When the lane has something to deliver; null when nothing waits."),
            ("lease_until", "timestamptz", "While one of its letters is under way: when another may take it over."),
            ("rank", "smallint NOT NULL DEFAULT 3", "Most urgent of what waits."),
            ("receipt", "jsonb", "Receipt of the lane's state: what the sink needs to edit it."),
        ],
        rules=["PRIMARY KEY (sink, lane)"],
        options="WITH (fillfactor = 70)",
    ),
    *table(
        "kin",
        "Internal: what the fold remembers of spans, traces, tasks and response ids.",
        [
            ("key", "bytea PRIMARY KEY", "Domain (16 bytes), kind (1 byte), rest."),
            ("doc", "bytea NOT NULL", "The record, MessagePack."),
            ("touched_at", "timestamptz NOT NULL DEFAULT now()", "When it last changed, by the database's clock; for pruning."),
        ],
        options="WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)",
    ),
    *table(
        "timers",
        "Internal: what the fold wants to be asked, and when.",
        [
            ("key", "bytea PRIMARY KEY", "Domain (16 bytes) and rest."),
            ("at", "timestamptz NOT NULL", "When it falls due, by the database's clock."),
        ],
    ),
    *table(
        "task_redirects",
        "Internal: tasks that turned out to be part of another.",
        [
            ("uid", "uuid PRIMARY KEY", "The task that is gone."),
            ("merged_into", "uuid NOT NULL", "The task that it became part of: agent_tasks.uid."),
            ("at", "timestamptz NOT NULL DEFAULT now()", "When, by the database's clock."),
        ],
    ),
    *table(
        "dead_letters",
        "What could not be recorded: kept with its bytes, so that nothing is lost.",
        [
            ("id", "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "Number."),
            ("key", "bytea NOT NULL UNIQUE", "Hash of the bytes: a repeat counts on."),
            _TENANT,
            ("source", "text NOT NULL", "Where it was refused."),
            ("reason", "text NOT NULL", "Short word."),
            ("error", "text NOT NULL", "The refusal in words."),
            ("bytes", "bytea NOT NULL", "The observation: MessagePack, or its Python text when that is impossible."),
            ("attempts", "bigint NOT NULL DEFAULT 1", "How often it came."),
            ("first_at", "timestamptz NOT NULL DEFAULT now()", "When it came first, by the database's clock."),
            ("last_at", "timestamptz NOT NULL DEFAULT now()", "When it came last, by the database's clock."),
        ],
    ),
    *table(
        "buckets",
        "Internal: pace of calls to the outside, shared by all processes.",
        [
            ("key", "text PRIMARY KEY", "What is paced, as the sink names it."),
            ("tokens", "double precision NOT NULL", "Calls left at `at`."),
            ("cap", "double precision NOT NULL", "Most calls that may be saved up."),
            ("rate", "double precision NOT NULL", "Calls gained per second."),
            ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When tokens was computed, by the database's clock."),
            ("blocked_until", "timestamptz", "Nobody calls before then (Retry-After)."),
        ],
        options="WITH (fillfactor = 50)",
    ),
]

# A hash index takes text of any length: ids are the agents' own, and a b-tree refuses what is longer than a third of a page.
INDEXES = [
    "CREATE INDEX agent_tasks_task_id ON agent_tasks USING hash (task_id)",
    "CREATE INDEX agent_tasks_aliases ON agent_tasks USING gin (aliases jsonb_path_ops)",
    "CREATE INDEX agent_tasks_parent ON agent_tasks (parent_uid) WHERE parent_uid IS NOT NULL",
    "CREATE INDEX agent_tasks_root ON agent_tasks (root_uid)",
    "CREATE INDEX agent_tasks_started ON agent_tasks (started_at DESC)",
    "CREATE INDEX agent_checkpoints_task ON agent_checkpoints (task_uid, at)",
    "CREATE INDEX agent_checkpoints_at ON agent_checkpoints (at)",
    "CREATE INDEX agent_checkpoints_unit ON agent_checkpoints (trace_id, unit)",
    "CREATE INDEX agent_events_unit ON agent_events (trace_id, unit)",
    "CREATE INDEX agent_events_task ON agent_events (task_uid, occurred_at)",
    "CREATE INDEX human_interventions_approval ON human_interventions USING hash (approval_id)",
    "CREATE INDEX human_interventions_task ON human_interventions (task_uid, at)",
    "CREATE INDEX human_interventions_at ON human_interventions (at)",
    "CREATE UNIQUE INDEX deliveries_news ON deliveries (sink, key) WHERE mode = 'news'",
    "CREATE UNIQUE INDEX deliveries_state ON deliveries (sink, lane) WHERE mode = 'state'",
    "CREATE INDEX deliveries_open ON deliveries (sink, lane, id) WHERE state IN ('waiting', 'sending')",
    "CREATE INDEX deliveries_dead ON deliveries (id) WHERE state = 'dead'",
    "CREATE INDEX deliveries_task ON deliveries (task_uid)",
    "CREATE INDEX lanes_due ON lanes (rank, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX timers_at ON timers (at)",
]

MONTHS = [
    "CREATE TABLE agent_events_rest (LIKE agent_events INCLUDING ALL)",
    "COMMENT ON TABLE agent_events_rest IS 'Part of agent_events: what falls in no month that was made beforehand.'",
    "ALTER TABLE agent_events ATTACH PARTITION agent_events_rest DEFAULT",
    """
CREATE FUNCTION spanpost_add_month(month timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  opens timestamptz := date_trunc('month', month AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
  ends timestamptz := (date_trunc('month', month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
  child text := 'agent_events_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
  IF to_regclass(child) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- Writers to the rest wait from here to the commit, so that none adds a row of this month behind our back.
  LOCK TABLE agent_events_rest IN ACCESS EXCLUSIVE MODE;
  IF to_regclass(child) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE agent_events INCLUDING ALL)', child);
  EXECUTE format('WITH moved AS (DELETE FROM agent_events_rest WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
                 ' INSERT INTO %I SELECT * FROM moved', opens, ends, child);
  EXECUTE format('ALTER TABLE agent_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', child, opens, ends);
  EXECUTE format('COMMENT ON TABLE %I IS %L', child, 'Part of agent_events: one month.');
  RETURN true;
END $$""",
    "COMMENT ON FUNCTION spanpost_add_month IS 'Makes the partition of agent_events for the month of a moment, unless it is there.'",
    """
CREATE FUNCTION spanpost_keep_months() RETURNS integer LANGUAGE sql AS $$
  SELECT count(*)::integer
  FROM generate_series(-1, 2) AS ahead
  WHERE spanpost_add_month(((date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month') AT TIME ZONE 'UTC'))
$$""",
    "COMMENT ON FUNCTION spanpost_keep_months IS 'Makes the months of agent_events around now; returns how many were missing.'",
    "SELECT spanpost_keep_months()",
]

VIEWS = [
    *view(
        "agent_spans",
        "Ended spans as people read them: ids as hex, durations, roles as words.",
        [
            ("at", "e.occurred_at", "End of the span."),
            ("task_id", "t.task_id", "Public id of its task."),
            ("task", "t.name", "Title of its task."),
            ("agent_name", "t.agent_name", "Agent of its task."),
            ("name", "e.name", "Span name."),
            (
                "role",
                "(ARRAY['other','step','llm','tool','agent','workflow','task','plumbing','handoff'])[e.role + 1]",
                "What the span is.",
            ),
            ("status", "(ARRAY['unset','ok','error'])[e.status + 1]", "Span status."),
            ("status_message", "e.status_message", "Span status message."),
            ("duration_ms", "round((e.end_ns - e.start_ns) / 1e6, 3)", "How long it took, milliseconds."),
            ("trace_id", "encode(e.trace_id, 'hex')", "Trace id, hex."),
            ("span_id", "encode(e.span_id, 'hex')", "Span id, hex."),
            ("parent_span_id", "encode(e.parent_span_id, 'hex')", "Parent span id, hex."),
            ("attributes", "e.attributes", "Attributes as received."),
            ("resource", "e.resource", "Resource attributes of the sender."),
            ("tenant", "e.tenant", "Whose it is."),
        ],
        "FROM agent_events e LEFT JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.part = 0",
    ),
    *view(
        "agent_timeline",
        "Checkpoints with the names of their tasks, ids as hex: what was told, in words.",
        [
            ("at", "c.at", "When it happened."),
            ("task_id", "t.task_id", "Public id of the task."),
            ("task", "t.name", "Title of the task."),
            ("agent_name", "t.agent_name", "Who is working."),
            ("kind", "c.kind", "What is told."),
            ("status", "c.status", "The task's status as of then."),
            ("progress", "c.progress", "Percent done as of then."),
            ("text", "c.text", "One line: untrusted text."),
            ("trace_id", "nullif(encode(c.trace_id, 'hex'), '')", "Trace id, hex."),
            ("span_id", "nullif(encode(c.span_id, 'hex'), '')", "Span id, hex."),
            ("tenant", "c.tenant", "Whose it is."),
            ("id", "c.id", "Checkpoint id: agent_checkpoints.id."),
        ],
        "FROM agent_checkpoints c LEFT JOIN agent_tasks t ON t.uid = c.task_uid",
    ),
]


def upgrade() -> None:
    """Make the schema."""
    connection = op.get_bind()
    tables = [TASKS, CHECKPOINTS, EVENTS, ARTIFACTS, INTERVENTIONS, DELIVERIES, PRIVATE]
    for statement in [*(s for t in tables for s in t), *INDEXES, *MONTHS, *VIEWS]:
        connection.exec_driver_sql(statement)
