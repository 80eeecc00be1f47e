"""The four dashboards."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as m

from observing.panels import (
    GREEN,
    POSTGRES,
    RED,
    STATUS_COLORS,
    UNDER_WAY,
    WHO,
    YELLOW,
    Note,
    bars,
    colored,
    curve,
    dashboard,
    found,
    in_words,
    lines,
    linked,
    number,
    rows,
)

#: To a task, and to the time that it took: a table that leads there has the columns `from` and `to`.
TASK = (
    "/d/spanpost-task?var-task=${__value.raw:percentencode}&from=${__data.fields.from}&to=${__data.fields.to}"
    "&${prometheus:queryparam}&${postgres:queryparam}"
)
_RANGE = (
    '(extract(epoch FROM t.started_at) * 1000 - 60000)::bigint AS "from",'
    ' (extract(epoch FROM coalesce(t.ended_at, now())) * 1000 + 60000)::bigint AS "to"'
)
#: A trace by its id, in Explore.
TRACE = (
    "/explore?schemaVersion=1&panes=%7B%22t%22:%7B%22datasource%22:%22spanpost-traces%22,%22queries%22:%5B%7B%22refId%22:%22A%22,"
    "%22datasource%22:%7B%22type%22:%22tempo%22,%22uid%22:%22spanpost-traces%22%7D,%22queryType%22:%22traceql%22,"
    "%22query%22:%22${__value.raw}%22%7D%5D,%22range%22:%7B%22from%22:%22${__from}%22,%22to%22:%22${__to}%22%7D%7D%7D"
)
_BUDGET = ((None, GREEN), (0.8, YELLOW), (1.0, RED))
_OK = {"ok": GREEN, "delivered": GREEN, "error": RED}
_AGENTS = (
    "coalesce(nullif(t.agent_name, ''), 'unknown') = ANY(ARRAY[${agent:sqlstring}]::text[])"
    " AND coalesce(nullif(t.environment, ''), 'unknown') = ANY(ARRAY[${environment:sqlstring}]::text[])"
    " AND t.tenant = ANY(ARRAY[${tenant:sqlstring}]::text[])"
)
_USED = f"FROM model_usage u JOIN agent_tasks t ON t.uid = u.task_uid WHERE $__timeFilter(u.at) AND {_AGENTS}"
_ENDED = f"FROM agent_tasks t WHERE $__timeFilter(t.ended_at) AND t.announced AND {_AGENTS}"
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
        found("Ended in this range", "Tasks, out of the audit: exact.", f"SELECT count(*)::float8 AS value {_ENDED}"),
        found(
            "Failed",
            "Share of the tasks that ended in this range which failed; out of the audit: exact.",
            f"SELECT (count(*) FILTER (WHERE t.status = 'error'))::float8 / nullif(count(*), 0) AS value {_ENDED}",
            "percentunit",
            steps=((None, GREEN), (0.1, YELLOW), (0.3, RED)),
        ),
        colored(
            lines(
                "Under way, by status",
                "Tasks that have not ended, by their status of now.",
                (f"sum by (status) (spanpost_tasks_open{{{WHO}}})", "{{status}}"),
                stacked=True,
            ),
            STATUS_COLORS,
        ),
        colored(
            lines(
                "Ended an hour, by status",
                "Runs that ended. A point is a task's trace.",
                (f"sum by (status) (rate({ended}[{rate}])) * 3600", "{{status}}"),
                stacked=True,
                exemplar=True,
            ),
            STATUS_COLORS,
        ),
        lines(
            "How long tasks take",
            "Half, and 19 of 20, of the runs are done within. A point is a task's trace.",
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
            "19 of 20 calls are done within. A point is a call's trace.",
            (
                f'histogram_quantile(0.95, sum by (le) (rate(spanpost_model_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "model calls",
            ),
            (
                f'histogram_quantile(0.95, sum by (le) (rate(spanpost_tool_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "tool calls",
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
            "How long people take",
            "From a question to its answer: half, and 19 of 20, of the answers come within.",
            *(
                (
                    f'histogram_quantile({q}, sum by (le) (rate(spanpost_approval_wait_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                    f"{p} %",
                )
                for q, p in ((0.5, 50), (0.95, 95))
            ),
            unit="s",
            width=8,
            exemplar=True,
        ),
        lines(
            "Longest silence",
            "Time since anything was heard of a task under way, the longest of each agent.",
            (f"max by (agent) (spanpost_task_silence_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
            width=8,
        ),
        bars(
            "Health of agents",
            "100 less what failures, stalls, questions nobody answers and spent budgets take away; the view agent_health says which.",
            'min by (agent) (spanpost_agent_health_score{agent=~"$agent",tenant=~"$tenant"})',
            "{{agent}}",
            steps=((None, RED), (60, YELLOW), (80, GREEN)),
            most=100,
        ),
        linked(
            rows(
                "Newest tasks",
                "A click on the id leads to the task.",
                'SELECT t.task_id AS "Task", t.name AS "Name", t.action AS "Doing", t.agent_name AS "Agent", n.status AS "Status", t.started_at AS "Started",'
                ' extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Took", t.cost_usd::float8 AS "Cost",'
                f" {_RANGE} FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid"
                f" WHERE $__timeFilter(t.started_at) AND t.announced AND {_AGENTS} ORDER BY t.started_at DESC LIMIT 100",
                units={"Took": "s", "Cost": "currencyUSD"},
                widths={"Agent": 130, "Status": 130, "Started": 170, "Took": 90, "Cost": 80},
                hidden=("from", "to"),
                statuses=("Status",),
                height=10,
            ),
            "Task",
            "Open the task",
            TASK,
        ),
    ):
        made = made.with_panel(panel)
    return made


def _of_one(one: str) -> tuple[Note, ...]:
    return (
        ("The task", f"kind = 'task' AND task_uid = {one}", "blue", True),
        ("Questions and answers", f"kind IN ('approval_requested', 'approval_resolved') AND task_uid = {one}", "orange", True),
        (
            "Errors and warnings",
            f"kind NOT IN ('task', 'approval_requested', 'approval_resolved') AND task_uid = {one}",
            "red",
            True,
        ),
    )


def task() -> d.Dashboard:
    """One task's timeline out of Postgres."""
    one = "(SELECT uid FROM agent_tasks WHERE task_id = ${task:sqlstring} OR aliases @> to_jsonb(${task:sqlstring}::text) ORDER BY started_at DESC LIMIT 1)"
    choose = (
        "SELECT task_id AS __value, left(coalesce(nullif(name, ''), task_id), 80) || ' · ' || status AS __text FROM agent_tasks"
        " WHERE $__timeFilter(started_at) AND announced ORDER BY started_at DESC LIMIT 200"
    )
    made = dashboard("task", "spanpost / Task", "One task from start to end.", hours=24, notes=_of_one(one), is_of_fleet=False)
    variable = (
        d.QueryVariable("task").label("Task").datasource(POSTGRES).query(choose).refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    made = made.with_variable(variable).with_variable(
        d.TextBoxVariable("slack").label("Slack workspace").default_value("https://slack.com")
    )
    calls = f"FROM agent_events e WHERE e.task_uid = {one} AND e.part = 0"
    model = "coalesce(e.attributes->>'gen_ai.response.model', e.attributes->>'gen_ai.request.model')"
    for panel in (
        rows(
            "Task",
            "What it is, how it stands, and why. A click on the trace leads to its spans.",
            'SELECT t.name AS "Name", t.agent_name AS "Agent", n.status AS "Status", t.end_reason AS "Why",'
            " coalesce(nullif(t.error->>'message', ''), t.error->>'type') AS \"Error\", encode(t.trace_id, 'hex') AS \"Trace\","
            ' t.started_at AS "Started", extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Took"'
            f" FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid WHERE t.uid = {one}",
            height=4,
            units={"Took": "s"},
            widths={"Agent": 120, "Status": 130, "Why": 110, "Started": 170, "Took": 90, "Trace": 300},
            statuses=("Status",),
        ).override_by_name("Trace", [m.DynamicConfigValue("links", [{"title": "Open the trace", "url": TRACE}])]),
        *(
            found(
                title,
                says,
                f"SELECT {column} AS value FROM agent_task_totals s JOIN agent_tasks t USING (uid) WHERE s.uid = {one}",
                unit,
            )
            for title, says, column, unit in (
                (
                    "Cost",
                    "With all tasks below it; calls of which no cost is known are not in it.",
                    "s.cost_usd::float8",
                    "currencyUSD",
                ),
                ("Tokens in", "With all tasks below it, what came from caches included.", "s.input_tokens::float8", "short"),
                ("Tokens out", "With all tasks below it.", "s.output_tokens::float8", "short"),
                ("Model calls", "With all tasks below it, each once.", "s.llm_calls::float8", "short"),
                ("Tool calls", "With all tasks below it, each once.", "s.tool_calls::float8", "short"),
                ("Without a price", "Own model calls of which no cost is known.", "coalesce(t.unpriced_calls, 0)::float8", "short"),
            )
        ),
        curve(
            "Context",
            "Share of the window in use after each model call, with the lines at which is warned: 70 and 85 %.",
            f"SELECT e.occurred_at AS time, coalesce({model}, 'context') AS metric,"
            " (e.attributes->>'gen_ai.usage.input_tokens')::float8 / nullif(t.context_window_tokens, 0) AS value"
            f" FROM agent_events e JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.task_uid = {one} AND e.part = 0 AND e.role = 2"
            " AND jsonb_typeof(e.attributes->'gen_ai.usage.input_tokens') = 'number' ORDER BY 1",
            "percentunit",
            steps=_CONTEXT,
            most=1,
        ),
        curve(
            "Time of each call",
            "Model calls and tool calls by when they ended.",
            "SELECT e.occurred_at AS time, CASE e.role WHEN 2 THEN 'model call' ELSE 'tool call' END AS metric,"
            " (e.end_ns - e.start_ns) / 1e9::float8 AS value "
            + calls
            + " AND e.role IN (2, 3) AND e.end_ns >= e.start_ns ORDER BY 1",
            "s",
        ),
        rows(
            "News",
            "What was told of it, in order.",
            f'SELECT at AS "At", kind AS "Kind", status AS "Status", text AS "Text", progress AS "Progress" FROM agent_checkpoints WHERE task_uid = {one} ORDER BY at, id LIMIT 500',
            width=14,
            height=10,
            units={"Progress": "percent"},
            widths={"At": 165, "Kind": 150, "Status": 125, "Progress": 80},
            statuses=("Status",),
        ),
        rows(
            "Steps",
            "As the agent or its spans told them.",
            f"SELECT s->>'index' AS \"No\", s->>'name' AS \"Step\", (s->>'at')::timestamptz AS \"At\" FROM agent_tasks t, jsonb_array_elements(t.steps) s WHERE t.uid = {one}",
            width=10,
            height=10,
            widths={"No": 50, "At": 165},
        ),
        rows(
            "Calls",
            "Model calls and tool calls in order.",
            "SELECT to_timestamp(e.start_ns / 1e9) AS \"Began\", CASE e.role WHEN 2 THEN 'model' ELSE 'tool' END AS \"Sort\","
            f" coalesce(CASE e.role WHEN 2 THEN {model} ELSE e.attributes->>'gen_ai.tool.name' END, e.name) AS \"Which\","
            " CASE e.status WHEN 2 THEN 'error' ELSE 'ok' END AS \"Came\", coalesce(nullif(e.status_message, ''), e.attributes->>'error.type') AS \"Why\","
            ' (e.end_ns - e.start_ns) / 1e9::float8 AS "Took" ' + calls + " AND e.role IN (2, 3) ORDER BY e.start_ns LIMIT 500",
            width=14,
            units={"Took": "s"},
            widths={"Began": 165, "Sort": 70, "Took": 80, "Came": 70},
        ),
        rows(
            "By model",
            "What its own calls came to that have settled, by the model that each names.",
            'SELECT coalesce(nullif(model, \'\'), \'unknown\') AS "Model", sum(calls)::float8 AS "Calls", sum(input_tokens)::float8 AS "Tokens in",'
            ' sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost"'
            f" FROM model_usage WHERE task_uid = {one} GROUP BY 1 ORDER BY 5 DESC",
            width=10,
            units={"Tokens in": "short", "Tokens out": "short", "Cost": "currencyUSD"},
            widths={"Calls": 70, "Tokens in": 95, "Tokens out": 95, "Cost": 80},
        ),
        rows(
            "Approvals",
            "Questions to people, and their answers.",
            'SELECT date_trunc(\'second\', at) AS "At", action AS "What", question AS "Question", decision AS "Decision", actor AS "By",'
            f' comment AS "Said" FROM human_interventions WHERE task_uid = {one} ORDER BY number, at',
            width=14,
            height=6,
            widths={"At": 190, "What": 90, "Decision": 100, "By": 100, "Said": 140},
        ),
        linked(
            rows(
                "Artifacts",
                "What it made.",
                f'SELECT name AS "Name", kind AS "Kind", uri AS "Link", at AS "At" FROM task_artifacts WHERE task_uid = {one} ORDER BY at',
                width=10,
                height=6,
                widths={"Name": 110, "Kind": 60, "At": 165},
            ),
            "Link",
            "Open it",
            "${__value.raw}",
            is_outside=True,
        ),
        linked(
            rows(
                "Threads and links",
                "Where it was told, and the links that it gave. Give your workspace's address above: https://acme.slack.com.",
                "SELECT d.sink AS \"Where\", d.state AS \"State\", '${slack}/archives/' || (l.receipt->'ref'->>'channel') || '/p'"
                " || replace(l.receipt->'ref'->>'ts', '.', '') AS \"Link\", d.reason AS \"Why\""
                " FROM deliveries d LEFT JOIN lanes l ON l.sink = d.sink AND l.lane = d.lane"
                f" WHERE d.task_uid = {one} AND d.mode = 'state'"
                " UNION ALL SELECT k.key, 'link', k.value, NULL FROM agent_tasks t, jsonb_each_text(t.links) k"
                f" WHERE t.uid = {one} AND k.value ~ '^https?://'",
                width=24,
                height=5,
                widths={"Where": 120, "State": 100, "Why": 200},
            ),
            "Link",
            "Open it",
            "${__value.raw}",
            is_outside=True,
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
        "spend",
        "spanpost / Spend and context",
        "Tokens and cost by agent, model and tenant; context windows.",
        hours=24,
        notes=(
            UNDER_WAY,
            ("Filling contexts", "kind IN ('context_warning', 'compaction')", "orange", False),
            ("All tasks", "kind = 'task'", "blue", False),
        ),
    )
    sums = f"FROM agent_tasks t WHERE $__timeFilter(coalesce(t.ended_at, t.last_event_at)) AND {_AGENTS}"
    for panel in (
        found(
            "Cost in this range",
            "When it settled, out of the audit: exact. Calls without a known price are not in it.",
            f"SELECT coalesce(sum(u.cost_usd), 0)::float8 AS value {_USED}",
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
        found(
            "Tokens in this range",
            "Input, with what came from caches, and output, when it settled; out of the audit: exact.",
            f"SELECT coalesce(sum(u.input_tokens + u.output_tokens), 0)::float8 AS value {_USED}",
        ),
        found(
            "From the cache",
            "Share of the input that was read from caches.",
            f"SELECT coalesce(sum(u.cache_read_tokens)::float8 / nullif(sum(u.input_tokens), 0), 0) AS value {_USED}",
            "percentunit",
        ),
        found(
            "Without a price",
            "Model calls of which no cost is known.",
            f"SELECT greatest(coalesce(sum(u.unpriced), 0), 0)::float8 AS value {_USED}",
            steps=((None, GREEN), (1, YELLOW)),
        ),
        lines(
            "Cost an hour, by agent",
            "As it settled; calls without a known price are not in it.",
            (f"sum by (agent) (rate({cost}[{rate}])) * 3600", "{{agent}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Cost an hour, by model",
            "By the model that each call names.",
            (f"sum by (model) (rate({cost}[{rate}])) * 3600", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Tokens a minute, by kind",
            "Input includes what came from caches.",
            (f"sum by (kind) (rate({tokens}[{rate}])) * 60", "{{kind}}"),
        ),
        bars(
            "Held back, by model",
            "Calls that met a rate limit or a spent quota in this range.",
            f"round(sum by (limit, model) (increase(spanpost_provider_limits_total{{{WHO}}}[$__range]))) > 0",
            "{{limit}} {{model}}",
            width=12,
        ),
        rows(
            "Budgets",
            "What is spent of each in its period of now, and by whom; those that are nearest to their limit first.",
            'SELECT budget AS "Budget", tenant AS "Tenant", (SELECT string_agg(w.value, \', \') FROM jsonb_each_text(scope) w) AS "Of", ends_at AS "Until",'
            ' share AS "Used", cost_usd::float8 AS "Spent", limit_usd::float8 AS "Limit", tokens::float8 AS "Tokens",'
            ' limit_tokens::float8 AS "Of tokens", unpriced::float8 AS "Without a price" FROM ('
            " SELECT *, greatest(coalesce(cost_usd / nullif(limit_usd, 0), 0),"
            " coalesce(tokens::numeric / nullif(limit_tokens, 0), 0))::float8 AS share FROM spending WHERE ends_at > now()"
            ") s ORDER BY share DESC LIMIT 100",
            width=24,
            units={"Used": "percentunit", "Spent": "currencyUSD", "Limit": "currencyUSD", "Tokens": "short", "Of tokens": "short"},
            widths={"Used": 90, "Spent": 90, "Limit": 90, "Tokens": 100, "Of tokens": 100, "Without a price": 130, "Until": 180},
            steps={"Used": _BUDGET},
        ),
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
        rows(
            "By agent",
            "Out of the audit: exact.",
            f'SELECT coalesce(agent_name, \'unknown\') AS "Agent", count(*)::int AS "Tasks", sum(llm_calls)::float8 AS "Calls", sum(input_tokens)::float8 AS "Tokens in", sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost" {sums} GROUP BY 1 ORDER BY 6 DESC NULLS LAST',
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Tasks": 60, "Calls": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By model",
            "Out of the audit: exact; by the model that each call names, when it settled.",
            'SELECT coalesce(nullif(u.model, \'\'), \'unknown\') AS "Model", sum(u.calls)::float8 AS "Calls", sum(u.input_tokens)::float8 AS "Tokens in",'
            ' sum(u.output_tokens)::float8 AS "Tokens out", sum(u.cost_usd)::float8 AS "Cost"'
            f" {_USED} GROUP BY 1 ORDER BY 5 DESC",
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Calls": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By tenant",
            "Out of the audit: exact.",
            f'SELECT t.tenant AS "Tenant", count(*)::int AS "Tasks", sum(t.input_tokens)::float8 AS "Tokens in", sum(t.output_tokens)::float8 AS "Tokens out", sum(t.cost_usd)::float8 AS "Cost" {sums} GROUP BY 1 ORDER BY 5 DESC NULLS LAST',
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Tasks": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By sort of work",
            "Out of the audit: exact.",
            f'SELECT coalesce(type, \'unknown\') AS "Sort", count(*)::int AS "Tasks", sum(cost_usd)::float8 AS "Cost", (sum(cost_usd) / nullif(count(*) FILTER (WHERE status = \'complete\'), 0))::float8 AS "For each that succeeded" {sums} GROUP BY 1 ORDER BY 3 DESC NULLS LAST',
            width=12,
            units={"Cost": "currencyUSD", "For each that succeeded": "currencyUSD"},
            widths={"Tasks": 90, "Cost": 110, "For each that succeeded": 180},
        ),
        rows(
            "Held back by providers",
            "Rate limits and quotas that were met, by the account that the agent names.",
            'SELECT day AS "Day", coalesce(nullif(account, \'\'), \'unknown\') AS "Account", provider AS "Provider", model AS "Model",'
            ' kind AS "Limit", count::float8 AS "Calls" FROM provider_limits WHERE $__timeFilter(last_at) ORDER BY day DESC, count DESC LIMIT 100',
            width=24,
            height=5,
            widths={"Day": 100, "Limit": 90, "Calls": 70},
        ),
        linked(
            rows(
                "Dearest tasks",
                "With all tasks below them.",
                'SELECT t.task_id AS "Task", t.name AS "Name", s.cost_usd::float8 AS "Cost", (s.input_tokens + s.output_tokens)::float8 AS "Tokens", '
                + _RANGE
                + f" FROM agent_tasks t JOIN agent_task_totals s ON s.uid = t.uid WHERE $__timeFilter(t.started_at) AND t.parent_uid IS NULL AND s.cost_usd IS NOT NULL AND {_AGENTS} ORDER BY 3 DESC LIMIT 20",
                width=24,
                units={"Cost": "currencyUSD", "Tokens": "short"},
                widths={"Cost": 110, "Tokens": 110},
                hidden=("from", "to"),
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
        notes=(("Stalls", "kind = 'stalled'", "orange", True), ("All tasks", "kind = 'task'", "blue", False)),
        is_of_fleet=False,
    )
    for panel in (
        number("Processes", "Of spanpost, as scraped.", "count(spanpost_build_info)"),
        in_words(
            number("Database", "Whether every process reaches it.", "min(spanpost_ledger_up)", "short", (None, RED), (1, GREEN)),
            {"1": ("up", GREEN), "0": ("away", RED)},
        ),
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
            "Audit rows a second",
            "New by part of a span, repeats, and spans that are no agent's.",
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
            "Deliveries a minute",
            "Attempts, by what came of them.",
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
            "Calls of sinks a minute",
            "By method and outcome.",
            (f"sum by (method, outcome) (rate(spanpost_sink_calls_total[{rate}])) * 60", "{{method}} {{outcome}}"),
        ),
        lines(
            "Edits saved a minute",
            "States that gave way to newer ones before they were sent.",
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
            "Requests a minute",
            "At the doors and at the desk, by answer.",
            (
                f"sum by (door, answer) (rate(spanpost_requests_total[{rate}])) * 60"
                f" or sum by (door, answer) (rate(spanpost_desk_requests_total[{rate}])) * 60",
                "{{door}} {{answer}}",
            ),
            width=8,
        ),
        bars(
            "Losses by reason",
            "In this range; zeros are good.",
            "round(sum by (room, reason) (increase(spanpost_lost_total[$__range]))) > 0"
            ' or label_replace(sum(spanpost_ledger_up) * 0, "room", "nothing is lost", "", "")',
            "{{room}} {{reason}}",
        ),
        bars(
            "Checkpoints",
            "Told in this range, by kind.",
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
            "Letters",
            "By sink and state.",
            'SELECT sink AS "Sink", state AS "State", date_trunc(\'second\', min(born_at)) AS "Oldest", count(*)::int AS "Letters" FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2',
            width=12,
            widths={"Letters": 90, "Oldest": 180},
        ),
        rows(
            "Tables",
            "Rows as the database estimates them when it has looked (ANALYZE); a month of the audit is a table.",
            'SELECT relname AS "Table", greatest(sum(reltuples), 0)::float8 AS "Rows", sum(pg_total_relation_size(oid))::float8 AS "Size" FROM pg_class WHERE relkind = \'r\' AND relname ~ \'^(agent_|deliveries|human_|task_|dead_letters|approvals|model_usage|kin|lanes)\' GROUP BY 1 ORDER BY 3 DESC',
            width=12,
            units={"Rows": "short", "Size": "bytes"},
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
