"""The tables that are archived, and what is old in each.

A task is *kept* while it, or any task with the same root, is not final, has changed since the cut, or has a delivery
that waits and is younger than a week. Nothing of a kept task is archived, however old. A task that has not changed for
two years is taken for abandoned: then it is kept no longer, final or not, nor is its question. Of the rest, a month's
rows are archived when the whole month is older than the retention of their kind:

- `audit_rows`: by their own time, and if they were also received before the cut. Rows of no month (`audit_rows_rest`:
  senders whose clocks are years off) by the time they were received.
- `agent_tasks`: by the time of their last change; checkpoints, artifacts, approvals, interventions, evaluations and
  usage by the time they were recorded.
- `deliveries`: if all of their ordering key were delivered.
- `standing_approvals`: by their end. `alerts`: if they are resolved, by when they last came. `launch_orders`: if their
  delivery does not wait. `quarantine`: by when it last came.

What is not archived, and why: `leaving`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from spanpost.semconv import FINAL_STATUSES
from spanpost.store.sql.migrations.v1_0.audit import EXPRESSIONS

_FINAL: Final = ", ".join(f"'{status}'" for status in sorted(FINAL_STATUSES))
#: Tasks of which something is still to be delivered: without their rows it could only be given up. A sink that nobody
#: serves keeps none of them for ever.
_UNDELIVERED: Final = """
  SELECT d.task_uid FROM deliveries d
  WHERE d.state IN ('waiting', 'sending') AND d.born_at > clock_timestamp() - interval '7 days'"""
#: Agents that are killed end no task.
_ABANDONED: Final = "clock_timestamp() - interval '730 days'"
#: Kept tasks of a tenant ($1) at a cut ($4). Connected tasks have one root.
KEPT: Final = f"""kept AS MATERIALIZED (
  SELECT t.uid FROM agent_tasks t WHERE t.tenant = $1 AND coalesce(t.root_uid, t.uid) IN (
    SELECT coalesce(k.root_uid, k.uid) FROM agent_tasks k
    WHERE k.tenant = $1 AND (k.updated_at >= $4 OR k.uid IN ({_UNDELIVERED})
      OR NOT (k.status IN ({_FINAL}) OR k.updated_at < {_ABANDONED}))))"""


class Source(NamedTuple):
    """A table whose old rows are archived."""

    #: Name in `archives` and in queries of archives.
    name: str
    #: Kind of row in the settings.
    kind: str
    #: Table that the rows are read from, as `r`, and the one that they are deleted from.
    relation: str
    target: str
    #: Time that decides the month.
    at: str
    #: Further condition on old rows, for a tenant ($1) and a cut ($4).
    is_old: str
    key: tuple[str, ...]
    #: Expressions of columns that are not the row's own, and the join that they need.
    own: Mapping[str, str] = MappingProxyType({})
    join: str = ""
    #: Columns that are not archived, as they name a transaction; those of them in which restored rows have null.
    without: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()


_OF_TASK: Final = "r.task_uid NOT IN (SELECT uid FROM kept)"
_AUDIT: Final[dict[str, Any]] = {
    "kind": "audit_rows", "target": "audit_rows", "key": ("occurred_at", "event_id", "content_hash"),
    "own": EXPRESSIONS, "join": "LEFT JOIN attribute_sets s ON s.id = r.set_id", "without": ("set_id", "written_in"),
}  # fmt: skip
_AUDIT_OF_TASK: Final = f"(r.task_uid IS NULL OR {_OF_TASK})"
SOURCES: Final[dict[str, Source]] = {
    source.name: source
    for source in (
        Source("audit_rows", relation="audit_rows", at="r.occurred_at",
               is_old=f"r.received_at < $4 AND r.tableoid <> 'audit_rows_rest'::regclass AND {_AUDIT_OF_TASK}",
               **_AUDIT),
        Source("audit_rows_rest", relation="audit_rows", at="r.received_at",
               is_old=f"r.tableoid = 'audit_rows_rest'::regclass AND {_AUDIT_OF_TASK}", **_AUDIT),
        Source("agent_checkpoints", "tasks", "agent_checkpoints", "agent_checkpoints", "r.recorded_at", _OF_TASK,
               ("id",), without=("xid",), emptied=("xid",)),
        Source("task_artifacts", "artifacts", "task_artifacts", "task_artifacts", "r.recorded_at", _OF_TASK,
               ("task_uid", "key")),
        Source("approvals", "interventions", "approvals", "approvals", "r.recorded_at",
               f"(r.state <> 'open' OR r.recorded_at < {_ABANDONED}) AND {_OF_TASK}", ("key",)),
        Source("human_interventions", "interventions", "human_interventions", "human_interventions", "r.recorded_at",
               _OF_TASK, ("id",), without=("written_in",)),
        Source("content_reads", "interventions", "content_reads", "content_reads", "r.hour", "true", ("id",)),
        Source("evaluations", "evaluations", "evaluations", "evaluations", "r.recorded_at", _OF_TASK, ("id",)),
        Source("model_usage", "tasks", "model_usage", "model_usage", "r.at", _OF_TASK, ("task_uid", "model", "at")),
        Source("deliveries", "deliveries", "deliveries", "deliveries", "coalesce(r.finalized_at, r.born_at)",
               f"r.state = 'delivered' AND {_OF_TASK} AND NOT EXISTS (SELECT FROM deliveries d WHERE d.sink = r.sink"
               " AND d.ordering_key = r.ordering_key AND (d.state <> 'delivered'"
               " OR coalesce(d.finalized_at, d.born_at) >= $4)) AND NOT EXISTS (SELECT FROM ordering_keys l"
               " WHERE l.sink = r.sink AND l.ordering_key = r.ordering_key"
               " AND (l.due_at IS NOT NULL OR l.lease_until IS NOT NULL))", ("id",)),
        Source("standing_approvals", "interventions", "standing_approvals", "standing_approvals",
               "least(r.expires_at, coalesce(r.revoked_at, r.expires_at))", "true", ("id",)),
        Source("alerts", "operations", "alerts", "alerts", "r.reported_at",
               "r.ends_at < $4 AND r.reported_at < $4", ("id",)),
        Source("launch_orders", "operations", "launch_orders", "launch_orders", "r.recorded_at",
               f"(r.task_uid IS NULL OR {_OF_TASK}) AND NOT EXISTS (SELECT FROM deliveries d WHERE d.sink = r.carrier"
               " AND d.key = r.id::text AND d.state NOT IN ('delivered', 'dead'))", ("id",)),
        Source("quarantine", "audit_rows", "quarantine", "quarantine", "r.last_at", "true", ("id",)),
        # The last: while a task has its row, its other rows are recognised as those of a task that is over.
        Source("agent_tasks", "tasks", "agent_tasks", "agent_tasks", "r.updated_at",
               "r.uid NOT IN (SELECT uid FROM kept)", ("uid",)),
    )
}  # fmt: skip

_COLUMNS: Final = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute a
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
#: Kinds of values in a file, by type of the column; all others are text.
_KINDS: Final = {
    "timestamp with time zone": "time", "boolean": "bool", "double precision": "float", "smallint": "int",
    "integer": "int", "bigint": "int", "bytea": "hex",
}  # fmt: skip


class ArchiveField(NamedTuple):
    """A column of an archive."""

    name: str
    #: time, bool, float, int, hex or text.
    kind: str
    #: Type of the column in PostgreSQL.
    type: str
    #: SQL of its value, as it is copied, and as text in digests.
    copied: str
    digested: str


async def fields_of(connection: Any, source: Source) -> list[ArchiveField]:
    """Return the columns of a table's archives, as the table is now."""
    rows = await connection.fetch(_COLUMNS, source.target)
    return [_field(source, row["name"], row["type"]) for row in rows if row["name"] not in source.without]


def _field(source: Source, name: str, type: str) -> ArchiveField:
    value = f"({source.own[name]})" if name in source.own else f'r."{name}"'
    kind = _KINDS.get(type, "text")
    if kind == "time":
        copied = f"(extract(epoch FROM {value}) * 1000000)::bigint"
        return ArchiveField(name, kind, type, copied, f"{copied}::text")
    if kind == "float":
        bits = f"('x' || encode(float8send({value}), 'hex'))::bit(64)::bigint::text"
        return ArchiveField(name, kind, type, value, f"CASE WHEN {value} = 'NaN' THEN 'NaN' ELSE {bits} END")
    if kind == "int":
        return ArchiveField(name, kind, type, value, f"{value}::text")
    text = f"encode({value}, 'hex')" if kind == "hex" else f"{value}::text"
    return ArchiveField(name, kind, type, text, text)


def typed(field: ArchiveField) -> str:
    """Return the SQL of a value, from its text in a file; a time is there in microseconds since 1970."""
    if field.kind == "time":
        # In two steps: an interval is multiplied as a floating-point number.
        micros = f'"{field.name}"::bigint'
        return (
            f"'epoch'::timestamptz + ({micros} / 1000000) * interval '1 second'"
            f" + ({micros} % 1000000) * interval '1 microsecond'"
        )
    return f"decode(\"{field.name}\", 'hex')" if field.kind == "hex" else f'"{field.name}"::{field.type}'


#: Between the values of a row that is digested, and in place of a null.
SEPARATOR, NULL = "\x1f", "\x1e"


def digest_of(fields: Sequence[ArchiveField]) -> str:
    """Return the SQL of a row's digest: MD5 of its values."""
    values = " || E'\\x1f' || ".join(f"coalesce({field.digested}, E'\\x1e')" for field in fields)
    return f"md5({values})"


#: Number of rows and the sums of the two halves of their digests, which do not depend on the rows' order.
SUMS: Final = (
    "count(*) AS rows, coalesce(sum(('x' || left(m, 16))::bit(64)::bigint), 0) AS high,"
    " coalesce(sum(('x' || right(m, 16))::bit(64)::bigint), 0) AS low"
)


class RowsDigest(NamedTuple):
    """What is compared: the number of rows, and the sums of the halves of their digests."""

    rows: int
    high: int
    low: int

    def __str__(self) -> str:
        return f"{self.rows}:{self.high}:{self.low}"

    def plus(self, other: RowsDigest) -> RowsDigest:
        return RowsDigest(self.rows + other.rows, self.high + other.high, self.low + other.low)


_BOUNDS: Final = """
SELECT substring(bound FROM $$FROM \\('([^']+)'\\)$$) AS opens, substring(bound FROM $$TO \\('([^']+)'\\)$$) AS ends
FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = 'audit_rows'::regclass) AS partitions
WHERE bound <> 'DEFAULT' ORDER BY substring(bound FROM $$FROM \\('([^']+)'\\)$$)::timestamptz"""


async def outside_months(connection: Any) -> str:
    """Return the SQL of times that lie in no partition of audit_rows, so that only the rest is searched.

    A writer may not name a partition: policies of rows hold for the whole table alone.
    """
    gaps, after = [], ""
    for row in await connection.fetch(_BOUNDS):
        if row["opens"] != after:
            since = f"r.occurred_at >= '{after}' AND " if after else ""
            gaps.append(f"{since}r.occurred_at < '{row['opens']}'")
        after = row["ends"]
    gaps.append(f"r.occurred_at >= '{after}'" if after else "true")
    return f"({' OR '.join(gaps)})"


def old(source: Source, columns: str, within: str = "true", more: str = "") -> str:
    """Return the SQL that selects old rows of a tenant ($1) in a time range ($2, $3) at a cut ($4).

    `within` is a further condition that bounds what is searched.
    """
    return (
        f"WITH {KEPT} SELECT {columns} FROM {source.relation} r {source.join} WHERE r.tenant = $1"
        f" AND {source.at} >= $2 AND {source.at} < $3 AND {within} AND {source.is_old} {more}"
    )
