"""Functions that compute a task's status as of now."""

from __future__ import annotations

from typing import Final

FUNCTIONS: Final = [
    """
CREATE FUNCTION spanpost_last_active(task agent_tasks) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  WITH RECURSIVE below AS (
    SELECT task.uid AS uid, task.last_seen_at AS last_seen_at, 0 AS depth
    UNION ALL
    SELECT t.uid, t.last_seen_at, b.depth + 1 FROM below b JOIN agent_tasks t ON t.parent_uid = b.uid
    WHERE t.ended_at IS NULL AND b.depth < 16
  )
  SELECT greatest(
    (SELECT max(b.last_seen_at) FROM below b),
    -- Without a receiver no time counts.
    (SELECT CASE WHEN w.seen_at < clock_timestamp() - w.outage THEN clock_timestamp() ELSE w.resumed_at END
      FROM heartbeats w)
  )
$$""",
    "COMMENT ON FUNCTION spanpost_last_active IS 'When something of a task was last recorded: its own telemetry, or "
    "that of open tasks below it. Heartbeats do not count.'",
    """
CREATE FUNCTION spanpost_last_seen(task agent_tasks) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT greatest(
    spanpost_last_active(task),
    (SELECT max(p.last_seen_at) FROM processes p
      WHERE p.tenant = task.tenant AND p.traces @> ARRAY[task.trace_id] AND p.gone_at IS NULL)
  )
$$""",
    "COMMENT ON FUNCTION spanpost_last_seen IS 'When telemetry of a task was last recorded: its own, that of "
    "open tasks below it, heartbeats of its process.'",
    """
CREATE FUNCTION spanpost_phase(task agent_tasks) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  bears heartbeats;
BEGIN
  IF task.ended_at IS NOT NULL OR task.status NOT IN ('starting', 'working', 'context_warning') THEN
    RETURN task.status;
  END IF;
  SELECT * INTO bears FROM heartbeats;
  IF clock_timestamp() - task.last_seen_at < bears.stall
    OR clock_timestamp() - spanpost_last_active(task) < bears.stall THEN
    RETURN task.status;
  END IF;
  IF EXISTS (
    WITH RECURSIVE below AS (
      SELECT task.uid AS uid, 0 AS depth
      UNION ALL
      SELECT t.uid, b.depth + 1 FROM below b JOIN agent_tasks t ON t.parent_uid = b.uid
      WHERE t.ended_at IS NULL AND b.depth < 16
    )
    SELECT FROM below b JOIN audit_rows s ON s.task_uid = b.uid
    WHERE s.part = 1 AND s.role IN (2, 3) AND s.received_at > clock_timestamp() - bears.call
      AND NOT EXISTS (
        SELECT FROM audit_rows e
        WHERE e.task_uid = b.uid AND e.part = 0 AND e.trace_id = s.trace_id AND e.span_id = s.span_id
      )
  ) THEN
    RETURN task.status;
  END IF;
  RETURN 'stalled';
END $$""",
    "COMMENT ON FUNCTION spanpost_phase IS 'A task''s status now: stalled when nothing was recorded of it "
    "for longer than the stall timeout.'",
]
