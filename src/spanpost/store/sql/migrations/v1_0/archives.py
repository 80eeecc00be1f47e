"""Archives, and the functions by which a writer may delete what is old, and nothing else.

A writer may not delete audit rows, interventions or evaluations. `spanpost_remove` has the owner's rights and deletes
rows by their keys, but only those older than `retention_floors` says. Only the owner writes that table. So a
compromised writer can delete nothing that is younger; a gateway needs no address of the owner to keep its archives.
"""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import TENANT

ARCHIVES: Final = table(
    "archives",
    "One row per archive: a Parquet file with rows of one tenant, table and month.",
    [
        ("id", "uuid PRIMARY KEY", "Identity of the archive; part of its file's name."),
        TENANT,
        ("source", "text NOT NULL", "Table of the rows."),
        ("month", "date NOT NULL", "First day of the month (UTC)."),
        ("part", "integer NOT NULL", "Its number among the archives of the tenant, table and month, from 1."),
        (
            "path",
            "text NOT NULL UNIQUE",
            "File, relative to the directory of the settings (retention.directory).",
        ),
        ("rows", "bigint NOT NULL", "Rows in the file."),
        ("size", "bigint NOT NULL", "Size of the file, bytes."),
        ("sha256", "bytea NOT NULL", "SHA-256 of the file."),
        ("digest", "text NOT NULL", "Digest of the rows, as computed from the database and from the file."),
        ("cut", "timestamptz NOT NULL", "Rows of a task that changed since then were kept, by the database's clock."),
        (
            "is_last",
            "boolean NOT NULL",
            "False: more rows of the tenant, table and month were to be archived when it was written.",
        ),
        (
            "state",
            "text NOT NULL CHECK (state IN ('written', 'removed', 'restored'))",
            "written: the rows are in the table, too. removed: they are in the file alone. restored: they were put "
            "back into the table.",
        ),
        ("written_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When the file was listed."),
        ("removed_at", "timestamptz", "When the rows left the table; null before."),
        ("restored_until", "timestamptz", "Until when restored rows stay in the table."),
    ],
    rules=["UNIQUE (tenant, source, month, part)"],
)

FLOORS: Final = [
    *table(
        "retention_floors",
        "One row per table with old rows: the shortest time for which a writer has to keep them. Only the owner "
        "changes it (spanpost archive allow).",
        [
            ("source", "text PRIMARY KEY", "The table."),
            ("shortest", "interval NOT NULL CHECK (shortest >= '0')", "Younger rows cannot be removed."),
            ("age", "text NOT NULL", "SQL expression for the time of a row t, by the database's clock."),
            ("pruned", "text", "SQL condition on rows t that are deleted without a file; null: rows are archived."),
        ],
    ),
    """
INSERT INTO retention_floors (source, shortest, age) VALUES
  ('audit_rows', '183 days', 't.received_at'),
  ('agent_tasks', '183 days', 't.updated_at'),
  ('agent_checkpoints', '183 days', 't.recorded_at'),
  ('model_usage', '183 days', 't.at'),
  ('task_artifacts', '183 days', 't.recorded_at'),
  ('human_interventions', '183 days', 't.recorded_at'),
  ('content_reads', '183 days', 't.hour'),
  ('approvals', '183 days', 't.recorded_at'),
  ('evaluations', '183 days', 't.recorded_at'),
  ('deliveries', '7 days', 'coalesce(t.finalized_at, t.born_at)'),
  ('standing_approvals', '183 days', 'least(t.expires_at, coalesce(t.revoked_at, t.expires_at))'),
  ('alerts', '183 days', 't.reported_at'),
  ('launch_orders', '183 days', 't.recorded_at'),
  ('quarantine', '183 days', 't.last_at')""",
    """
INSERT INTO retention_floors (source, shortest, age, pruned) VALUES
  ('spending', '183 days', 't.ends_at', 'true'),
  ('provider_limits', '183 days', 't.last_at', 'true'),
  ('budget_questions', '183 days', 't.asked_at', 'NOT EXISTS (SELECT FROM approvals a WHERE a.key = t.key)'),
  ('task_redirects', '183 days', 't.at', 'NOT EXISTS (SELECT FROM agent_tasks k WHERE k.uid = t.merged_into)'),
  ('budget_reservations', '1 day', 't.expires_at', 'true')""",
]

PROGRESS: Final = [
    *table(
        "retention_progress",
        "Internal: one row. How far retention has come.",
        [
            ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "True: there is one row."),
            (
                "archive_id",
                "uuid NOT NULL DEFAULT gen_random_uuid()",
                "Identity of this database's archives: the directory holds it, too.",
            ),
            ("completed_at", "timestamptz", "When a run last ended without an error; null: never."),
            ("due_since", "timestamptz", "Since when the oldest rows beyond their retention should be gone."),
            ("failed_at", "timestamptz", "When the first run failed since one was completed; null: none did."),
            ("error", "text NOT NULL DEFAULT ''", "Why it failed."),
        ],
    ),
    "INSERT INTO retention_progress DEFAULT VALUES",
]

FUNCTIONS: Final = [
    """
CREATE FUNCTION spanpost_remove(from_source text, of_tenant text, keys1 text[], keys2 text[], keys3 text[])
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  rule retention_floors;
  matches text;
  removed bigint;
BEGIN
  SELECT * INTO rule FROM retention_floors f WHERE f.source = from_source;
  IF rule.source IS NULL OR rule.pruned IS NOT NULL THEN
    RAISE EXCEPTION 'rows of % are not removed', from_source USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- The arrays hold the columns of the primary key, in its order.
  SELECT string_agg(format('t.%I = k.k%s::%s', a.attname, o.place, format_type(a.atttypid, a.atttypmod)), ' AND ')
  INTO matches
  FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS o(attnum, place)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = o.attnum
  WHERE i.indrelid = format('%I', from_source)::regclass AND i.indisprimary;
  EXECUTE format('WITH gone AS (DELETE FROM %I t USING unnest($1, $2, $3) AS k(k1, k2, k3) WHERE t.tenant = $4'
                 ' AND %s < clock_timestamp() - $5 AND %s RETURNING 1) SELECT count(*) FROM gone',
                 from_source, rule.age, matches)
  INTO removed USING keys1, keys2, keys3, of_tenant, rule.shortest;
  RETURN removed;
END $$""",
    "COMMENT ON FUNCTION spanpost_remove IS 'Delete rows by their keys that are older than retention_floors says; "
    "return how many were deleted.'",
    """
CREATE FUNCTION spanpost_prune(from_source text, before timestamptz, of_tenants text[], is_rest boolean,
  is_done boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  rule retention_floors;
  old text;
  found bigint;
BEGIN
  SELECT * INTO rule FROM retention_floors f WHERE f.source = from_source;
  IF rule.pruned IS NULL THEN
    RAISE EXCEPTION 'rows of % are not pruned', from_source USING ERRCODE = 'insufficient_privilege';
  END IF;
  old := format('%s < $1 AND (%s)', rule.age, rule.pruned);
  IF is_rest OR cardinality(of_tenants) > 0 THEN
    old := old || ' AND (t.tenant = ANY($2)) <> $3';
  END IF;
  IF is_done THEN
    EXECUTE format('WITH gone AS (DELETE FROM %1$I d WHERE d.ctid = ANY(ARRAY('
                   'SELECT t.ctid FROM %1$I t WHERE %2$s LIMIT 5000 FOR UPDATE SKIP LOCKED)) RETURNING 1)'
                   ' SELECT count(*) FROM gone', from_source, old)
    INTO found USING least(before, clock_timestamp() - rule.shortest), of_tenants, is_rest;
  ELSE
    EXECUTE format('SELECT count(*) FROM %I t WHERE %s', from_source, old)
    INTO found USING least(before, clock_timestamp() - rule.shortest), of_tenants, is_rest;
  END IF;
  RETURN found;
END $$""",
    "COMMENT ON FUNCTION spanpost_prune IS 'Delete at most 5000 rows of a table whose rows are not archived, older "
    "than a time and than retention_floors says, of these tenants or (is_rest) of all others; return how many.'",
    """
CREATE FUNCTION spanpost_drop_month(opens timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  child text := 'audit_rows_' || to_char(opens AT TIME ZONE 'UTC', 'YYYY_MM');
  is_empty boolean;
BEGIN
  IF to_regclass(child) IS NULL OR opens > clock_timestamp() - interval '62 days' THEN
    RETURN false;
  END IF;
  -- Recording waits for these locks, and the locks for recording: for a moment only.
  SET LOCAL lock_timeout = '1s';
  LOCK TABLE audit_rows IN ACCESS EXCLUSIVE MODE;
  EXECUTE format('SELECT NOT EXISTS (SELECT FROM %I)', child) INTO is_empty;
  IF is_empty THEN
    EXECUTE format('DROP TABLE %I', child);
  END IF;
  RETURN is_empty;
END $$""",
    "COMMENT ON FUNCTION spanpost_drop_month IS 'Drop the partition of audit_rows for an old month if it is empty.'",
    """
CREATE FUNCTION spanpost_tidy() RETURNS bigint LANGUAGE sql AS $$
  -- A process asks for a set again after twelve hours.
  WITH sets AS (
    DELETE FROM attribute_sets s WHERE s.used_at < now() - interval '2 days'
      AND NOT EXISTS (SELECT FROM audit_rows r WHERE r.set_id = s.id) RETURNING 1
  ), ordering AS (
    DELETE FROM ordering_keys l WHERE l.due_at IS NULL AND l.lease_until IS NULL
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.sink = l.sink AND d.ordering_key = l.ordering_key) RETURNING 1
  )
  SELECT (SELECT count(*) FROM sets) + (SELECT count(*) FROM ordering)
$$""",
    "COMMENT ON FUNCTION spanpost_tidy IS 'Delete attribute sets that no audit row names, and ordering keys without "
    "deliveries.'",
    # A writer calls these functions, which have the owner's rights. Rows are removed by the index of their keys,
    # whatever the planner thinks of a list of them.
    """
DO $$ BEGIN
  EXECUTE format(replace(
    'ALTER FUNCTION spanpost_remove(text, text, text[], text[], text[]) {as} SET enable_hashjoin = off'
    ' SET enable_mergejoin = off; ALTER FUNCTION spanpost_drop_month(timestamptz) {as};'
    ' ALTER FUNCTION spanpost_tidy() {as}; ALTER FUNCTION'
    ' spanpost_prune(text, timestamptz, text[], boolean, boolean) {as}',
    '{as}', 'SECURITY DEFINER SET search_path = %1$I, pg_temp'), current_schema());
END $$""",
    "REVOKE EXECUTE ON FUNCTION spanpost_remove(text, text, text[], text[], text[]), "
    "spanpost_drop_month(timestamptz), spanpost_tidy(), spanpost_prune(text, timestamptz, text[], boolean, boolean) "
    "FROM PUBLIC",
]
