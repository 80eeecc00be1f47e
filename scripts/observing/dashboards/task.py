"""*Task*: one task from beginning to end, out of PostgreSQL."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m

from observing.dashboards.common import BOARD, BOARD_VARIABLE, CONTEXT, TRACE
from observing.frame import Note, dashboard, in_rows
from observing.panels import POSTGRES, RED, TRACES, YELLOW, curve, found, linked, rows
from observing.timelines import states, trace

#: The task that the variable names.
ONE = (
    "(SELECT uid FROM agent_tasks WHERE task_id = ${task:sqlstring} "
    "OR aliases @> to_jsonb(${task:sqlstring}::text) ORDER BY started_at DESC LIMIT 1)"
)
MODEL = "coalesce(e.attributes->>'gen_ai.response.model', e.attributes->>'gen_ai.request.model')"
#: Rows of calls: each edge of a call changes how many run; a row is idle again when none does.
_GANTT = """WITH calls AS (
  (SELECT CASE e.role WHEN 2 THEN 'model ' || left(coalesce({model}, ''), 60)
      ELSE 'tool ' || left(coalesce(e.attributes->>'gen_ai.tool.name', e.name), 60) END AS track,
    CASE e.role WHEN 2 THEN 1 ELSE 2 END AS kind, (e.status = 2)::int AS bad,
    to_timestamp(e.start_ns / 1e9) AS begun, to_timestamp(e.end_ns / 1e9) AS ended
  FROM agent_events e
  WHERE e.task_uid = {one} AND e.part = 0 AND e.role IN (2, 3) AND e.end_ns >= e.start_ns
  ORDER BY e.start_ns LIMIT 5000)
  UNION ALL SELECT 'people', 3, 0, requested_at, coalesce(decided_at, now()) FROM approvals WHERE task_uid = {one}
  UNION ALL SELECT 'agent ' || left(coalesce(nullif(agent_name, ''), task_id), 60), 4, (status = 'error')::int,
    started_at, coalesce(ended_at, now())
  FROM agent_tasks WHERE parent_uid = {one} AND started_at IS NOT NULL
), edges AS (
  SELECT track, kind, begun AS at, 1 AS one, bad FROM calls
  UNION ALL SELECT track, kind, ended, -1, -bad FROM calls
), sums AS (
  SELECT track, kind, at, sum(sum(one)) OVER w AS runs, sum(sum(bad)) OVER w AS fails
  FROM edges GROUP BY track, kind, at WINDOW w AS (PARTITION BY track, kind ORDER BY at)
)
SELECT at AS time, track AS metric, (CASE WHEN runs <= 0 THEN 0 WHEN fails > 0 THEN 5 ELSE kind END)::float8 AS value
FROM sums ORDER BY 1, 2"""


def _of_one() -> tuple[Note, ...]:
    return (
        ("The task", f"t.kind = 'task' AND t.task_uid = {ONE}", "blue", True),
        (
            "Questions and answers",
            f"t.kind IN ('approval_requested', 'approval_resolved') AND t.task_uid = {ONE}",
            "orange",
            True,
        ),
        (
            "Errors and warnings",
            f"t.kind NOT IN ('task', 'approval_requested', 'approval_resolved') AND t.task_uid = {ONE}",
            "red",
            True,
        ),
    )


def task() -> d.Dashboard:
    """One task's timeline out of Postgres."""
    choose = (
        "SELECT task_id AS __value, left(title, 80) || ' · ' || status AS __text "
        "FROM agent_tasks"
        " WHERE $__timeFilter(started_at) AND announced ORDER BY started_at DESC LIMIT 200"
    )
    made = dashboard(
        "task",
        "spanpost / Task",
        "One task from start to end: its calls over time, its trace, its questions, its cost.",
        hours=24,
        notes=_of_one(),
        is_of_fleet=False,
        labels=(),
    )
    made = made.with_variable(
        d.DatasourceVariable("tempo_datasource").label("Tempo data source").type(str(TRACES.type_val))
    )
    variable = (
        d.QueryVariable("task")
        .label("Task")
        .datasource(POSTGRES)
        .query(choose)
        .refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    hidden = (
        d.QueryVariable("trace")
        .datasource(POSTGRES)
        .query(f"SELECT encode(trace_id, 'hex') FROM agent_tasks WHERE uid = {ONE}")
        .hide(m.VariableHide.HIDE_VARIABLE)
        .refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    made = made.with_variable(variable).with_variable(hidden).with_variable(BOARD_VARIABLE)
    made = made.with_variable(d.TextBoxVariable("slack").label("Slack workspace").default_value("https://slack.com"))
    return in_rows(
        made,
        {"Now": _now(), "Timeline": _timeline(), "Trace": _trace(), "Why": _why(), "Tables": _tables()},
        closed=("Trace",),
    )


def _now() -> list[Any]:
    return [
        linked(
            linked(
                rows(
                    "Task",
                    "Its status and the reason. The name opens it on the board, the trace id its spans.",
                    'SELECT t.name AS "Name", t.agent_name AS "Agent", n.status AS "Status", t.end_reason AS "Why",'
                    " coalesce(nullif(t.error->>'message', ''), t.error->>'type') AS \"Error\", encode(t.trace_id, "
                    '\'hex\') AS "Trace", t.task_id AS "id",'
                    ' t.started_at AS "Started", extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)'
                    '::float8 AS "Duration"'
                    f" FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid WHERE t.uid = {ONE}",
                    height=4,
                    units={"Duration": "s", "Name": "string", "Trace": "string", "id": "string"},
                    widths={
                        "Agent": 120,
                        "Status": 130,
                        "Why": 110,
                        "Started": 170,
                        "Duration": 90,
                        "Trace": 300,
                    },
                    statuses=("Status",),
                    hidden=("id",),
                ),
                "Name",
                BOARD,
            ),
            "Trace",
            ("Open the trace", TRACE),
        ),
        *(
            found(
                title,
                says,
                f"SELECT {column} AS value FROM agent_task_totals s JOIN agent_tasks t USING (uid) WHERE s.uid = {ONE}",
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
                (
                    "Model calls",
                    "Including all tasks below it, each call once.",
                    "s.llm_calls::float8",
                    "short",
                ),
                (
                    "Tool calls",
                    "Including all tasks below it, each call once.",
                    "s.tool_calls::float8",
                    "short",
                ),
                (
                    "Calls without a price",
                    "Own model calls without a known cost.",
                    "coalesce(t.unpriced_calls, 0)::float8",
                    "short",
                ),
            )
        ),
    ]


def _timeline() -> list[Any]:
    return [
        states(
            "Calls over time",
            "A row for each model, tool and sub-agent, and one for questions to people. Red: failed.",
            _GANTT.format(one=ONE, model=MODEL),
            {
                "1": ("model call", "blue"),
                "2": ("tool call", "semi-dark-green"),
                "3": ("waits for a person", YELLOW),
                "4": ("sub-agent", "purple"),
                "5": ("failed", RED),
            },
            width=24,
            height=10,
        ),
        curve(
            "Context",
            "Share of the window in use after each model call, with the warning thresholds of 70 and 85 %.",
            f"SELECT e.occurred_at AS time, coalesce({MODEL}, 'context') AS metric,"
            " (e.attributes->>'gen_ai.usage.input_tokens')::float8 / nullif(t.context_window_tokens, 0) AS value"
            f" FROM agent_events e JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.task_uid = {ONE} AND e.part "
            f"= 0 AND e.role = 2"
            " AND jsonb_typeof(e.attributes->'gen_ai.usage.input_tokens') = 'number' ORDER BY 1",
            "percentunit",
            steps=CONTEXT,
            most=1,
        ),
        rows(
            "Checkpoints",
            "Its checkpoints, in order.",
            f'SELECT at AS "At", kind AS "Kind", status AS "Status", text AS "Text", progress AS "Progress" '
            f"FROM agent_checkpoints WHERE task_uid = {ONE} ORDER BY at, id LIMIT 500",
            width=12,
            height=9,
            units={"Progress": "percent"},
            widths={"At": 165, "Kind": 150, "Status": 125, "Progress": 80},
            statuses=("Status",),
        ),
    ]


def _trace() -> list[Any]:
    return [
        trace(
            "Trace",
            "Its spans, out of the backend of traces that the variable names.",
            "${trace}",
        ),
    ]


def _why() -> list[Any]:
    return [
        rows(
            "Calls",
            "Model calls and tool calls in order.",
            "SELECT to_timestamp(e.start_ns / 1e9) AS \"Began\", CASE e.role WHEN 2 THEN 'model' ELSE 'tool' "
            'END AS "Kind",'
            f" coalesce(CASE e.role WHEN 2 THEN {MODEL} ELSE e.attributes->>'gen_ai.tool.name' END, e.name) AS "
            f'"Name",'
            " CASE e.status WHEN 2 THEN 'error' ELSE 'ok' END AS \"Result\", coalesce(nullif(e.status_message, "
            "''), e.attributes->>'error.type') AS \"Why\","
            ' (e.end_ns - e.start_ns) / 1e9::float8 AS "Duration" '
            + f"FROM agent_events e WHERE e.task_uid = {ONE} AND e.part = 0"
            + " AND e.role IN (2, 3) ORDER BY e.start_ns LIMIT 500",
            width=14,
            height=9,
            units={"Duration": "s"},
            widths={"Began": 165, "Kind": 70, "Duration": 80, "Result": 70},
        ),
        rows(
            "Approvals",
            "Questions to people, and their answers.",
            'SELECT date_trunc(\'second\', requested_at) AS "At", state AS "State", question AS "Question", '
            'decision AS "Decision",'
            f' "by" AS "By", comment AS "Comment" FROM approvals WHERE task_uid = {ONE} ORDER BY requested_at, key',
            width=10,
            height=9,
            widths={"At": 165, "State": 80, "Decision": 85, "By": 80, "Comment": 100},
        ),
    ]


def _tables() -> list[Any]:
    return [
        rows(
            "Steps",
            "As the agent or its spans report them.",
            f"SELECT s->>'index' AS \"No\", s->>'name' AS \"Step\", (s->>'at')::timestamptz AS \"At\" FROM "
            f"agent_tasks t, jsonb_array_elements(t.steps) s WHERE t.uid = {ONE}",
            width=12,
            height=10,
            widths={"No": 50, "At": 165},
        ),
        rows(
            "By model",
            "Sums of its own finalized calls, by the model that each names.",
            "SELECT coalesce(nullif(model, ''), 'unknown') AS \"Model\", sum(calls)::float8 AS \"Calls\", "
            'sum(input_tokens)::float8 AS "Tokens in",'
            ' sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost"'
            f" FROM model_usage WHERE task_uid = {ONE} GROUP BY 1 ORDER BY 5 DESC",
            width=12,
            units={"Tokens in": "short", "Tokens out": "short", "Cost": "currencyUSD"},
            widths={"Calls": 70, "Tokens in": 95, "Tokens out": 95, "Cost": 80},
        ),
        linked(
            rows(
                "Artifacts",
                "Files, pull requests and other results of the task.",
                f'SELECT name AS "Name", kind AS "Kind", uri AS "Link", at AS "At" FROM task_artifacts WHERE '
                f"task_uid = {ONE} ORDER BY at",
                width=12,
                height=6,
                widths={"Name": 110, "Kind": 60, "At": 165},
            ),
            "Link",
            ("Open it", "${__value.raw}"),
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
                f" WHERE d.task_uid = {ONE} AND d.mode = 'state'"
                " UNION ALL SELECT k.key, 'link', k.value, NULL FROM agent_tasks t, jsonb_each_text(t.links) k"
                f" WHERE t.uid = {ONE} AND k.value ~ '^https?://'",
                width=12,
                height=6,
                widths={"Where": 120, "State": 100, "Why": 200},
            ),
            "Link",
            ("Open it", "${__value.raw}"),
            is_outside=True,
        ),
    ]
