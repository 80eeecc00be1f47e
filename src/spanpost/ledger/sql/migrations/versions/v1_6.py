"""Tasks as annotations on anybody's graphs: a view, which older versions do not mind."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import view

revision = "1.6"
down_revision = "1.5"

_TAGS = "array_to_string(array_remove(ARRAY['spanpost', {what}, 'agent:' || translate(t.agent_name, ',', ' '), 'env:' || translate(t.environment, ',', ' ')], NULL), ',')"
ANNOTATIONS = view(
    "grafana_annotations",
    "Tasks as Grafana shows them on a graph: each a region from start to end, its warnings, errors and approvals as points.",
    [
        ("id", "n.id", "The same for the same thing: the task's uid, or the checkpoint's."),
        ("time", "n.time", "When it began or was."),
        ("timeend", "n.timeend", "When a task ended, now while it lives; null for a point."),
        ("text", "n.text", "Untrusted text: name and status, or the news."),
        ("tags", "n.tags", "spanpost, what it is, agent and environment; separated by commas."),
        ("kind", "n.kind", "task, or the checkpoint's kind."),
        ("tenant", "n.tenant", "Whose it is."),
        ("agent_name", "n.agent_name", "Who worked."),
        ("task_id", "n.task_id", "Public id of the task."),
        ("task_uid", "n.task_uid", "The task: agent_tasks.uid."),
    ],
    f"""FROM (
  SELECT t.uid AS id, t.started_at AS time, coalesce(t.ended_at, greatest(now(), t.started_at)) AS timeend,
    left(coalesce(nullif(t.name, ''), t.task_id), 200) || ' · ' || t.status
      || coalesce((SELECT string_agg(' ' || l.value, '') FROM jsonb_each_text(t.links) l WHERE l.value ~ '^https?://'), '') AS text,
    {_TAGS.format(what="'task'")} AS tags, 'task' AS kind, t.tenant, t.agent_name, t.task_id, t.uid AS task_uid
  FROM agent_tasks t WHERE t.announced AND t.started_at IS NOT NULL
  UNION ALL
  SELECT c.id, c.at, NULL, left(coalesce(nullif(t.name, ''), t.task_id), 200) || ' · ' || left(c.text, 500),
    {_TAGS.format(what="c.kind")}, c.kind, t.tenant, t.agent_name, t.task_id, t.uid
  FROM agent_checkpoints c JOIN agent_tasks t ON t.uid = c.task_uid
  WHERE t.announced AND c.kind IN ('error', 'context_warning', 'context_forecast', 'compaction', 'stalled', 'approval_requested',
    'approval_resolved')
) n""",
)


def upgrade() -> None:
    """Add the view."""
    connection = op.get_bind()
    for statement in ANNOTATIONS:
        connection.exec_driver_sql(statement)
