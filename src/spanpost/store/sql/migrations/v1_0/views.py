"""Views: what people and dashboards read."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import view

SPANS: Final = view(
    "agent_spans",
    "Ended spans as people read them: ids as hex, durations, roles as words.",
    [
        ("at", "e.occurred_at", "End of the span."),
        ("task_id", "t.task_id", "Public id of its task."),
        ("task", "t.title", "Title of its task."),
        ("agent_name", "t.agent_name", "Agent of its task."),
        ("name", "e.name", "Span name."),
        (
            "role",
            "(ARRAY['other','step','llm','tool','agent','workflow','task','plumbing','handoff'])[e.role + 1]",
            "Role of the span.",
        ),
        ("status", "(ARRAY['unset','ok','error'])[e.status + 1]", "Span status."),
        ("status_message", "e.status_message", "Span status message."),
        ("duration_ms", "round((e.end_ns - e.start_ns) / 1e6, 3)", "How long it took, milliseconds."),
        ("trace_id", "encode(e.trace_id, 'hex')", "Trace id, hex."),
        ("span_id", "encode(e.span_id, 'hex')", "Span id, hex."),
        ("parent_span_id", "encode(e.parent_span_id, 'hex')", "Parent span id, hex."),
        ("attributes", "e.attributes", "Attributes as received."),
        ("resource", "e.resource", "Resource attributes of the sender."),
        ("tenant", "e.tenant", "Tenant."),
    ],
    "FROM agent_events e LEFT JOIN agent_tasks t ON t.uid = e.task_uid WHERE e.part = 0",
)

TIMELINE: Final = view(
    "agent_timeline",
    "Checkpoints with the names of their tasks, ids as hex.",
    [
        ("at", "c.at", "When it happened."),
        ("task_id", "t.task_id", "Public id of the task."),
        ("task", "t.title", "Title of the task."),
        ("agent_name", "t.agent_name", "Name of the agent."),
        ("kind", "c.kind", "Kind of the checkpoint."),
        ("status", "c.status", "The task's status then."),
        ("progress", "c.progress", "Percent done then."),
        ("text", "c.text", "One line: untrusted text."),
        ("trace_id", "nullif(encode(c.trace_id, 'hex'), '')", "Trace id, hex."),
        ("span_id", "nullif(encode(c.span_id, 'hex'), '')", "Span id, hex."),
        ("tenant", "c.tenant", "Tenant."),
        ("id", "c.id", "Checkpoint id: agent_checkpoints.id."),
    ],
    "FROM agent_checkpoints c LEFT JOIN agent_tasks t ON t.uid = c.task_uid",
)

NOW: Final = view(
    "agent_tasks_now",
    "Tasks with their status now: the stall timeout is applied when the view is read, by the database's clock.",
    [
        ("task_id", "t.task_id", "Public id."),
        ("title", "t.title", "Title for people."),
        ("name", "t.name", "Name, as its telemetry says."),
        ("agent_name", "t.agent_name", "Name of the agent."),
        (
            "status",
            "spanpost_phase(t)",
            "Its status now; stalled when nothing was recorded of it for longer than the stall timeout.",
        ),
        ("end_reason", "t.end_reason", "Why it ended, when it ended; interrupted when its process is gone."),
        ("inferred", "t.inferred", "True when the status in agent_tasks was concluded rather than said."),
        ("progress", "t.progress", "Percent done, 0 to 100."),
        ("action", "t.action", "What it is doing now, one line."),
        ("step_name", "t.step_name", "Current step of its plan."),
        ("started_at", "t.started_at", "Start of its first span, by the sender's clock."),
        ("ended_at", "t.ended_at", "End of its run; null while it is open."),
        (
            "last_seen_at",
            "CASE WHEN t.ended_at IS NULL THEN spanpost_last_seen(t) ELSE t.last_seen_at END",
            "When telemetry of it was last recorded, by the database's clock: its own, that of tasks below "
            "it, heartbeats of its process.",
        ),
        (
            "last_active_at",
            "CASE WHEN t.ended_at IS NULL THEN spanpost_last_active(t) ELSE t.last_seen_at END",
            "The same without heartbeats: a process may be alive while its task does nothing.",
        ),
        ("parent_task_id", "t.parent_task_id", "Public id of the task that started this one."),
        ("tenant", "t.tenant", "Tenant."),
        ("uid", "t.uid", "Internal identity: agent_tasks.uid."),
    ],
    "FROM agent_tasks t",
)

_SUMS = (
    ("llm_calls", "Model calls."),
    ("input_tokens", "Input tokens, cache included."),
    ("output_tokens", "Output tokens, reasoning included."),
    ("cache_read_tokens", "Part of the input that was read from the cache."),
    ("cache_write_tokens", "Part of the input that was written to the cache."),
    ("reasoning_tokens", "Part of the output that was reasoning."),
    ("cost_usd", "Cost in US dollars."),
    ("unpriced_calls", "Model calls without a known cost; cost_usd is that of the others."),
    ("tool_calls", "Tool calls."),
    ("tool_errors", "Tool calls that failed."),
)
TOTALS: Final = view(
    "agent_task_totals",
    "Figures of each task together with all tasks below it. Null: unknown for all of them.",
    [
        ("uid", "t.uid", "The task: agent_tasks.uid."),
        ("tenant", "t.tenant", "Tenant."),
        ("task_id", "t.task_id", "Its public id."),
        ("tasks", "s.tasks", "Tasks in the sum: itself and all below it."),
        *((name, f"s.{name}", text) for name, text in _SUMS),
    ],
    """FROM agent_tasks t CROSS JOIN LATERAL (
  WITH RECURSIVE below AS (
    SELECT t.uid AS uid
    UNION
    SELECT c.uid FROM below b JOIN agent_tasks c ON c.parent_uid = b.uid
  )
  SELECT count(*) AS tasks, """
    + ", ".join(f"sum(x.{name}) AS {name}" for name, _ in _SUMS)
    + """ FROM below b JOIN agent_tasks x ON x.uid = b.uid
) s""",
)

_TAGS = """array_to_string(array_remove(ARRAY[
      'spanpost', {what}, 'agent:' || translate(t.agent_name, ',', ' '), 'env:' || translate(t.environment, ',', ' ')
    ], NULL), ',')"""
ANNOTATIONS: Final = view(
    "grafana_annotations",
    "Tasks as annotations for Grafana: each a region from start to end, its warnings, errors and approvals as points.",
    [
        ("id", "n.id", "The task's uid, or the checkpoint's id."),
        ("time", "n.time", "Start of a region, or time of a point."),
        ("timeend", "n.timeend", "When a task ended, now while it is open; null for a point."),
        ("text", "n.text", "Untrusted text: title and status, or the checkpoint's text."),
        ("tags", "n.tags", "spanpost, kind, agent and environment; separated by commas."),
        ("kind", "n.kind", "task, or the checkpoint's kind."),
        ("tenant", "n.tenant", "Tenant."),
        ("agent_name", "n.agent_name", "Name of the agent."),
        ("environment", "n.environment", "Environment of the task."),
        ("task_id", "n.task_id", "Public id of the task."),
        ("task_uid", "n.task_uid", "The task: agent_tasks.uid."),
    ],
    f"""FROM (
  SELECT t.uid AS id, t.started_at AS time, coalesce(t.ended_at, greatest(now(), t.started_at)) AS timeend,
    left(t.title, 200) || ' · ' || t.status
      || coalesce((
        SELECT string_agg(' ' || l.value, '') FROM jsonb_each_text(t.links) l WHERE l.value ~ '^https?://'
      ), '') AS text,
    {_TAGS.format(what="'task'")} AS tags, 'task' AS kind, t.tenant, t.agent_name, t.environment,
    t.task_id, t.uid AS task_uid
  FROM agent_tasks t WHERE t.announced AND t.started_at IS NOT NULL
  UNION ALL
  SELECT c.id, c.at, NULL, left(t.title, 200) || ' · ' || left(c.text, 500),
    {_TAGS.format(what="c.kind")}, c.kind, t.tenant, t.agent_name, t.environment, t.task_id, t.uid
  FROM agent_checkpoints c JOIN agent_tasks t ON t.uid = c.task_uid
  WHERE t.announced AND c.kind IN (
    'error', 'context_warning', 'context_forecast', 'compaction', 'stalled', 'loop', 'approval_requested',
    'approval_resolved'
  )
) n""",
)

_SHARE = """(SELECT max(greatest(
      coalesce(s.cost_usd / nullif(s.limit_usd, 0), 0), coalesce(s.tokens::numeric / nullif(s.limit_tokens, 0), 0),
      coalesce(s.calls::numeric / nullif(s.limit_calls, 0), 0),
      coalesce(s.tool_calls::numeric / nullif(s.limit_tool_calls, 0), 0),
      coalesce(extract(epoch FROM s.wall_time) / nullif(extract(epoch FROM s.limit_time), 0), 0)
    ))
    FROM spending s WHERE s.tenant = g.tenant AND s.ends_at > now()
      AND s.scope IN ('{}'::jsonb, jsonb_build_object('agent.name', g.agent_name)))"""
HEALTH: Final = view(
    "agent_health",
    "Health of each agent: 100 minus a deduction for each cause. Counts tasks that began in the last day, "
    "and open ones.",
    [
        ("tenant", "h.tenant", "Tenant."),
        ("agent_name", "h.agent_name", "Name of the agent."),
        ("score", "100 - h.errors - h.stalls - h.waiting - h.budget", "0 to 100."),
        ("errors", "h.errors", "Deduction, up to 50, for the share of ended tasks that failed."),
        ("stalls", "h.stalls", "Up to 20, for the share of tasks that are stalled or were interrupted."),
        (
            "waiting",
            "h.waiting",
            "Up to 15, for the share of open tasks that wait for a person for a quarter of an hour.",
        ),
        ("budget", "h.budget", "Up to 15, for a budget beyond 80 per cent: the agent's own, or its tenant's."),
        ("ended", "h.ended", "Tasks that ended by themselves."),
        ("failed", "h.failed", "Those of them that failed."),
        ("interrupted", "h.interrupted", "Tasks whose process is gone."),
        ("open", "h.open", "Open tasks."),
        ("stalled", "h.stalled", "Those of them that are stalled."),
        ("kept_waiting", "h.kept_waiting", "Those of them that wait long for a person."),
    ],
    f"""FROM (
  SELECT g.*, coalesce(floor(50.0 * g.failed / nullif(g.ended, 0) + 0.5), 0)::int AS errors,
    floor(20.0 * (g.stalled + g.interrupted) / g.tasks + 0.5)::int AS stalls,
    coalesce(floor(15.0 * g.kept_waiting / nullif(g.open, 0) + 0.5), 0)::int AS waiting,
    floor(15.0 * least(greatest(coalesce({_SHARE}, 0) - 0.8, 0), 0.2) / 0.2 + 0.5)::int AS budget
  FROM (
    SELECT t.tenant, t.agent_name, count(*)::int AS tasks,
      (count(*) FILTER (
        WHERE t.status IN ('complete', 'error') AND t.end_reason IS DISTINCT FROM 'interrupted'
      ))::int AS ended,
      (count(*) FILTER (WHERE t.status = 'error' AND t.end_reason IS DISTINCT FROM 'interrupted'))::int AS failed,
      (count(*) FILTER (WHERE t.end_reason = 'interrupted' AND NOT t.is_open))::int AS interrupted,
      (count(*) FILTER (WHERE t.is_open))::int AS open,
      (count(*) FILTER (WHERE t.is_open AND t.phase = 'stalled'))::int AS stalled,
      (count(*) FILTER (WHERE t.is_open AND EXISTS (
        SELECT FROM approvals a
        WHERE a.task_uid = t.uid AND a.state = 'open' AND a.requested_at < now() - interval '15 min'
      )))::int AS kept_waiting
    FROM (
      SELECT o.uid, o.tenant, o.agent_name, o.status, o.end_reason, true AS is_open, spanpost_phase(o) AS phase
      FROM agent_tasks o
      WHERE o.status NOT IN ('complete', 'error', 'cancelled') AND o.announced AND o.agent_name <> ''
      UNION ALL
      SELECT e.uid, e.tenant, e.agent_name, e.status, e.end_reason, false, e.status FROM agent_tasks e
      WHERE e.started_at > now() - interval '1 day' AND e.status IN ('complete', 'error', 'cancelled') AND e.announced
        AND e.agent_name <> ''
    ) t GROUP BY 1, 2
  ) g
) h""",
)

VIEWS: Final = [SPANS, TIMELINE, NOW, TOTALS, HEALTH, ANNOTATIONS]
