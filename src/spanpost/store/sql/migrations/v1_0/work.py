"""Work that is started (launch orders) and alerts that come in."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import RECORDED, TENANT

ORDERS: Final = table(
    "launch_orders",
    "One row per launch order: work that was asked for. Its delivery has the order's id as key and says "
    "what became of it.",
    [
        (
            "id",
            "uuid PRIMARY KEY",
            "Derived from the request: the same request is the same order. Launchers recognise a duplicate by it.",
        ),
        TENANT,
        (
            "carrier",
            "text NOT NULL",
            "Sink that starts it: launch:<launcher>, or hook:<provider> for a webhook request.",
        ),
        # The work.
        ("text", "text NOT NULL", "What to do: untrusted text."),
        ("parameters", "jsonb NOT NULL", "Parameters of the launcher, by name."),
        ("body", "bytea NOT NULL", "Body of a webhook request, as it came."),
        ("retry_of", "text NOT NULL", "Public id of the task to do again; empty for new work."),
        # Who or what asked for it.
        ("source", "text NOT NULL", "slack, api, app, cli, rule, schedule or hook."),
        ("by", "text NOT NULL", "Name of the person who asked."),
        ("by_id", "text NOT NULL", "Identity of that person: provider, team and id."),
        ("rule", "text NOT NULL", "Name of the rule or schedule that asked; empty without one."),
        ("caused_by", "text NOT NULL", "Public id of the task whose end asked for it; empty without one."),
        ("task_uid", "uuid", "That task: agent_tasks.uid."),
        ("run", "bigint NOT NULL", "Which of that task's runs."),
        ("depth", "bigint NOT NULL", "Number of orders by rules that led to this one."),
        ("at", "timestamptz NOT NULL", "When it was asked for."),
        RECORDED,
    ],
    indexes=[
        "CREATE INDEX launch_orders_task ON launch_orders (task_uid) WHERE task_uid IS NOT NULL",
        "CREATE INDEX launch_orders_recorded ON launch_orders (recorded_at)",
    ],
)

ALERTS: Final = table(
    "alerts",
    "One row per alert from when it fires until it is resolved. The same alert that fires again later is another row.",
    [
        (
            "id",
            "uuid PRIMARY KEY",
            "Made of tenant, fingerprint and starts_at. agent_checkpoints.ref of its checkpoints.",
        ),
        TENANT,
        ("source", "text NOT NULL", "alertmanager, grafana or slack (another app's message)."),
        ("fingerprint", "text NOT NULL", "The sender's id of the alert: a hash of its labels."),
        ("starts_at", "timestamptz NOT NULL", "Since when it fires, by the sender's clock."),
        ("ends_at", "timestamptz", "When it was resolved; null while it fires."),
        ("name", "text NOT NULL", "The label alertname: untrusted text, as all that follow."),
        ("severity", "text NOT NULL", "The label severity."),
        ("summary", "text NOT NULL", "The annotation summary."),
        ("description", "text NOT NULL", "The annotation description: what to do."),
        ("links", "jsonb NOT NULL", "Runbook, Dashboard, Panel, Query, Silence: http and https alone."),
        ("labels", "jsonb NOT NULL", "All its labels."),
        ("annotations", "jsonb NOT NULL", "All its annotations."),
        (
            "trace_id",
            "bytea NOT NULL",
            "Trace of the task that it names; an alert that names no task has a trace of its own.",
        ),
        ("span_id", "bytea NOT NULL", "Span of the same."),
        ("external_url", "text NOT NULL DEFAULT ''", "The sender's own address, as it says. It is never called."),
        ("acknowledged_by", "text NOT NULL DEFAULT ''", "Name of the person who acknowledged it; empty: nobody."),
        ("acknowledged_at", "timestamptz", "When they did."),
        (
            "silence",
            "jsonb",
            "Its silence: state (setting, active, ending, ended, failed), by, comment, until, asked_at, id at "
            "Alertmanager, failure.",
        ),
        ("received_at", "timestamptz NOT NULL DEFAULT now()", "When it first came."),
        ("reported_at", "timestamptz NOT NULL DEFAULT now()", "When something new of it last came."),
    ],
    options="WITH (fillfactor = 80)",
    indexes=["CREATE INDEX alerts_newest ON alerts (tenant, starts_at DESC)"],
)
