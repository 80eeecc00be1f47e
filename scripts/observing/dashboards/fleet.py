"""*Fleet*: what runs, what fails, what waits for a person."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m

from observing.dashboards.common import BOARD, BOARD_VARIABLE, ENDED, HIDDEN, ON_BOARD, RANGE, TASK
from observing.frame import dashboard, in_rows
from observing.panels import (
    AGENTS,
    GREEN,
    HIGH,
    JOB,
    RED,
    STATUS_COLORS,
    WHO,
    YELLOW,
    bars,
    colored,
    curve,
    found,
    lines,
    linked,
    number,
    quantiles,
    rows,
)
from observing.timelines import heat, states

_RATE = "$__rate_interval"
_ENDS = f"spanpost_tasks_ended_total{{{WHO}}}"
_JUDGED = f'spanpost_tasks_ended_total{{status=~"complete|error",{WHO}}}'
_GOOD = f'spanpost_tasks_ended_total{{status="complete",{WHO}}}'
_FAILED = f'spanpost_tasks_ended_total{{status="error",{WHO}}}'
#: Ends that count towards the objective, in SQL.
_OF_ENDS = "nullif(count(*) FILTER (WHERE t.status IN ('complete', 'error')), 0)"
#: Root tasks that ended well.
_SUCCESSES = "nullif(count(*) FILTER (WHERE t.status = 'complete' AND t.parent_uid IS NULL), 0)"
#: Each agent's gravest state in each of 80 parts of the time range.
_STATES = f"""WITH cuts AS (
  SELECT b.at, b.at + w.width AS till
  FROM (SELECT ($__timeTo()::timestamptz - $__timeFrom()::timestamptz) / 80 AS width) w,
    generate_series($__timeFrom()::timestamptz, $__timeTo()::timestamptz - w.width, w.width) b(at)
), tasks AS (
  SELECT coalesce(nullif(t.agent_name, ''), 'unknown') AS agent, t.status, t.started_at, t.ended_at,
    a.asked_at, a.told_at
  FROM agent_tasks t LEFT JOIN LATERAL (
    SELECT min(q.requested_at) AS asked_at,
      max(coalesce(q.decided_at, CASE WHEN q.state = 'open' THEN now() ELSE q.requested_at END)) AS told_at
    FROM approvals q WHERE q.task_uid = t.uid
  ) a ON true
  WHERE t.started_at <= $__timeTo() AND coalesce(t.ended_at, now()) >= $__timeFrom() AND t.announced AND {AGENTS}
)
SELECT c.at AS time, n.agent AS metric, coalesce(max(CASE
    WHEN t.status = 'error' AND t.ended_at >= c.at AND t.ended_at < c.till THEN 3
    WHEN t.asked_at < c.till AND t.told_at >= c.at THEN 2 WHEN t.status IS NOT NULL THEN 1 END), 0)::float8 AS value
FROM cuts c CROSS JOIN (SELECT DISTINCT agent FROM tasks) n LEFT JOIN tasks t
  ON t.agent = n.agent AND t.started_at < c.till AND coalesce(t.ended_at, now()) >= c.at
WHERE c.at <= now() GROUP BY 1, 2 ORDER BY 1, 2"""


def fleet() -> d.Dashboard:
    """Running tasks, failing tasks, open questions."""
    made = dashboard("fleet", "spanpost / Fleet", "Running tasks, failing tasks, open questions, objectives.")
    objective = d.CustomVariable("objective").label("Objective, %").values("90,95,99,99.5,99.9")
    made = made.with_variable(objective.current(m.VariableOption(text="95", value="95", selected=True)))
    made = made.with_variable(BOARD_VARIABLE)
    return in_rows(
        made,
        {"Now": _now(), "Objectives": _objectives(), "Trends": _trends(), "Why": _why(), "Tables": _tables()},
    )


def _now() -> list[Any]:
    return [
        number("Open tasks", "Tasks that have not ended.", f"sum(spanpost_tasks_open{{{WHO}}}) or vector(0)"),
        number(
            "Waiting for people",
            "Unanswered questions.",
            f"sum(spanpost_approvals_open{{{WHO}}}) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        number(
            "Oldest question",
            "Time since the oldest open question.",
            f"max(spanpost_approval_oldest_seconds{{{WHO}}}) or vector(0)",
            "s",
            (None, GREEN),
            (600, YELLOW),
            (1800, RED),
        ),
        number(
            "Stalled tasks",
            "Tasks without telemetry for longer than the stall timeout.",
            f'sum(spanpost_tasks_open{{status="stalled",{WHO}}}) or vector(0)',
            "short",
            (None, GREEN),
            (1, RED),
        ),
        found("Ended in this range", "Tasks; from the audit rows: exact.", f"SELECT count(*)::float8 AS value {ENDED}"),
        found(
            "Failed",
            "Failed share of the tasks that ended in this range; from the audit rows: exact.",
            f"SELECT (count(*) FILTER (WHERE t.status = 'error'))::float8 / nullif(count(*), 0) AS value {ENDED}",
            "percentunit",
            steps=((None, GREEN), (0.1, YELLOW), (0.3, RED)),
        ),
        colored(
            lines(
                "Open tasks, by status",
                "Tasks that have not ended, by their present status.",
                (f"sum by (status) (spanpost_tasks_open{{{WHO}}})", "{{status}}"),
                stacked=True,
            ),
            STATUS_COLORS,
        ),
        states(
            "Agents",
            "Each agent's gravest state over time: a task failed, a task waited for a person, a task was open.",
            _STATES,
            {"1": ("working", "semi-dark-green"), "2": ("waiting for a person", YELLOW), "3": ("a task failed", RED)},
        ),
    ]


def _by_hour(name: str, value: str) -> str:
    return (
        f"SELECT date_trunc('hour', t.ended_at) AS time, '{name}' AS metric, {value} AS value {ENDED} "
        "GROUP BY 1 ORDER BY 1"
    )


def _objectives() -> list[Any]:
    return [
        found(
            "Successful",
            "Share of tasks that succeeded, of those that succeeded or failed in this range; cancelled tasks do not "
            "count. From the audit rows: exact.",
            f"SELECT (count(*) FILTER (WHERE t.status = 'complete'))::float8 / {_OF_ENDS} AS value {ENDED}",
            "percentunit",
            width=3,
            height=HIGH,
            steps=((None, RED), (0.9, YELLOW), (0.95, GREEN)),
        ),
        found(
            "Error budget left",
            "Share of the failures that the objective allows and that did not happen in this range; below 0 % it is "
            "missed.",
            f"SELECT 1 - (count(*) FILTER (WHERE t.status = 'error'))::float8 / {_OF_ENDS}"
            f" / (1 - $objective / 100.0) AS value {ENDED}",
            "percentunit",
            width=3,
            height=HIGH,
            steps=((None, RED), (0, YELLOW), (0.25, GREEN)),
        ),
        colored(
            lines(
                "Successful tasks",
                "Share of tasks that succeeded, of those that succeeded or failed, and the objective.",
                (f"sum(rate({_GOOD}[{_RATE}])) / sum(rate({_JUDGED}[{_RATE}]))", "successful"),
                ("vector($objective / 100)", "objective"),
                unit="percentunit",
                width=9,
                most=1,
            ),
            {"successful": GREEN, "objective": "orange"},
        ),
        curve(
            "First answer of people, by hour",
            "Time in which 95 % of the questions of each hour were answered by a person; open questions are not "
            "included.",
            "SELECT date_trunc('hour', q.requested_at) AS time, 'p95' AS metric, percentile_cont(0.95) WITHIN GROUP"
            " (ORDER BY greatest(extract(epoch FROM q.decided_at - q.requested_at), 0))::float8 AS value"
            " FROM approvals q JOIN agent_tasks t ON t.uid = q.task_uid"
            " WHERE $__timeFilter(q.requested_at) AND q.decided_at IS NOT NULL AND q.source NOT IN ('spanpost', 'rule',"
            f" 'withdrawal') AND {AGENTS} GROUP BY 1 ORDER BY 1",
            "s",
            width=9,
        ),
        curve(
            "Cost per success",
            "Cost of all tasks that ended in an hour, for each root task that succeeded in it.",
            _by_hour("cost", f"sum(t.cost_usd)::float8 / {_SUCCESSES}"),
            "currencyUSD",
        ),
        curve(
            "Tokens per success",
            "Tokens of all tasks that ended in an hour, for each root task that succeeded in it.",
            _by_hour("tokens", f"sum(t.input_tokens + t.output_tokens)::float8 / {_SUCCESSES}"),
        ),
    ]


def _trends() -> list[Any]:
    duration = f"spanpost_task_duration_seconds_bucket{{{WHO}}}"
    return [
        colored(
            lines(
                "Ended tasks per hour, by status",
                "Runs that ended. A point is a task's trace.",
                (f"sum by (status) (rate({_ENDS}[{_RATE}])) * 3600", "{{status}}"),
                stacked=True,
                exemplar=True,
            ),
            STATUS_COLORS,
        ),
        lines(
            "Task duration",
            "Percentiles of the time from start to end. A point is a task's trace.",
            *quantiles(duration),
            unit="s",
            exemplar=True,
        ),
        heat("Task durations", "Number of ended tasks by their duration.", duration),
        lines(
            "Call duration",
            "Percentiles of the duration of model calls and tool calls. A point is a call's trace.",
            *quantiles(f"spanpost_model_call_duration_seconds_bucket{{{WHO}}}", "model"),
            *quantiles(f"spanpost_tool_call_duration_seconds_bucket{{{WHO}}}", "tool"),
            unit="s",
            exemplar=True,
        ),
        lines(
            "Answer time of people",
            "Percentiles of the time from a question to its answer.",
            *quantiles(f"spanpost_approval_wait_seconds_bucket{{{WHO}}}"),
            unit="s",
            width=12,
            exemplar=True,
        ),
        lines(
            "Longest time without telemetry",
            "Time since the last telemetry of a running task, the longest of each agent.",
            (f"max by (agent) (spanpost_task_quiet_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
            width=12,
        ),
        lines(
            "Retries of failed tasks",
            "Most retries of a task that failed in the hour before and was not tried again since.",
            (f"max by (agent) (spanpost_task_retries{{{WHO}}})", "{{agent}}"),
            width=12,
        ),
        lines(
            "Scores",
            "Mean score of evaluations by name, each once; `person_rating` is people's 👍 (1) and 👎 (0).",
            (
                f"sum by (evaluation) (rate(spanpost_evaluation_score_sum{{{WHO}}}[{_RATE}]))"
                f" / sum by (evaluation) (rate(spanpost_evaluation_score_count{{{WHO}}}[{_RATE}]))",
                "{{evaluation}}",
            ),
            width=12,
        ),
    ]


def _why() -> list[Any]:
    def sums(labels: str, metric: str) -> str:
        return f"topk(8, round(sum by ({labels}) (increase({metric}[$__range]))) > 0)"

    return [
        bars(
            "Errors and warnings",
            "Failures of tasks and of their parts by type, and warnings by kind, in this range.",
            (sums("error_type", f"spanpost_errors_total{{{WHO}}}"), "{{error_type}}"),
            (sums("kind", f"spanpost_warnings_total{{{WHO}}}"), "warning: {{kind}}"),
        ),
        bars(
            "Failed tasks, by agent",
            "Runs that ended in failure in this range, by agent.",
            (sums("agent", _FAILED), "{{agent}}"),
        ),
        bars(
            "Health of agents",
            "100 minus points for failures, stalls, unanswered questions and spent budgets; the view agent_health "
            "lists them.",
            (f'min by (agent) (spanpost_agent_health_score{{{JOB},agent=~"$agent",tenant=~"$tenant"}})', "{{agent}}"),
            steps=((None, RED), (60, YELLOW), (80, GREEN)),
            most=100,
        ),
    ]


def _tables() -> list[Any]:
    return [
        linked(
            linked(
                rows(
                    "Newest tasks",
                    "Click the name to open the task.",
                    'SELECT t.title AS "Task", t.agent_name AS "Agent", n.status AS'
                    ' "Status", CASE WHEN t.ended_at IS NULL THEN t.action'
                    " ELSE coalesce(nullif(t.error->>'message', ''), t.error->>'type') END AS \"Action or error\","
                    ' t.started_at AS "Started",'
                    ' extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Duration",'
                    f' t.cost_usd::float8 AS "Cost", {ON_BOARD}, {RANGE}'
                    " FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid"
                    f" WHERE $__timeFilter(t.started_at) AND t.announced AND {AGENTS}"
                    " ORDER BY t.started_at DESC LIMIT 100",
                    units={"Duration": "s", "Cost": "currencyUSD", "Task": "string", "id": "string"},
                    widths={"Agent": 130, "Status": 130, "Started": 170, "Duration": 90, "Cost": 80, "Board": 70},
                    hidden=HIDDEN,
                    statuses=("Status",),
                    height=12,
                ),
                "Task",
                TASK,
            ),
            "Board",
            BOARD,
            is_outside=True,
        ),
        rows(
            "Evaluations",
            "Evaluations in this range, by name and source: a person, or an evaluator's telemetry.",
            'SELECT v.name AS "Evaluation", v.source AS "Source",'
            ' count(*)::int AS "Count", avg(v.score)::float8 AS "Mean score" FROM evaluations v'
            f" JOIN agent_tasks t ON t.uid = v.task_uid WHERE $__timeFilter(v.at) AND {AGENTS}"
            " GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50",
            height=6,
            widths={"Source": 130, "Count": 90, "Mean score": 130},
        ),
    ]
