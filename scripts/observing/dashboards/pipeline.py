"""*Pipeline*: spanpost's own health."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from observing.panels import GREEN, RED, YELLOW, bars, dashboard, in_words, lines, number, rows


def pipeline() -> d.Dashboard:
    """Spanpost's own health."""
    rate = "$__rate_interval"
    made = dashboard(
        "pipeline",
        "spanpost / Pipeline",
        "Is anything late, lost, throttled, blocked?",
        notes=(("Stalls", "kind = 'stalled'", "orange", True), ("All tasks", "kind = 'task'", "blue", False)),
        is_of_fleet=False,
    )
    for panel in (
        number("Processes", "Of spanpost, as scraped.", "count(spanpost_build_info)"),
        in_words(
            number(
                "Database",
                "Whether every process reaches it.",
                "min(spanpost_store_up)",
                "short",
                (None, RED),
                (1, GREEN),
            ),
            {"1": ("up", GREEN), "0": ("away", RED)},
        ),
        number(
            "Oldest delivery",
            "Age of the oldest delivery that waits.",
            "max(spanpost_delivery_oldest_seconds) or vector(0)",
            "s",
            (None, GREEN),
            (60, YELLOW),
            (300, RED),
        ),
        number(
            "Lost in this range",
            "Observations and deliveries.",
            'sum(increase(spanpost_dropped_total{reason!~"superseded|closed|no_task"}[$__range])) or vector(0)',
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Given up",
            "Dead letters, kept with their errors.",
            "sum(spanpost_deliveries_dead) or vector(0)",
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Budgets closed",
            "Rate limits that are closed: throttled, refused, failing.",
            "sum(spanpost_circuit_breakers_open) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        lines(
            "Audit rows a second",
            "New rows by part of a span, duplicates, and spans that are not an agent's.",
            (f"sum by (part) (rate(spanpost_events_total[{rate}]))", "{{part}}"),
            (f"sum(rate(spanpost_duplicate_observations_total[{rate}]))", "duplicates"),
            (f"sum(rate(spanpost_ignored_spans_total[{rate}]))", "passed over"),
        ),
        lines(
            "Lag of the journal",
            "Age of the oldest request that is answered and not recorded yet.",
            ("max by (tenant) (spanpost_journal_lag_seconds)", "{{tenant}}"),
            ("max by (topic) (spanpost_kafka_lag_seconds)", "Kafka: {{topic}}"),
            unit="s",
        ),
        lines(
            "Bytes in the journal",
            "Requests that are answered and not recorded yet, compressed.",
            ("sum by (tenant) (spanpost_journal_bytes)", "{{tenant}}"),
            unit="bytes",
        ),
        lines(
            "Retention and sealed log",
            "How long old rows wait to be archived, since when no run was completed, the age of the oldest row that "
            "may not be sealed, and how long a newer checkpoint has waited to leave.",
            ("max(spanpost_retention_overdue_seconds)", "overdue"),
            ("max(spanpost_retention_run_age_seconds)", "last run"),
            ("max(spanpost_seal_lag_seconds)", "not sealed"),
            ("max by (way) (spanpost_seal_publication_age_seconds)", "checkpoint by {{way}}"),
            unit="s",
        ),
        lines(
            "Archived rows",
            "Rows in archives, by table.",
            ("max by (table) (spanpost_archived_rows)", "{{table}}"),
            ("max by (table) (spanpost_archived_bytes)", "{{table}}: bytes"),
        ),
        lines(
            "Time to commit",
            "Time in which half, and 99 of 100, of the batches are committed.",
            *(
                (
                    f"histogram_quantile({q}, sum by (le) (rate(spanpost_commit_duration_seconds_bucket[{rate}])))",
                    f"{p} %",
                )
                for q, p in ((0.5, 50), (0.99, 99))
            ),
            unit="s",
        ),
        lines(
            "Deliveries a minute",
            "Attempts, by outcome.",
            (f"sum by (sink, outcome) (rate(spanpost_deliveries_total[{rate}])) * 60", "{{sink}} {{outcome}}"),
        ),
        lines(
            "Age at delivery",
            "Time in which half, and 99 of 100, of the deliveries arrive.",
            *(
                (
                    f"histogram_quantile({q}, sum by (le, sink) "
                    f"(rate(spanpost_deliveries_age_seconds_bucket[{rate}])))",
                    f"{{{{sink}}}} {p} %",
                )
                for q, p in ((0.5, 50), (0.99, 99))
            ),
            unit="s",
        ),
        lines(
            "Calls of sinks a minute",
            "By method and outcome.",
            (f"sum by (method, outcome) (rate(spanpost_sink_calls_total[{rate}])) * 60", "{{method}} {{outcome}}"),
        ),
        lines(
            "Edits saved a minute",
            "States that newer ones replaced before they were sent.",
            (f"sum by (sink) (rate(spanpost_deliveries_coalesced_total[{rate}])) * 60", "{{sink}}"),
        ),
        lines(
            "What waits",
            "Waiting deliveries, and observations that agents' processes have not recorded yet.",
            ("sum by (sink) (spanpost_deliveries_waiting)", "deliveries to {{sink}}"),
            ("sum(spanpost_queue_length)", "observations"),
            width=8,
        ),
        lines(
            "Held",
            "Requests under way and the spool's directory.",
            ("sum(spanpost_in_flight_bytes)", "requests"),
            ("sum(spanpost_spool_bytes)", "spool"),
            unit="bytes",
            width=8,
        ),
        lines(
            "Requests a minute",
            "Requests to the OTLP receivers and for interactions, by status.",
            (
                f"sum by (endpoint, status) (rate(spanpost_requests_total[{rate}])) * 60"
                f" or sum by (endpoint, status) (rate(spanpost_interactions_requests_total[{rate}])) * 60",
                "{{endpoint}} {{status}}",
            ),
            width=8,
        ),
        bars(
            "Losses by reason",
            "In this range; zeros are good.",
            "round(sum by (component, reason) (increase(spanpost_dropped_total[$__range]))) > 0"
            ' or label_replace(sum(spanpost_store_up) * 0, "component", "nothing is dropped", "", "")',
            "{{component}} {{reason}}",
        ),
        bars(
            "Checkpoints",
            "Checkpoints in this range, by kind.",
            "round(sum by (kind) (increase(spanpost_checkpoints_total[$__range]))) > 0",
            "{{kind}}",
        ),
        bars(
            "Versions",
            "Processes by version, and the schema.",
            'label_replace(count by (version) (spanpost_build_info), "what", "spanpost", "", "")'
            ' or label_replace(max by (version) (spanpost_schema_info), "what", "schema", "", "")',
            "{{what}} {{version}}",
        ),
        rows(
            "Deliveries",
            "By sink and state.",
            'SELECT sink AS "Sink", state AS "State", date_trunc(\'second\', min(born_at)) AS "Oldest", '
            'count(*)::int AS "Letters" FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2',
            width=12,
            widths={"Deliveries": 90, "Oldest": 180},
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
    ):
        made = made.with_panel(panel)
    return made
