"""Audit rows, the attribute sets that they share, and the months that they are partitioned by.

`agent_events` is a view: an audit row with the set that it names. Resource, scope, span name and the attributes
of few values repeat from span to span and are two thirds of a row. A set is stored once and never changed; a
row that names none holds everything itself.

Why `audit_rows` is partitioned by month of the event's own time
----------------------------------------------------------------

PostgreSQL demands the partition column in every unique key. Partitioned by `received_at`, a duplicate after
midnight would be a second row. The event's own time (`occurred_at`, as sent, never clamped to a window
around now) is the same in every duplicate: it is computed from `at_ns`, which `content_hash` covers, so
equal (event_id, content_hash) implies equal occurred_at, and the key (occurred_at, event_id, content_hash)
refuses exactly what (event_id, content_hash) would.

Gains over one table: old data is dropped as a table instead of deleted row by row. With time in front, the
key's index grows at its right edge instead of at random pages and serves time ranges without another index.
The month being written stays small enough for memory. Costs: a look-up by trace or task without a time range
visits each month's index (a handful, by retention), and months must exist beforehand.

`spanpost_add_month` makes a month. The store makes the previous, the current and the next two months when it
opens and daily after. Rows of all other months (senders with broken clocks, replayed recordings, a role that
may not make tables) go to `audit_rows_rest` and are found there as well; when a month is made later, its
rows are moved out of the rest. Nothing is refused.

No foreign keys: events come before the tasks that they turn out to belong to, and tasks are merged.
"""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import Column, table, view
from spanpost.store.sql.migrations.v1_0.sealing import WRITTEN_IN, by_transaction
from spanpost.store.sql.migrations.v1_0.shared import SPAN, SUBTREE, TENANT, TRACE

_RESOURCE: Final = "Resource attributes of the sender."
_SCOPE: Final = "Instrumentation scope: name and version."
_NAME: Final = "Span name or event name; empty for a plain log line."
#: Fixed sizes come first, the widest first, so that nothing is padded.
_ROW: Final[list[Column]] = [
    (
        "occurred_at",
        "timestamptz NOT NULL",
        "Its own time as sent: a span's end (else its start), an event's timestamp.",
    ),
    (
        "received_at",
        "timestamptz NOT NULL DEFAULT clock_timestamp()",
        "When it was stored, by the database's clock.",
    ),
    (
        "content_hash",
        "bigint NOT NULL",
        "Hash of the content without resource and scope, 64 bits. A duplicate has both equal and is not stored "
        "again; other content under one event_id is kept beside.",
    ),
    WRITTEN_IN,
    ("set_id", "bigint", "Internal: attribute_sets.id; null: the row holds everything itself."),
    ("start_ns", "bigint", "Start of the span, Unix nanoseconds as sent."),
    ("end_ns", "bigint", "End of the span, Unix nanoseconds as sent."),
    ("seq", "bigint", "Live records: number given by the process."),
    (
        "idx",
        "integer",
        "Position among the span's events or links; null for log records, whose index is a hash.",
    ),
    (
        "repairs",
        "smallint NOT NULL",
        "Bits of what was repaired: 1 synthetic id, 2 text, 4 number, 8 truncated, 16 time, 32 depth, 64 not UTF-8; "
        "128 time far from received_at. 0: as received.",
    ),
    (
        "part",
        "smallint NOT NULL",
        "0 ended span, 1 span not yet ended, 2 span event, 3 link, 4 log record, 5 a person's act, "
        "recorded by spanpost.",
    ),
    ("kind", "smallint NOT NULL", "OTLP span kind, 0 to 5."),
    (
        "role",
        "smallint NOT NULL",
        "Role of the span: 0 other, 1 step, 2 model call, 3 tool, 4 agent, 5 workflow, 6 task, 7 plumbing, 8 handoff.",
    ),
    ("status", "smallint NOT NULL", "Span status: 0 unset, 1 ok, 2 error."),
    ("severity", "smallint NOT NULL", "A log record's severity number, 0 when not given."),
    ("event_id", "uuid NOT NULL", "Identity on the wire: a hash of tenant, trace, span, part and index."),
    ("task_uid", "uuid", "Task, as known now: agent_tasks.uid."),
    TRACE,
    SPAN,
    ("parent_span_id", "bytea", "Parent span, 8 bytes; null for a root span."),
    SUBTREE,
    TENANT,
    ("name", "text", _NAME),
    ("attributes", "jsonb", "Attributes as received."),
    ("resource", "jsonb", _RESOURCE),
    ("scope", "text", _SCOPE),
    ("status_message", "text", "Span status message."),
    ("links", "jsonb", "Span links: pairs of hex trace id and span id."),
    ("body", "jsonb", "A log record's body."),
    ("producer", "text", "Live records: the process that sent it."),
]

EVENTS: Final = table(
    "audit_rows",
    "Audit rows: each span, span event and log record, once. Read them through agent_events. "
    "Partitioned by month of occurred_at. Null: as in the attribute set, or the default.",
    _ROW,
    rules=["PRIMARY KEY (occurred_at, event_id, content_hash)"],
    options="PARTITION BY RANGE (occurred_at)",
    indexes=[
        "CREATE INDEX audit_rows_subtree ON audit_rows (trace_id, subtree)",
        "CREATE INDEX audit_rows_task ON audit_rows (task_uid, occurred_at)",
        by_transaction("audit_rows"),
    ],
)

SETS: Final = table(
    "attribute_sets",
    "Values that many audit rows share, stored once. Rows are never changed; those that no row names are deleted.",
    [
        ("id", "bigint PRIMARY KEY", "Hash of tenant and content."),
        ("used_at", "timestamptz NOT NULL DEFAULT now()", "When a process last asked for it; for pruning."),
        TENANT,
        ("resource", "jsonb NOT NULL", _RESOURCE),
        ("scope", "text NOT NULL", _SCOPE),
        ("name", "text", "Name of the span or event; null: the rows have their own."),
        ("attributes", "jsonb", "Attributes of few values; a row adds its own."),
    ],
)

#: Columns that the view does not have.
_INTERNAL: Final = ("set_id", "written_in")
#: Columns of the view that are not the row's own. Archives hold the same.
EXPRESSIONS: Final = {
    "seq": "coalesce(r.seq, 0)",
    "idx": "CASE WHEN r.part <= 3 THEN coalesce(r.idx, 0) END",
    "name": "coalesce(r.name, s.name)",
    "attributes": "CASE WHEN s.attributes IS NULL THEN r.attributes WHEN r.attributes IS NULL THEN s.attributes"
    " ELSE s.attributes || r.attributes END",
    "resource": "coalesce(r.resource, s.resource)",
    "scope": "coalesce(r.scope, s.scope)",
    "status_message": "coalesce(r.status_message, '')",
    "links": "coalesce(r.links, '[]')",
    "producer": "coalesce(r.producer, '')",
}
EVENTS_VIEW: Final = view(
    "agent_events",
    "Audit rows: each span, span event and log record, once, as it was received.",
    [(name, EXPRESSIONS.get(name, f"r.{name}"), text) for name, _, text in _ROW if name not in _INTERNAL],
    "FROM audit_rows r LEFT JOIN attribute_sets s ON s.id = r.set_id",
)

#: The partitions. Made after the table's indexes, which each partition copies.
MONTHS: Final = [
    "CREATE TABLE audit_rows_rest (LIKE audit_rows INCLUDING ALL)",
    "COMMENT ON TABLE audit_rows_rest IS 'Part of audit_rows: rows of months that have no table of their own.'",
    "ALTER TABLE audit_rows ATTACH PARTITION audit_rows_rest DEFAULT",
    """
CREATE FUNCTION spanpost_add_month(month timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  opens timestamptz := date_trunc('month', month AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
  ends timestamptz := (date_trunc('month', month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
  child text := 'audit_rows_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
  IF to_regclass(child) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- Writers to the rest wait from here to the commit, so that none adds a row of this month behind our back.
  LOCK TABLE audit_rows_rest IN ACCESS EXCLUSIVE MODE;
  IF to_regclass(child) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE audit_rows INCLUDING ALL)', child);
  EXECUTE format('WITH moved AS (DELETE FROM audit_rows_rest WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
                 ' INSERT INTO %I SELECT * FROM moved', opens, ends, child);
  EXECUTE format('ALTER TABLE audit_rows ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', child, opens, ends);
  EXECUTE format('COMMENT ON TABLE %I IS %L', child, 'Part of audit_rows: one month.');
  RETURN true;
END $$""",
    "COMMENT ON FUNCTION spanpost_add_month IS 'Make the partition of audit_rows for the month of a "
    "moment, unless it exists.'",
    """
CREATE FUNCTION spanpost_keep_months() RETURNS integer LANGUAGE sql AS $$
  SELECT count(*)::integer
  FROM generate_series(-1, 2) AS ahead
  WHERE spanpost_add_month(
    (date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month') AT TIME ZONE 'UTC'
  )
$$""",
    "COMMENT ON FUNCTION spanpost_keep_months IS 'Make the months of audit_rows around now; return how "
    "many were missing.'",
    "SELECT spanpost_keep_months()",
    # A role that may not make tables calls this function, which has the owner's rights and takes no argument.
    """
DO $$ BEGIN
  EXECUTE format(
    'ALTER FUNCTION spanpost_keep_months() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema()
  );
END $$""",
    "REVOKE EXECUTE ON FUNCTION spanpost_keep_months(), spanpost_add_month(timestamptz) FROM PUBLIC",
]

JOURNAL: Final = [
    *table(
        "journal",
        "One row per group of requests that are answered and not recorded yet. "
        "A recorder deletes it in the transaction that records it.",
        [
            ("tenant", "text NOT NULL", "Tenant of all its observations."),
            ("id", "bigint GENERATED ALWAYS AS IDENTITY", "Its place in the order of arrival."),
            (
                "received_at",
                "timestamptz NOT NULL DEFAULT clock_timestamp()",
                "When it was written, by the database's clock.",
            ),
            ("observations", "integer NOT NULL", "About how many observations it holds."),
            ("key", "bytea NOT NULL", "Id of the key that decrypts it; the key is in no table."),
            ("body", "bytea NOT NULL", "Request bodies as they came: compressed by zstd, encrypted by AES-256-GCM."),
        ],
        rules=["PRIMARY KEY (tenant, id)"],
        options="WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
    ),
    # The bodies are compressed already.
    "ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL",
]

OFFSETS: Final = table(
    "kafka_offsets",
    "One row per partition of Kafka that a consumer group reads. "
    "The transaction that records messages also moves their offset.",
    [
        ("consumer_group", "text NOT NULL", "Name of the group: kafka.group."),
        ("topic", "text NOT NULL", "Name of the topic."),
        ("partition", "integer NOT NULL", "Number of the partition."),
        ("next_offset", "bigint NOT NULL", "Offset of the first message that is not recorded yet."),
        ("moved_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was last moved."),
    ],
    rules=["PRIMARY KEY (consumer_group, topic, partition)"],
    options="WITH (fillfactor = 50)",
)
