"""*Pipeline*: spanpost's own health."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as d

from observing.dashboards.common import BUDGET
from observing.frame import dashboard, in_rows
from observing.panels import GREEN, JOB, PROCESS, QUANTILES, RED, YELLOW, bars, in_words, lines, number, quantiles, rows
from observing.timelines import heat

_RATE = "$__rate_interval"


def pipeline() -> d.Dashboard:
    """Spanpost's own health."""
    made = dashboard(
        "pipeline",
        "spanpost / Pipeline",
        "Deliveries, receivers and storage of spanpost itself: what is late, dropped, throttled or full.",
        notes=(("Stalls", "t.kind = 'stalled'", "orange", False),),
        is_of_fleet=False,
        labels=("job", "instance"),
    )
    return in_rows(
        made,
        {"Now": _now(), "Trends": _trends(), "Why": _why(), "Storage": _storage(), "Tables": _tables()},
        closed=("Storage",),
    )


def _now() -> list[Any]:
    return [
        number("Processes", "Of spanpost, as scraped.", f"count(spanpost_build_info{{{PROCESS}}})"),
        in_words(
            number(
                "Database",
                "Whether every process reaches it.",
                f"min(spanpost_store_up{{{PROCESS}}})",
                "short",
                (None, RED),
                (1, GREEN),
            ),
            {"1": ("up", GREEN), "0": ("down", RED)},
        ),
        number(
            "Oldest undelivered",
            "Age of the oldest delivery that waits.",
            f"max(spanpost_delivery_oldest_seconds{{{JOB}}}) or vector(0)",
            "s",
            (None, GREEN),
            (60, YELLOW),
            (300, RED),
        ),
        number(
            "Dropped in this range",
            "Observations and deliveries.",
            f'sum(increase(spanpost_dropped_total{{{PROCESS},reason!~"superseded|closed|no_task"}}[$__range]))'
            " or vector(0)",
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Dead letters",
            "Deliveries that were given up; they are kept with their errors.",
            f"sum(spanpost_deliveries_dead{{{JOB}}}) or vector(0)",
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Open circuit breakers",
            "Rate limits whose calls are stopped: throttled, refused, failing.",
            f"sum(spanpost_circuit_breakers_open{{{JOB}}}) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        lines(
            "Delivery backlog",
            "Waiting deliveries, and observations that agents' processes have not recorded yet.",
            (f"sum by (sink) (spanpost_deliveries_waiting{{{JOB}}})", "deliveries to {{sink}}"),
            (f"sum(spanpost_queue_length{{{PROCESS}}})", "observations"),
            width=12,
        ),
        lines(
            "Audit rows per second",
            "New rows by part of a span, duplicates, and spans that are not an agent's.",
            (f"sum by (part) (rate(spanpost_events_total{{{PROCESS}}}[{_RATE}]))", "{{part}}"),
            (f"sum(rate(spanpost_duplicate_observations_total{{{PROCESS}}}[{_RATE}]))", "duplicates"),
            (f"sum(rate(spanpost_ignored_spans_total{{{PROCESS}}}[{_RATE}]))", "ignored"),
        ),
    ]


def _trends() -> list[Any]:
    return [
        lines(
            "Deliveries per minute",
            "Attempts, by outcome.",
            (
                f"sum by (sink, outcome) (rate(spanpost_deliveries_total{{{PROCESS}}}[{_RATE}])) * 60",
                "{{sink}} {{outcome}}",
            ),
        ),
        lines(
            "Age at delivery",
            "Percentiles of the time from enqueue to delivery, by sink.",
            *quantiles(f"spanpost_deliveries_age_seconds_bucket{{{PROCESS}}}", "{{sink}}", by="sink", of=QUANTILES[1:]),
            unit="s",
        ),
        heat(
            "Ages at delivery",
            "Number of deliveries by their age.",
            f"spanpost_deliveries_age_seconds_bucket{{{PROCESS}}}",
        ),
        lines(
            "Journal lag",
            "Age of the oldest request that is answered and not recorded yet.",
            (f"max by (tenant) (spanpost_journal_lag_seconds{{{JOB}}})", "journal {{tenant}}"),
            (f"max by (topic) (spanpost_kafka_lag_seconds{{{PROCESS}}})", "Kafka: {{topic}}"),
            unit="s",
        ),
        lines(
            "Calls of sinks per minute",
            "By method and outcome.",
            (
                f"sum by (method, outcome) (rate(spanpost_sink_calls_total{{{PROCESS}}}[{_RATE}])) * 60",
                "{{method}} {{outcome}}",
            ),
        ),
        lines(
            "Requests per minute",
            "Requests to the OTLP receivers and for interactions, by status.",
            (
                f"sum by (endpoint, status) (rate(spanpost_requests_total{{{PROCESS}}}[{_RATE}])) * 60"
                " or sum by (endpoint, status)"
                f" (rate(spanpost_interactions_requests_total{{{PROCESS}}}[{_RATE}])) * 60",
                "{{endpoint}} {{status}}",
            ),
            width=12,
        ),
        lines(
            "Time to commit",
            "Percentiles of the time from the start of a batch to its commit.",
            *quantiles(f"spanpost_commit_duration_seconds_bucket{{{PROCESS}}}"),
            unit="s",
        ),
        lines(
            "Replaced edits per minute",
            "States that newer ones replaced before they were sent.",
            (f"sum by (sink) (rate(spanpost_deliveries_coalesced_total{{{PROCESS}}}[{_RATE}])) * 60", "{{sink}}"),
        ),
    ]


def _why() -> list[Any]:
    return [
        bars(
            "Dropped, by reason",
            "Observations and deliveries in this range.",
            (
                f"round(sum by (component, reason) (increase(spanpost_dropped_total{{{PROCESS}}}[$__range]))) > 0"
                f' or label_replace(sum(spanpost_store_up{{{PROCESS}}}) * 0, "component", "nothing", "", "")',
                "{{component}} {{reason}}",
            ),
        ),
        bars(
            "Checkpoints",
            "Checkpoints in this range, by kind.",
            (f"round(sum by (kind) (increase(spanpost_checkpoints_total{{{PROCESS}}}[$__range]))) > 0", "{{kind}}"),
        ),
        bars(
            "Versions",
            "Processes by version, and the schema of the database.",
            (f"count by (version) (spanpost_build_info{{{PROCESS}}})", "spanpost {{version}}"),
            (f"max by (version) (spanpost_schema_info{{{JOB}}})", "schema {{version}}"),
        ),
    ]


def _storage() -> list[Any]:
    return [
        lines(
            "Stored by tenant",
            "Size of each tenant's rows with their indexes, as last measured; 0 where nothing is measured.",
            (f"max by (tenant) (spanpost_tenant_stored_bytes{{{JOB}}}) or vector(0)", "{{tenant}}"),
            unit="bytes",
            width=8,
        ),
        lines(
            "Rows by tenant",
            "Rows of each tenant, as last measured; 0 where nothing is measured.",
            (f"max by (tenant) (spanpost_tenant_stored_rows{{{JOB}}}) or vector(0)", "{{tenant}}"),
            width=8,
        ),
        lines(
            "Used storage limit",
            "Part of limits.stored_bytes that each tenant has stored; from 100 % on nothing more of it is taken.",
            (f"max by (tenant) (spanpost_tenant_storage_used_ratio{{{JOB}}}) or vector(0)", "{{tenant}}"),
            unit="percentunit",
            steps=BUDGET,
            width=8,
        ),
        lines(
            "Refused by limits per minute",
            "Requests that a limit of their tenant refused, by limit.",
            (
                f"sum by (tenant, limit) (rate(spanpost_tenant_refused_total{{{PROCESS}}}[{_RATE}])) * 60 or vector(0)",
                "{{tenant}} {{limit}}",
            ),
            width=24,
        ),
        lines(
            "Bytes in the journal",
            "Requests that are answered and not recorded yet, compressed.",
            (f"sum by (tenant) (spanpost_journal_bytes{{{JOB}}})", "journal {{tenant}}"),
            unit="bytes",
        ),
        lines(
            "Memory and spool",
            "Requests under way and the spool's directory.",
            (f"sum(spanpost_in_flight_bytes{{{PROCESS}}})", "requests"),
            (f"sum(spanpost_spool_bytes{{{PROCESS}}})", "spool"),
            unit="bytes",
            width=12,
        ),
        lines(
            "Archived rows",
            "Rows in archives, by table.",
            (f"max by (table) (spanpost_archived_rows{{{JOB}}})", "{{table}} rows"),
            (f"max by (table) (spanpost_archived_bytes{{{JOB}}})", "{{table}} bytes"),
        ),
        lines(
            "Retention and sealed log",
            "How long old rows wait to be archived, since when no run was completed, the age of the oldest row that "
            "may not be sealed, and how long a newer checkpoint has waited to leave.",
            (f"max(spanpost_retention_overdue_seconds{{{JOB}}})", "overdue"),
            (f"max(spanpost_retention_run_age_seconds{{{JOB}}})", "last run"),
            (f"max(spanpost_seal_lag_seconds{{{JOB}}})", "not sealed"),
            (f"max by (way) (spanpost_seal_publication_age_seconds{{{JOB}}})", "checkpoint by {{way}}"),
            unit="s",
        ),
    ]


def _tables() -> list[Any]:
    return [
        rows(
            "Deliveries",
            "By sink and state.",
            'SELECT sink AS "Sink", state AS "State", date_trunc(\'second\', min(born_at)) AS "Oldest", '
            'count(*)::int AS "Count" FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2',
            width=12,
            widths={"Count": 90, "Oldest": 180},
        ),
        rows(
            "Tables",
            "The database's estimate of rows (ANALYZE); each month of the audit is a table.",
            'SELECT relname AS "Table", greatest(sum(reltuples), 0)::float8 AS "Rows", '
            "sum(pg_total_relation_size(oid))::float8 AS \"Size\" FROM pg_class WHERE relkind = 'r' AND relname "
            "~ "
            "'^(agent_|attribute_sets|audit_rows|deliveries|human_|task_|quarantine|approvals|"
            "model_usage|task_state|ordering_keys|journal)' GROUP BY 1 ORDER BY 3 DESC",
            width=12,
            units={"Rows": "short", "Size": "bytes"},
        ),
    ]
