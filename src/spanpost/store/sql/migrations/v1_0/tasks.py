"""Tasks, their artifacts and checkpoints, and the state that they are computed from."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import RECORDED, SUBTREE, TASK, TENANT

# A hash index takes text of any length: ids are the agents' own, and a b-tree refuses texts that are longer
# than a third of a page.
TASKS: Final = table(
    "agent_tasks",
    "One row per task: one run of an agent on one piece of work, as known now. "
    "Figures are of its own calls, not of its child tasks'; null is unknown.",
    [
        # Identity.
        ("uid", "uuid PRIMARY KEY", "Internal identity; the public id is task_id."),
        TENANT,
        ("task_id", "text NOT NULL", "Public id: the highest-ranked of its aliases."),
        ("aliases", "jsonb NOT NULL", "All ids by which it was ever known; each stays valid for look-up."),
        # Its place among other tasks, and in the trace.
        ("parent_uid", "uuid", "Task that started this one: agent_tasks.uid."),
        ("parent_task_id", "text", "Public id of the task that started this one."),
        ("root_uid", "uuid", "Topmost task above it, whose message shows it: agent_tasks.uid."),
        (
            "message_uid",
            "uuid",
            "Task under which that message was posted: the root task's uid, or that of a provisional task "
            "whose message it took over.",
        ),
        ("retry_of", "text", "Public id of the task that this one retries."),
        ("caused_by", "text", "Public id of the task whose end started this one, as the agent says."),
        ("order_id", "text", "Order that started it (launch_orders.id), as the agent says."),
        ("session_id", "text", "Conversation or session that it continues."),
        ("trace_id", "bytea", "Trace of its root span, 16 bytes."),
        ("span_id", "bytea", "Its root span, 8 bytes."),
        # What it is.
        (
            "title",
            "text NOT NULL DEFAULT ''",
            "Title for people: the name that its agent gave, else what was asked, else `name`, its agent's, its id.",
        ),
        ("name", "text NOT NULL", "Name, as its telemetry says."),
        ("type", "text", "Type of work, as the agent says."),
        ("agent_name", "text", "Name of the agent."),
        ("agent_id", "text", "The agent's own id."),
        ("agent_version", "text", "The agent's version."),
        ("service", "text", "service.name of the sender."),
        ("environment", "text", "deployment.environment.name of the sender."),
        ("repo", "text", "Repository or scope of the work."),
        ("topic", "text", "Topic by which routes choose a channel."),
        ("requested_by", "text", "Person for whom it runs."),
        # Its state.
        (
            "status",
            "text NOT NULL",
            "starting, working, waiting, paused, stalled, context_warning, error, complete or cancelled.",
        ),
        ("end_reason", "text", "Why it ended, when it ended."),
        ("inferred", "boolean NOT NULL", "True when the status was concluded rather than said."),
        ("rule", "text NOT NULL", "Rule that decided the status."),
        (
            "announced",
            "boolean NOT NULL",
            "False for a task that is recorded and not posted (a lone model call, a trace that is not complete yet).",
        ),
        ("progress", "double precision", "Percent done, 0 to 100."),
        ("action", "text", "What it is doing now, one line."),
        ("step_name", "text", "Current step of its plan."),
        ("step_index", "bigint", "Number of the current step, from 1."),
        ("step_count", "bigint", "Steps in the plan."),
        ("started_at", "timestamptz", "Start of its first span, by the sender's clock."),
        ("ended_at", "timestamptz", "End of its run, by the sender's clock; null while it is open."),
        ("last_event_at", "timestamptz", "Newest time of its telemetry, by the sender's clock."),
        (
            "last_seen_at",
            "timestamptz NOT NULL DEFAULT now()",
            "When telemetry of it was last recorded, by the database's clock.",
        ),
        ("runs", "bigint NOT NULL", "Runs of this task: the first, its resumptions and its retries in place."),
        # What it used.
        ("model", "text", "Model of its last call."),
        ("llm_calls", "bigint NOT NULL", "Own model calls."),
        ("input_tokens", "bigint", "Input tokens of its own model calls, cache included; each call once."),
        ("output_tokens", "bigint", "Output tokens of its own model calls, reasoning included."),
        ("cache_read_tokens", "bigint", "Part of the input that was read from the cache."),
        ("cache_write_tokens", "bigint", "Part of the input that was written to the cache."),
        ("reasoning_tokens", "bigint", "Part of the output that was reasoning."),
        ("cost_usd", "numeric", "Cost of its own model calls in US dollars."),
        (
            "unpriced_calls",
            "bigint NOT NULL DEFAULT 0",
            "Own model calls without a known cost; cost_usd is that of the others.",
        ),
        ("tool_calls", "bigint NOT NULL", "Own tool calls."),
        ("tool_errors", "bigint NOT NULL", "Own tool calls that failed."),
        ("error_count", "bigint NOT NULL", "Errors of its own spans."),
        ("context_used_tokens", "bigint", "Tokens in the context window at the last call."),
        ("context_window_tokens", "bigint", "Size of the context window."),
        (
            "context_window_source",
            "text NOT NULL",
            "How the size is known: given, said, observed, table, default; empty when unknown.",
        ),
        (
            "context_forecast",
            "jsonb",
            "When the context window will reach the next warning: tokens, limit, calls, seconds, the last two with "
            "_low and _high. Null without a forecast.",
        ),
        (
            "loop",
            "jsonb",
            "Set while an agent repeats itself without progress: kind, id, tools, count, at, is_dismissed.",
        ),
        ("child_count", "bigint NOT NULL", "Direct child tasks."),
        ("child_failed", "bigint NOT NULL", "Direct child tasks that failed."),
        # What it shows.
        ("steps", "jsonb NOT NULL", "Steps seen: name, index, at."),
        ("artifacts", "jsonb NOT NULL", "Artifacts: name, uri, kind; task_artifacts has a row for each."),
        (
            "approvals",
            "jsonb NOT NULL",
            "Questions to people and their answers; the table approvals has a row for each.",
        ),
        ("links", "jsonb NOT NULL", "Links to show, by name."),
        ("results", "jsonb NOT NULL", "Figures and words to show at the end, by name."),
        ("error", "jsonb", "What went wrong: type, message, log_tail."),
        ("updated_at", "timestamptz NOT NULL DEFAULT now()", "When this row last changed, by the database's clock."),
        ("doc", "bytea NOT NULL", "Internal: the task as the store reads it back: MessagePack, compressed."),
    ],
    # Most updates change no indexed column: with room on the page they stay there (HOT). Rows of some
    # kilobytes stay uncompressed in the table: compressing them took a tenth of the time that writing them
    # did.
    options="WITH (fillfactor = 80, toast_tuple_target = 8160)",
    indexes=[
        "CREATE INDEX agent_tasks_task_id ON agent_tasks USING hash (task_id)",
        "CREATE INDEX agent_tasks_aliases ON agent_tasks USING gin (aliases jsonb_path_ops)",
        "CREATE INDEX agent_tasks_trace ON agent_tasks (trace_id)",
        # Its place among other tasks.
        "CREATE INDEX agent_tasks_parent ON agent_tasks (parent_uid) WHERE parent_uid IS NOT NULL",
        "CREATE INDEX agent_tasks_root ON agent_tasks (root_uid)",
        "CREATE INDEX agent_tasks_retry_of ON agent_tasks USING hash (retry_of) WHERE retry_of IS NOT NULL",
        "CREATE INDEX agent_tasks_caused_by ON agent_tasks USING hash (caused_by) WHERE caused_by IS NOT NULL",
        "CREATE INDEX agent_tasks_order_id ON agent_tasks USING hash (order_id) WHERE order_id IS NOT NULL",
        # Lists: newest first, a page of them, open ones, and those that a heartbeat's traces are looked up
        # in.
        "CREATE INDEX agent_tasks_started ON agent_tasks (started_at DESC)",
        "CREATE INDEX agent_tasks_page ON agent_tasks (tenant, (coalesce(started_at, "
        "'-infinity'::timestamptz)) DESC, uid DESC)",
        "CREATE INDEX agent_tasks_open ON agent_tasks (status) WHERE status NOT IN ('complete', 'error', 'cancelled')",
        "CREATE INDEX agent_tasks_living ON agent_tasks (trace_id) WHERE ended_at IS NULL OR end_reason = "
        "'interrupted'",
    ],
)

REDIRECTS: Final = table(
    "task_redirects",
    "Internal: tasks that turned out to be part of another.",
    [
        ("uid", "uuid PRIMARY KEY", "Task that no longer exists."),
        ("merged_into", "uuid NOT NULL", "Task that it was merged into: agent_tasks.uid."),
        ("at", "timestamptz NOT NULL DEFAULT now()", "When, by the database's clock."),
    ],
)

ARTIFACTS: Final = table(
    "task_artifacts",
    "One row per artifact of a task.",
    [
        TASK,
        ("key", "text NOT NULL", "Identity within the task: its uri, else its name."),
        TENANT,
        ("name", "text NOT NULL", "Its name."),
        ("uri", "text NOT NULL", "Where it is; empty when not said."),
        ("kind", "text NOT NULL", "pr, file, deploy, … as the agent says."),
        ("at", "timestamptz", "When it was first reported, by the sender's clock."),
        ("checkpoint_id", "uuid", "Checkpoint that reported it: agent_checkpoints.id."),
        RECORDED,
    ],
    rules=["PRIMARY KEY (task_uid, key)"],
)

CHECKPOINTS: Final = table(
    "agent_checkpoints",
    "One row per checkpoint of a task (a notification event, not saved state): start, progress, artifact, "
    "warning, error, question, end.",
    [
        (
            "id",
            "uuid PRIMARY KEY",
            "Derived from the task and the cause: the same checkpoint has the same id in every process.",
        ),
        TENANT,
        TASK,
        (
            "kind",
            "text NOT NULL",
            "start, checkpoint, artifact, error, approval_requested, approval_resolved, end, milestone, "
            "context_warning, context_forecast, compaction, stalled, loop, budget_warning or alert.",
        ),
        ("status", "text NOT NULL", "The task's status at this checkpoint."),
        ("text", "text NOT NULL", "One line, by the agent or by spanpost: untrusted text."),
        (
            "message",
            "jsonb",
            "The message that text renders in English: its key, and its values, which are untrusted text. "
            "Null for an agent's own words.",
        ),
        ("detail", "text NOT NULL", "Longer text behind it: an error's log tail, an approval's detail."),
        (
            "ref",
            "text NOT NULL",
            "By kind: approval id, artifact key, error type, limit of the context window, alert id, or "
            "whether a compaction was said or inferred.",
        ),
        ("progress", "double precision", "Percent done, at this checkpoint."),
        ("at", "timestamptz NOT NULL", "When it happened, by the sender's clock."),
        ("first_at", "timestamptz NOT NULL", "As at, when it was first recorded: never changes."),
        ("trace_id", "bytea NOT NULL", "Trace of its cause, 16 bytes, or empty."),
        ("span_id", "bytea NOT NULL", "Span of its cause, 8 bytes, or empty."),
        SUBTREE,
        (
            "xid",
            "xid8 DEFAULT pg_current_xact_id()",
            "Transaction that first recorded it, for streams (/api/events); null when it is a number of "
            "another server.",
        ),
        RECORDED,
    ],
    indexes=[
        "CREATE INDEX agent_checkpoints_task ON agent_checkpoints (task_uid, at)",
        "CREATE INDEX agent_checkpoints_at ON agent_checkpoints (at)",
        "CREATE INDEX agent_checkpoints_subtree ON agent_checkpoints (trace_id, subtree)",
        "CREATE INDEX agent_checkpoints_stream ON agent_checkpoints (xid) WHERE xid IS NOT NULL",
    ],
)

TREE: Final = table(
    "task_state",
    "Internal: state from which tasks are computed: spans, traces, tasks and response ids.",
    [
        (
            "touched_at",
            "timestamptz NOT NULL DEFAULT now()",
            "When it last changed, by the database's clock; for pruning.",
        ),
        ("ties", "boolean NOT NULL", "Whether it ties traces together; for pruning."),
        (
            "key",
            "bytea PRIMARY KEY",
            "Domain (16 bytes) of a pack; of a record by itself also its kind (1 byte) and the rest of its key.",
        ),
        (
            "doc",
            "bytea NOT NULL",
            "The record, MessagePack; of a pack all records of its domain, compressed. "
            "Empty in place of a pack: the domain's records have rows of their own.",
        ),
    ],
    options="WITH (autovacuum_vacuum_scale_factor = 0.05, toast_tuple_target = 8160)",
)

TIMERS: Final = table(
    "timers",
    "Internal: when a part of the state is computed again without new telemetry.",
    [
        ("key", "bytea PRIMARY KEY", "Domain (16 bytes) and rest."),
        ("at", "timestamptz NOT NULL", "When it is due, by the database's clock."),
    ],
    indexes=["CREATE INDEX timers_at ON timers (at)"],
)

QUARANTINE: Final = table(
    "quarantine",
    "Quarantine: observations that could not be recorded, with their bytes.",
    [
        ("id", "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "Number."),
        ("key", "bytea NOT NULL UNIQUE", "Hash of the bytes: a duplicate is counted in attempts."),
        TENANT,
        ("source", "text NOT NULL", "Part of spanpost that refused it."),
        ("reason", "text NOT NULL", "Short word for why it was refused."),
        ("error", "text NOT NULL", "The refusal in words."),
        ("bytes", "bytea NOT NULL", "The observation: MessagePack, or its Python text when that is impossible."),
        ("attempts", "bigint NOT NULL DEFAULT 1", "How often it came."),
        ("first_at", "timestamptz NOT NULL DEFAULT now()", "When it first came, by the database's clock."),
        ("last_at", "timestamptz NOT NULL DEFAULT now()", "When it last came, by the database's clock."),
    ],
)
