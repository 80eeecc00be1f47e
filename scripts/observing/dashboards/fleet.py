"""*Fleet*: what runs, what fails, what waits for a person."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from observing.dashboards.common import AGENTS, ENDED, RANGE, TASK
from observing.panels import (
    GREEN,
    RED,
    STATUS_COLORS,
    WHO,
    YELLOW,
    bars,
    colored,
    dashboard,
    found,
    lines,
    linked,
    number,
    rows,
)


def fleet() -> d.Dashboard:
    """Running tasks, failing tasks, open questions."""
    rate = "$__rate_interval"
    ended = f"spanpost_tasks_ended_total{{{WHO}}}"
    failed = f'spanpost_tasks_ended_total{{status="error",{WHO}}}'
    made = dashboard("fleet", "spanpost / Fleet", "Running tasks, failing tasks, open questions.")
    for panel in (
        number("Under way", "Tasks that have not ended.", f"sum(spanpost_tasks_open{{{WHO}}}) or vector(0)"),
        number(
            "Waiting for a person",
            "Unanswered questions.",
            f"sum(spanpost_approvals_open{{{WHO}}}) or vector(0)",
            "short",
            (None, GREEN),
            (1, YELLOW),
        ),
        number(
            "Longest wait",
            "Time since the oldest open question.",
            f"max(spanpost_approval_oldest_seconds{{{WHO}}}) or vector(0)",
            "s",
            (None, GREEN),
            (600, YELLOW),
            (1800, RED),
        ),
        number(
            "Stalled",
            "Tasks without telemetry for too long.",
            f'sum(spanpost_tasks_open{{status="stalled",{WHO}}}) or vector(0)',
            "short",
            (None, GREEN),
            (1, RED),
        ),
        found("Ended in this range", "Tasks, out of the audit: exact.", f"SELECT count(*)::float8 AS value {ENDED}"),
        found(
            "Failed",
            "Failed share of the tasks that ended in this range; from the audit rows: exact.",
            f"SELECT (count(*) FILTER (WHERE t.status = 'error'))::float8 / nullif(count(*), 0) AS value {ENDED}",
            "percentunit",
            steps=((None, GREEN), (0.1, YELLOW), (0.3, RED)),
        ),
        colored(
            lines(
                "Under way, by status",
                "Tasks that have not ended, by their present status.",
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
            "Time in which half, and 19 of 20, of the runs end. A point is a task's trace.",
            *(
                (
                    f"histogram_quantile({q}, sum by (le) "
                    f'(rate(spanpost_task_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
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
                f"histogram_quantile(0.95, sum by (le) "
                f'(rate(spanpost_model_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                "model calls",
            ),
            (
                f"histogram_quantile(0.95, sum by (le) "
                f'(rate(spanpost_tool_call_duration_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
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
            "Time from a question to its answer for half, and 19 of 20, of the answers.",
            *(
                (
                    f"histogram_quantile({q}, sum by (le) "
                    f'(rate(spanpost_approval_wait_seconds_bucket{{agent=~"$agent"}}[{rate}])))',
                    f"{p} %",
                )
                for q, p in ((0.5, 50), (0.95, 95))
            ),
            unit="s",
            width=8,
            exemplar=True,
        ),
        lines(
            "Longest time without telemetry",
            "Time since the last telemetry of a running task, the longest of each agent.",
            (f"max by (agent) (spanpost_task_quiet_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
            width=8,
        ),
        bars(
            "Health of agents",
            "100 less what failures, stalls, questions nobody answers and spent budgets take away; the view "
            "agent_health says which.",
            'min by (agent) (spanpost_agent_health_score{agent=~"$agent",tenant=~"$tenant"})',
            "{{agent}}",
            steps=((None, RED), (60, YELLOW), (80, GREEN)),
            most=100,
        ),
        lines(
            "Scores",
            "Mean score of evaluations by name, each once; `person_rating` is people's 👍 (1) and 👎 (0).",
            (
                f"sum by (evaluation) (rate(spanpost_evaluation_score_sum{{{WHO}}}[{rate}]))"
                f" / sum by (evaluation) (rate(spanpost_evaluation_score_count{{{WHO}}}[{rate}]))",
                "{{evaluation}}",
            ),
            width=16,
        ),
        bars(
            "Evaluations",
            "Evaluations in this range, by name and whether people or evaluators gave them.",
            f"round(sum by (source, evaluation) (increase(spanpost_evaluations_total{{{WHO}}}[$__range]))) > 0",
            "{{source}} {{evaluation}}",
            width=8,
        ),
        linked(
            rows(
                "Newest tasks",
                "Click the id to open the task.",
                'SELECT t.task_id AS "Task", t.name AS "Name", t.action AS "Doing", t.agent_name AS "Agent", '
                'n.status AS "Status", t.started_at AS "Started",'
                ' extract(epoch FROM coalesce(t.ended_at, now()) - t.started_at)::float8 AS "Took", '
                't.cost_usd::float8 AS "Cost",'
                f" {RANGE} FROM agent_tasks t JOIN agent_tasks_now n ON n.uid = t.uid"
                f" WHERE $__timeFilter(t.started_at) AND t.announced AND {AGENTS} ORDER BY t.started_at DESC LIMIT 100",
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
