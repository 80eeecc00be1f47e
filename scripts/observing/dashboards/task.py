"""*Task*: one task from beginning to end, out of PostgreSQL."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m

from observing.dashboards.common import CONTEXT, TRACE
from observing.panels import POSTGRES, Note, curve, dashboard, found, linked, rows


def _of_one(one: str) -> tuple[Note, ...]:
    return (
        ("The task", f"kind = 'task' AND task_uid = {one}", "blue", True),
        (
            "Questions and answers",
            f"kind IN ('approval_requested', 'approval_resolved') AND task_uid = {one}",
            "orange",
            True,
        ),
        (
            "Errors and warnings",
            f"kind NOT IN ('task', 'approval_requested', 'approval_resolved') AND task_uid = {one}",
            "red",
            True,
        ),
    )


def task() -> d.Dashboard:
    """One task's timeline out of Postgres."""
    one = (
        "(SELECT uid FROM agent_tasks WHERE task_id = ${task:sqlstring} "
        "OR aliases @> to_jsonb(${task:sqlstring}::text) ORDER BY started_at DESC LIMIT 1)"
    )
    choose = (
        "SELECT task_id AS __value, left(coalesce(nullif(name, ''), task_id), 80) || ' · ' || status AS __text "
        "FROM agent_tasks"
        " WHERE $__timeFilter(started_at) AND announced ORDER BY started_at DESC LIMIT 200"
    )
    made = dashboard(
        "task", "spanpost / Task", "One task from start to end.", hours=24, notes=_of_one(one), is_of_fleet=False
    )
    variable = (
        d.QueryVariable("task")
        .label("Task")
        .datasource(POSTGRES)
        .query(choose)
        .refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    made = made.with_variable(variable).with_variable(
        d.TextBoxVariable("slack").label("Slack workspace").default_value("https://slack.com")
    )
    calls = f"FROM agent_events e WHERE e.task_uid = {one} AND e.part = 0"
    model = "coalesce(e.attributes->>'gen_ai.response.model', e.attributes->>'gen_ai.request.model')"
    for panel in (
        rows(
            "Task",
            "The task, its status and the reason. Click the trace to open its spans.",
            'SELECT t.name AS "Name", t.agent_name AS "Agent", n.status AS "Status", t.end_reason AS "Why",'
            " coalesce(nullif(t.error->>'message', ''), t.error->>'type') AS \"Error\", encode(t.trace_id, "
            "'hex') AS \"Trace\","
            ' t.started_at AS "Started", extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 '
            'AS "Took"'
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
                    "Including all tasks below it, without calls of unknown cost.",
                    "s.cost_usd::float8",
                    "currencyUSD",
                ),
                (
                    "Tokens in",
                    "Including all tasks below it, and caches.",
                    "s.input_tokens::float8",
                    "short",
                ),
                ("Tokens out", "With all tasks below it.", "s.output_tokens::float8", "short"),
                ("Model calls", "Including all tasks below it, each call once.", "s.llm_calls::float8", "short"),
                ("Tool calls", "Including all tasks below it, each call once.", "s.tool_calls::float8", "short"),
                (
                    "Without a price",
                    "Own model calls without a known cost.",
                    "coalesce(t.unpriced_calls, 0)::float8",
                    "short",
                ),
            )
        ),
        curve(
            "Context",
            "Share of the window in use after each model call, with the warning thresholds of 70 and 85 %.",
            f"SELECT e.occurred_at AS time, coalesce({model}, 'context') AS metric,"
            " (e.attributes->>'gen_ai.usage.input_tokens')::float8 / nullif(t.context_window_tokens, 0) AS value"
            f" FROM agent_events e JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.task_uid = {one} AND e.part "
            f"= 0 AND e.role = 2"
            " AND jsonb_typeof(e.attributes->'gen_ai.usage.input_tokens') = 'number' ORDER BY 1",
            "percentunit",
            steps=CONTEXT,
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
            "Checkpoints",
            "Its checkpoints, in order.",
            f'SELECT at AS "At", kind AS "Kind", status AS "Status", text AS "Text", progress AS "Progress" '
            f"FROM agent_checkpoints WHERE task_uid = {one} ORDER BY at, id LIMIT 500",
            width=14,
            height=10,
            units={"Progress": "percent"},
            widths={"At": 165, "Kind": 150, "Status": 125, "Progress": 80},
            statuses=("Status",),
        ),
        rows(
            "Steps",
            "As the agent or its spans report them.",
            f"SELECT s->>'index' AS \"No\", s->>'name' AS \"Step\", (s->>'at')::timestamptz AS \"At\" FROM "
            f"agent_tasks t, jsonb_array_elements(t.steps) s WHERE t.uid = {one}",
            width=10,
            height=10,
            widths={"No": 50, "At": 165},
        ),
        rows(
            "Calls",
            "Model calls and tool calls in order.",
            "SELECT to_timestamp(e.start_ns / 1e9) AS \"Began\", CASE e.role WHEN 2 THEN 'model' ELSE 'tool' "
            'END AS "Sort",'
            f" coalesce(CASE e.role WHEN 2 THEN {model} ELSE e.attributes->>'gen_ai.tool.name' END, e.name) AS "
            f'"Which",'
            " CASE e.status WHEN 2 THEN 'error' ELSE 'ok' END AS \"Came\", coalesce(nullif(e.status_message, "
            "''), e.attributes->>'error.type') AS \"Why\","
            ' (e.end_ns - e.start_ns) / 1e9::float8 AS "Took" '
            + calls
            + " AND e.role IN (2, 3) ORDER BY e.start_ns LIMIT 500",
            width=14,
            units={"Took": "s"},
            widths={"Began": 165, "Sort": 70, "Took": 80, "Came": 70},
        ),
        rows(
            "By model",
            "Sums of its own finalized calls, by the model that each names.",
            "SELECT coalesce(nullif(model, ''), 'unknown') AS \"Model\", sum(calls)::float8 AS \"Calls\", "
            'sum(input_tokens)::float8 AS "Tokens in",'
            ' sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost"'
            f" FROM model_usage WHERE task_uid = {one} GROUP BY 1 ORDER BY 5 DESC",
            width=10,
            units={"Tokens in": "short", "Tokens out": "short", "Cost": "currencyUSD"},
            widths={"Calls": 70, "Tokens in": 95, "Tokens out": 95, "Cost": 80},
        ),
        rows(
            "Approvals",
            "Questions to people, and their answers.",
            'SELECT date_trunc(\'second\', requested_at) AS "At", state AS "State", question AS "Question", '
            'decision AS "Decision",'
            f' "by" AS "By", comment AS "Said" FROM approvals WHERE task_uid = {one} ORDER BY requested_at, key',
            width=14,
            height=6,
            widths={"At": 190, "State": 90, "Decision": 100, "By": 100, "Said": 140},
        ),
        linked(
            rows(
                "Artifacts",
                "What it made.",
                f'SELECT name AS "Name", kind AS "Kind", uri AS "Link", at AS "At" FROM task_artifacts WHERE '
                f"task_uid = {one} ORDER BY at",
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
                "Its messages, and the links that it reported. Give your workspace's address above: "
                "https://acme.slack.com.",
                'SELECT d.sink AS "Where", d.state AS "State", \'${slack}/archives/\' || '
                "(l.receipt->'ref'->>'channel') || '/p'"
                " || replace(l.receipt->'ref'->>'ts', '.', '') AS \"Link\", d.reason AS \"Why\""
                " FROM deliveries d LEFT JOIN ordering_keys l ON l.sink = d.sink AND l.ordering_key = d.ordering_key"
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
