"""The four dashboards."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as m

from observing.panels import GREEN, POSTGRES, RED, WHO, YELLOW, bars, curve, dashboard, lines, linked, number, rows

TASK = "/d/spanpost-task?var-task=${__value.raw}"
_AGENTS = "coalesce(agent_name, 'unknown') = ANY(ARRAY[${agent:sqlstring}]::text[])"
_CONTEXT = ((None, GREEN), (0.7, YELLOW), (0.85, RED))


def fleet() -> d.Dashboard:
    """What runs, what fails, what waits for a person."""
    rate = "$__rate_interval"
    ended = f"spanpost_tasks_ended_total{{{WHO}}}"
    failed = f'spanpost_tasks_ended_total{{status="error",{WHO}}}'
    made = dashboard("fleet", "spanpost / Fleet", "What runs, what fails, what waits for a person.")
    for panel in (
        number("Under way", "Tasks that have not ended.", f"sum(spanpost_tasks_open{{{WHO}}}) or vector(0)"),
        number(
            "Waiting for a person",
            "Questions that nobody has answered.",
            f"sum(spanpost_approvals_open{{{WHO}}}) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        number(
            "Longest wait",
            "Since the oldest open question.",
            f"max(spanpost_approval_oldest_seconds{{{WHO}}}) or vector(0)",
            "s",
            (None, GREEN),
            (600, YELLOW),
            (1800, RED),
        ),
        number(
            "Stalled",
            "Nothing was heard of them for too long.",
            f'sum(spanpost_tasks_open{{status="stalled",{WHO}}}) or vector(0)',
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Ended in this range",
            "Runs that ended. For exact figures of few tasks see Spend, out of Postgres.",
            f"round(sum(increase({ended}[$__range])))",
        ),
        number(
            "Failed",
            "Share of the runs that ended in failure.",
            f"sum(increase({failed}[$__range])) / sum(increase({ended}[$__range]))",
            "percentunit",
            (None, GREEN),
            (0.1, YELLOW),
            (0.3, RED),
        ),
        lines(
            "Under way, by status",
            "Tasks that have not ended, by their status of now.",
            (f"sum by (status) (spanpost_tasks_open{{{WHO}}})", "{{status}}"),
            stacked=True,
        ),
        lines(
            "Ended, by status",
            "Runs that ended, an hour.",
            (f"sum by (status) (rate({ended}[{rate}])) * 3600", "{{status}}"),
            stacked=True,
            exemplar=True,
        ),
        lines(
            "How long tasks take",
            "Half and nineteen of twenty of the runs are done within.",
            *(
                (
                    f'histogram_quantile({q}, sum by (le) (rate(spanpost_task_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                    f"{p} %",
                )
                for q, p in ((0.5, 50), (0.95, 95))
            ),
            unit="s",
            exemplar=True,
        ),
        lines(
            "How long calls take",
            "19 of 20 calls are done within.",
            (
                f'histogram_quantile(0.95, sum by (le) (rate(spanpost_model_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "model",
            ),
            (
                f'histogram_quantile(0.95, sum by (le) (rate(spanpost_tool_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "tool",
            ),
            unit="s",
            exemplar=True,
        ),
        bars(
            "Errors by type",
            "Failures of parts and of tasks in this range.",
            f"topk(10, round(sum by (error_type) (increase(spanpost_errors_total{{{WHO}}}[$__range]))) > 0)",
            "{{error_type}}",
        ),
        bars(
            "Failing agents",
            "Runs that ended in failure in this range.",
            f"topk(10, round(sum by (agent) (increase({failed}[$__range]))) > 0)",
            "{{agent}}",
        ),
        bars(
            "Warnings",
            "Filling contexts, compactions, stalls.",
            f"round(sum by (kind) (increase(spanpost_warnings_total{{{WHO}}}[$__range]))) > 0",
            "{{kind}}",
        ),
        lines(
            "Waits for people",
            "Half of the answers come within.",
            (
                f'histogram_quantile(0.5, sum by (le) (rate(spanpost_approval_wait_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "50 %",
            ),
            unit="s",
        ),
        lines(
            "Longest silence",
            "Time since anything was heard of a task under way.",
            (f"max by (agent) (spanpost_task_silence_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
        ),
        linked(
            rows(
                "Newest tasks",
                "A click on the id leads to the task.",
                'SELECT t.task_id AS "Task", t.name AS "Name", t.agent_name AS "Agent", n.status AS "Status", t.started_at AS "Started",'
                ' extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Time", t.cost_usd::float8 AS "Cost",'
                ' t.action AS "Doing" FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid'
                f" WHERE $__timeFilter(t.started_at) AND t.announced AND {_AGENTS.replace('agent_name', 't.agent_name')} ORDER BY t.started_at DESC LIMIT 100",
                units={"Time": "s", "Cost": "currencyUSD"},
            ),
            "Task",
            "Open the task",
            TASK,
        ),
    ):
        made = made.with_panel(panel)
    return made


def task() -> d.Dashboard:
    """One task's timeline out of Postgres."""
    one = "(SELECT uid FROM agent_tasks WHERE task_id = ${task:sqlstring} OR aliases @> to_jsonb(${task:sqlstring}::text) ORDER BY started_at DESC LIMIT 1)"
    choose = (
        "SELECT task_id AS __value, left(coalesce(nullif(name, ''), task_id), 80) || ' · ' || status AS __text FROM agent_tasks"
        " WHERE $__timeFilter(started_at) AND announced ORDER BY started_at DESC LIMIT 200"
    )
    made = dashboard(
        "task", "spanpost / Task", "One task from start to end.", hours=24, where=f"task_uid = {one}", is_of_fleet=False
    )
    variable = (
        d.QueryVariable("task").label("Task").datasource(POSTGRES).query(choose).refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    made = made.with_variable(variable)
    calls = f"FROM agent_events e WHERE e.task_uid = {one} AND e.part = 0"
    for panel in (
        rows(
            "Task",
            "What it is, how it stands, what it came to with all tasks below it.",
            'SELECT t.name AS "Name", t.agent_name AS "Agent", n.status AS "Status", t.end_reason AS "Why", t.started_at AS "Started",'
            ' extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Time", s.llm_calls::int AS "Model calls",'
            ' s.tool_calls::int AS "Tool calls", s.input_tokens::float8 AS "Tokens in", s.output_tokens::float8 AS "Tokens out", s.cost_usd::float8 AS "Cost",'
            " encode(t.trace_id, 'hex') AS \"Trace\", t.error->>'message' AS \"Error\""
            f" FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid JOIN agent_task_totals s ON s.uid = t.uid WHERE t.uid = {one}",
            height=4,
            units={"Time": "s", "Cost": "currencyUSD"},
        ).override_by_name(
            "Trace",
            [
                m.DynamicConfigValue(
                    "links",
                    [
                        {
                            "title": "Open the trace",
                            "url": "/explore?left=%7B%22datasource%22:%22spanpost-traces%22,%22queries%22:%5B%7B%22query%22:%22${__value.raw}%22%7D%5D%7D",
                        }
                    ],
                )
            ],
        ),
        rows(
            "News",
            "What was told of it, in order.",
            f'SELECT at AS "At", kind AS "Kind", status AS "Status", text AS "Text", progress AS "Progress" FROM agent_checkpoints WHERE task_uid = {one} ORDER BY at, id LIMIT 500',
            width=14,
            height=10,
            units={"Progress": "percent"},
        ),
        rows(
            "Steps",
            "As the agent or its spans told them.",
            f"SELECT s->>'index' AS \"No\", s->>'name' AS \"Step\", (s->>'at')::timestamptz AS \"At\" FROM agent_tasks t, jsonb_array_elements(t.steps) s WHERE t.uid = {one}",
            width=10,
            height=10,
        ),
        curve(
            "Context",
            "Share of the window in use after each model call, with the lines at which is warned: 70 and 85 %.",
            "SELECT e.occurred_at AS time, coalesce(e.attributes->>'gen_ai.response.model', e.attributes->>'gen_ai.request.model', 'context') AS metric,"
            " (e.attributes->>'gen_ai.usage.input_tokens')::float8 / nullif(t.context_window_tokens, 0) AS value"
            f" FROM agent_events e JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.task_uid = {one} AND e.part = 0 AND e.role = 2"
            " AND jsonb_typeof(e.attributes->'gen_ai.usage.input_tokens') = 'number' ORDER BY 1",
            "percentunit",
            steps=_CONTEXT,
        ),
        curve(
            "Time of each call",
            "Model calls and tool calls by when they ended.",
            "SELECT e.occurred_at AS time, CASE e.role WHEN 2 THEN 'model' ELSE 'tool' END AS metric, (e.end_ns - e.start_ns) / 1e9::float8 AS value "
            + calls
            + " AND e.role IN (2, 3) AND e.end_ns >= e.start_ns ORDER BY 1",
            "s",
        ),
        rows(
            "Calls",
            "Model calls and tool calls in order.",
            'SELECT to_timestamp(e.start_ns / 1e9) AS "Began", CASE e.role WHEN 2 THEN \'model\' ELSE \'tool\' END AS "Sort", e.name AS "Name", (e.end_ns - e.start_ns) / 1e9::float8 AS "Time", CASE e.status WHEN 2 THEN \'error\' ELSE \'ok\' END AS "Came", e.status_message AS "Why" '
            + calls
            + " AND e.role IN (2, 3) ORDER BY e.start_ns LIMIT 500",
            width=14,
            units={"Time": "s"},
        ),
        rows(
            "Artifacts",
            "What it made.",
            f'SELECT name AS "Name", kind AS "Kind", uri AS "Link", at AS "At" FROM task_artifacts WHERE task_uid = {one} ORDER BY at',
            width=10,
        ),
        rows(
            "Approvals",
            "Questions to people, and their answers.",
            f'SELECT at AS "At", action AS "What", question AS "Question", decision AS "Decision", actor AS "By", comment AS "Said" FROM human_interventions WHERE task_uid = {one} ORDER BY at',
            width=14,
        ),
        rows(
            "Messages",
            "Where it was told, and the links it gave.",
            f'SELECT d.sink AS "Sink", d.state AS "State", l.receipt->>\'permalink\' AS "Thread", l.receipt->>\'channel\' AS "Channel", d.reason AS "Why" FROM deliveries d LEFT JOIN lanes l ON l.sink = d.sink AND l.lane = d.lane WHERE d.task_uid = {one} AND d.mode = \'state\'',
            width=10,
        ),
    ):
        made = made.with_panel(panel)
    return made


def spend() -> d.Dashboard:
    """Tokens, cost, windows."""
    rate = "$__rate_interval"
    cost = f"spanpost_cost_usd_total{{{WHO}}}"
    tokens = f"spanpost_tokens_total{{{WHO}}}"
    made = dashboard(
        "spend", "spanpost / Spend and context", "Tokens and cost by agent, model and tenant; context windows.", hours=24
    )
    sums = "FROM agent_tasks WHERE $__timeFilter(coalesce(ended_at, last_event_at)) AND " + _AGENTS
    for panel in (
        number(
            "Cost in this range",
            "As settled; calls without a known price are not in it.",
            f"sum(increase({cost}[$__range]))",
            "currencyUSD",
        ),
        number("A day at this pace", "From the last hour.", f"sum(rate({cost}[1h])) * 86400", "currencyUSD"),
        number(
            "Fullest budget",
            "The budget of which most is spent in its period of now (`spend.budgets`); nothing where none is set.",
            "max(spanpost_budget_used_ratio) or vector(0)",
            "percentunit",
            (None, GREEN),
            (0.8, YELLOW),
            (1, RED),
        ),
        number(
            "Tokens in this range",
            "Input, with what came from caches, and output.",
            f'sum(increase(spanpost_tokens_total{{kind=~"input|output",{WHO}}}[$__range]))',
        ),
        number(
            "From the cache",
            "Share of the input that was read from caches.",
            f'sum(increase(spanpost_tokens_total{{kind="cache_read",{WHO}}}[$__range])) / sum(increase(spanpost_tokens_total{{kind="input",{WHO}}}[$__range]))',
            "percentunit",
        ),
        number(
            "Without a price",
            "Model calls of which no cost is known.",
            f"sum(increase(spanpost_unpriced_calls_total{{{WHO}}}[$__range])) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        lines(
            "Cost by agent",
            "An hour.",
            (f"sum by (agent) (rate({cost}[{rate}])) * 3600", "{{agent}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Cost by model",
            "An hour.",
            (f"sum by (model) (rate({cost}[{rate}])) * 3600", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines("Tokens by kind", "A minute.", (f"sum by (kind) (rate({tokens}[{rate}])) * 60", "{{kind}}")),
        bars("Cost by tenant", "In this range.", f"sum by (tenant) (increase({cost}[$__range]))", "{{tenant}}", "currencyUSD", 12),
        lines(
            "Context windows",
            "The fullest of each agent's tasks under way, with the lines at which is warned.",
            (f"max by (agent) (spanpost_context_used_ratio{{{WHO}}})", "{{agent}}"),
            unit="percentunit",
            steps=_CONTEXT,
        ),
        lines(
            "Time until full",
            "Forecast of the next window to be as full as is warned of.",
            (f"min by (agent) (spanpost_context_forecast_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
        ),
        bars(
            "Held back by limits",
            "Rate limits and quotas that agents met.",
            "sum by (agent) (increase(spanpost_provider_limits_total[$__range])) > 0",
            "{{agent}}",
            width=8,
        ),
        rows(
            "By agent",
            "Out of the audit: exact.",
            f'SELECT coalesce(agent_name, \'unknown\') AS "Agent", count(*)::int AS "Tasks", sum(llm_calls)::float8 AS "Calls", sum(input_tokens)::float8 AS "Tokens in", sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost" {sums} GROUP BY 1 ORDER BY 6 DESC NULLS LAST',
            width=8,
            units={"Cost": "currencyUSD"},
        ),
        rows(
            "By sort of work",
            "Out of the audit: exact.",
            f'SELECT coalesce(type, \'unknown\') AS "Sort", count(*)::int AS "Tasks", sum(cost_usd)::float8 AS "Cost", (sum(cost_usd) / nullif(count(*) FILTER (WHERE status = \'complete\'), 0))::float8 AS "For each that succeeded" {sums} GROUP BY 1 ORDER BY 3 DESC NULLS LAST',
            width=8,
            units={"Cost": "currencyUSD", "For each that succeeded": "currencyUSD"},
        ),
        linked(
            rows(
                "Dearest tasks",
                "With all tasks below them.",
                f'SELECT t.task_id AS "Task", t.name AS "Name", s.cost_usd::float8 AS "Cost", (s.input_tokens + s.output_tokens)::float8 AS "Tokens" FROM agent_tasks t JOIN agent_task_totals s ON s.uid = t.uid WHERE $__timeFilter(t.started_at) AND t.parent_uid IS NULL AND s.cost_usd IS NOT NULL AND {_AGENTS.replace("agent_name", "t.agent_name")} ORDER BY 3 DESC LIMIT 20',
                width=24,
                units={"Cost": "currencyUSD"},
            ),
            "Task",
            "Open the task",
            TASK,
        ),
    ):
        made = made.with_panel(panel)
    return made


def pipeline() -> d.Dashboard:
    """Spanpost's own health."""
    rate = "$__rate_interval"
    made = dashboard(
        "pipeline",
        "spanpost / Pipeline",
        "Is anything late, lost, throttled, blocked?",
        where="kind = 'stalled'",
        is_of_fleet=False,
    )
    for panel in (
        number("Processes", "Of spanpost, as scraped.", "count(spanpost_build_info)"),
        number("Database", "1: every process reaches it.", "min(spanpost_ledger_up)", "short", (None, RED), (1, GREEN)),
        number(
            "Oldest letter",
            "That waits to be delivered.",
            "max(spanpost_delivery_oldest_seconds) or vector(0)",
            "s",
            (None, GREEN),
            (60, YELLOW),
            (300, RED),
        ),
        number(
            "Lost in this range",
            "Observations and letters.",
            'sum(increase(spanpost_lost_total{reason!~"superseded|closed|no_task"}[$__range])) or vector(0)',
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Given up",
            "Letters that are kept with their errors.",
            "sum(spanpost_deliveries_dead) or vector(0)",
            "short",
            (None, GREEN),
            (1, RED),
        ),
        number(
            "Budgets closed",
            "Of calls: throttled, refused, failing.",
            "sum(spanpost_budgets_closed) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        lines(
            "Audit rows",
            "A second, new and repeated.",
            (f"sum by (part) (rate(spanpost_events_total[{rate}]))", "{{part}}"),
            (f"sum(rate(spanpost_repeats_total[{rate}]))", "repeats"),
            (f"sum(rate(spanpost_passed_over_total[{rate}]))", "passed over"),
        ),
        lines(
            "Time to commit",
            "Half and 99 of 100 batches are committed within.",
            *(
                (f"histogram_quantile({q}, sum by (le) (rate(spanpost_commit_duration_seconds_bucket[{rate}])))", f"{p} %")
                for q, p in ((0.5, 50), (0.99, 99))
            ),
            unit="s",
        ),
        lines(
            "Deliveries",
            "Attempts a minute, by what came of them.",
            (f"sum by (sink, outcome) (rate(spanpost_deliveries_total[{rate}])) * 60", "{{sink}} {{outcome}}"),
        ),
        lines(
            "Age at delivery",
            "Half and 99 of 100 letters arrive within.",
            *(
                (
                    f"histogram_quantile({q}, sum by (le, sink) (rate(spanpost_delivery_age_seconds_bucket[{rate}])))",
                    f"{{{{sink}}}} {p} %",
                )
                for q, p in ((0.5, 50), (0.99, 99))
            ),
            unit="s",
        ),
        lines(
            "Calls of sinks",
            "A minute, by method and outcome.",
            (f"sum by (method, outcome) (rate(spanpost_sink_calls_total[{rate}])) * 60", "{{method}} {{outcome}}"),
        ),
        lines(
            "Edits saved",
            "States that gave way to newer ones before they were sent, a minute.",
            (f"sum by (sink) (rate(spanpost_deliveries_coalesced_total[{rate}])) * 60", "{{sink}}"),
        ),
        lines(
            "What waits",
            "Letters, and what agents' processes have not recorded yet.",
            ("sum by (sink) (spanpost_deliveries_waiting)", "letters to {{sink}}"),
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
            "Doors",
            "Requests a second, by answer.",
            (
                f"sum by (door, answer) (rate(spanpost_requests_total[{rate}]))"
                f" or sum by (door, answer) (rate(spanpost_desk_requests_total[{rate}]))",
                "{{door}} {{answer}}",
            ),
            width=8,
        ),
        bars(
            "Losses by reason",
            "In this range; zeros are good.",
            "sum by (room, reason) (increase(spanpost_lost_total[$__range])) or sum(increase(spanpost_repeats_total[$__range])) * 0",
            "{{room}} {{reason}}",
        ),
        bars(
            "Checkpoints",
            "Told in this range, by kind.",
            "sum by (kind) (increase(spanpost_checkpoints_total[$__range]))",
            "{{kind}}",
        ),
        bars(
            "Versions",
            "Processes by version, and the schema.",
            "count by (version) (spanpost_build_info) or max by (version) (spanpost_schema_info)",
            "{{version}}",
        ),
        rows(
            "Letters",
            "By sink and state.",
            'SELECT sink AS "Sink", state AS "State", count(*)::int AS "Letters", min(born_at) AS "Oldest" FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2',
            width=12,
        ),
        rows(
            "Tables",
            "Rows as the database estimates them.",
            'SELECT relname AS "Table", greatest(sum(reltuples), 0)::float8 AS "Rows", sum(pg_total_relation_size(oid))::float8 AS "Size" FROM pg_class WHERE relkind = \'r\' AND relname ~ \'^(agent_|deliveries|human_|task_|dead_letters|approvals)\' GROUP BY 1 ORDER BY 3 DESC',
            width=12,
            units={"Size": "bytes"},
        ),
    ):
        made = made.with_panel(panel)
    return made


def dashboards() -> dict[str, str]:
    """Return all dashboards as JSON, by name."""
    made: dict[str, Any] = {"fleet": fleet(), "task": task(), "spend": spend(), "pipeline": pipeline()}
    return {
        name: json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(one.build())), indent=1, sort_keys=True, ensure_ascii=False)
        + "\n"
        for name, one in made.items()
    }
