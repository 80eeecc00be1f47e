"""The view of what results cost."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import view

RESULT_COSTS: Final = view(
    "agent_result_costs",
    "Cost of a root task with all tasks below it, split evenly among the pull requests (artifacts of kind pr) that "
    "they made: one row for each, or one without any. The sum of cost_usd over all rows is the whole cost.",
    [
        ("uid", "r.uid", "The root task: agent_tasks.uid."),
        ("tenant", "r.tenant", "Tenant."),
        ("task_id", "r.task_id", "Its public id."),
        ("task", "r.name", "Its title: untrusted text."),
        ("agent_name", "r.agent_name", "Its agent."),
        ("environment", "r.environment", "Its deployment.environment.name."),
        ("requested_by", "r.requested_by", "Person for whom it runs (agent.requested_by); null: unknown."),
        ("repo", "r.repo", "Repository or scope of its work; null: unknown."),
        ("started_at", "r.started_at", "When it began."),
        ("ended_at", "r.ended_at", "When it ended; null while it is open."),
        ("pull_request", "p.key", "Address of the pull request, else its name: untrusted text. Null: none was made."),
        ("pull_requests", "coalesce(p.made, 0)", "Pull requests of this task and the tasks below it."),
        (
            "cost_usd",
            """CASE WHEN p.number IS NULL THEN s.cost_usd
    WHEN p.number = 1 THEN s.cost_usd - (p.made - 1) * trunc(s.cost_usd / p.made, 9)
    ELSE trunc(s.cost_usd / p.made, 9) END""",
            "This row's part of the cost in US dollars: even parts, to a billionth; the first takes the remainder.",
        ),
        ("family_cost_usd", "s.cost_usd", "Cost of the task with all tasks below it: not to be summed."),
        ("tasks", "s.tasks", "Tasks in that cost: itself and all below it."),
        ("unpriced_calls", "s.unpriced_calls", "Model calls among them without a known cost: the true cost is higher."),
    ],
    """FROM agent_tasks r CROSS JOIN LATERAL (
  SELECT sum(x.cost_usd) AS cost_usd, sum(x.unpriced_calls)::bigint AS unpriced_calls, count(*) AS tasks
  FROM agent_tasks x WHERE x.root_uid = r.uid
) s LEFT JOIN LATERAL (
  SELECT a.key, row_number() OVER (ORDER BY a.key COLLATE "C") AS number, count(*) OVER () AS made
  FROM agent_tasks x JOIN task_artifacts a ON a.task_uid = x.uid
  WHERE x.root_uid = r.uid AND lower(a.kind) = 'pr' GROUP BY a.key
) p ON true
WHERE r.root_uid = r.uid""",
)
