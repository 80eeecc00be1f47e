"""What every column of the schema can hold, and how it is erased: one table.

`tests/store/test_erased_columns.py` compares it with the database's catalogue: a new column of text, JSON or
bytes that is not classified here fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Holds(StrEnum):
    """What a column can hold of a person or a task."""

    #: Ids, counts and words of spanpost's own.
    NOTHING = "nothing"
    #: The name, id or email address of a person, as its whole value.
    PERSON = "person"
    #: Text, or JSON with texts: what names the person is replaced within it.
    TEXT = "text"
    #: A comment of the person that the row names: emptied.
    COMMENT = "comment"
    #: MessagePack, perhaps compressed (`packed`): replaced within it.
    PACKED = "packed"
    #: Bytes as they were received: a row that names the person is deleted.
    RAW = "raw"
    #: Bytes that only a gateway can decrypt: erased once they are recorded.
    ENCRYPTED = "encrypted"


class Goes(StrEnum):
    """What happens to a row when its task is erased."""

    #: Nothing: the row belongs to no task.
    STAYS = "stays"
    #: It is deleted with the task, by `task_uid`.
    WITH_TASK = "with its task"
    #: The row stays as an act: its texts are emptied.
    AS_ACT = "as an act"
    #: A module of this package says how: `trees`, `messages`, `sets`.
    APART = "apart"


class ErasedTable(NamedTuple):
    """One table: its key, what each column holds, and what happens to its rows."""

    key: tuple[str, ...]
    goes: Goes
    columns: Mapping[str, Holds]
    #: SQL of the task of a row; empty: rows have none.
    task: str = ""


N, PERSON, TEXT, COMMENT = Holds.NOTHING, Holds.PERSON, Holds.TEXT, Holds.COMMENT


def _columns(**names: str) -> dict[str, Holds]:
    """Return columns by what they hold, given as one text of names each."""
    return {name: Holds(kind) for kind, given in names.items() for name in given.split()}


TABLES: Final[Mapping[str, ErasedTable]] = {
    "audit_rows": ErasedTable(
        ("occurred_at", "event_id", "content_hash"),
        Goes.APART,
        _columns(
            nothing="tenant trace_id span_id parent_span_id subtree links",
            text="name attributes resource scope status_message body producer",
        ),
        "task_uid",
    ),
    "attribute_sets": ErasedTable(
        ("id",), Goes.APART, _columns(nothing="tenant", text="resource scope name attributes")
    ),
    "agent_tasks": ErasedTable(
        ("uid",),
        Goes.APART,
        _columns(
            nothing="tenant trace_id span_id order_id status end_reason rule context_window_source context_forecast",
            person="requested_by",
            text="task_id aliases parent_task_id retry_of caused_by session_id title name type agent_name agent_id "
            "agent_version service environment repo topic action step_name model loop steps artifacts approvals "
            "links results error",
            packed="doc",
        ),
        "uid",
    ),
    "agent_checkpoints": ErasedTable(
        ("id",),
        Goes.WITH_TASK,
        _columns(nothing="tenant kind status trace_id span_id subtree", text="text message detail ref"),
        "task_uid",
    ),
    "task_artifacts": ErasedTable(
        ("task_uid", "key"), Goes.WITH_TASK, _columns(nothing="tenant", text="key name uri kind"), "task_uid"
    ),
    "task_redirects": ErasedTable(("uid",), Goes.APART, {}),
    "task_state": ErasedTable(("key",), Goes.APART, _columns(nothing="key", packed="doc")),
    "timers": ErasedTable(("key",), Goes.APART, _columns(nothing="key")),
    "quarantine": ErasedTable(
        ("id",), Goes.APART, _columns(nothing="key tenant source reason", text="error", raw="bytes")
    ),
    "journal": ErasedTable(("tenant", "id"), Goes.APART, _columns(nothing="tenant key", encrypted="body")),
    "kafka_offsets": ErasedTable(
        ("consumer_group", "topic", "partition"), Goes.STAYS, _columns(nothing="consumer_group topic")
    ),
    "approvals": ErasedTable(
        ("key",),
        Goes.WITH_TASK,
        _columns(
            nothing="tenant mark span risk at_expiry state source rule",
            person="by by_id",
            comment="comment",
            text="approval_id question detail options tool places votes asked resume decision reported_decision",
        ),
        "task_uid",
    ),
    "human_interventions": ErasedTable(
        ("id",),
        Goes.AS_ACT,
        _columns(
            nothing="tenant verb action via scope database_role result risk expires_at trace_id span_id subtree client "
            "launcher mark",
            person="actor actor_id actor_email os_user",
            comment="comment",
            text="idempotency_key decision refusal verdict approval_id question detail options credential parameters",
        ),
        "task_uid",
    ),
    "content_reads": ErasedTable(
        ("id",),
        Goes.STAYS,
        _columns(
            nothing="tenant content client database_role", person="actor actor_id os_user", text="credential detail"
        ),
        "task_uid",
    ),
    "standing_approvals": ErasedTable(
        ("id",),
        Goes.APART,
        _columns(
            nothing="tenant scope risk source",
            person="granted_by granted_by_id granted_by_email revoked_by revoked_by_id requested_by",
            comment="reason",
            text="tool agent repo service environment",
        ),
        "task_uid",
    ),
    "evaluations": ErasedTable(
        ("id",),
        Goes.WITH_TASK,
        _columns(nothing="tenant source", person="by by_id", comment="explanation", text="name label subject"),
        "task_uid",
    ),
    "launch_orders": ErasedTable(
        ("id",),
        Goes.APART,
        _columns(
            nothing="tenant carrier source rule",
            person="by by_id",
            text="text parameters retry_of caused_by",
            raw="body",
        ),
        "task_uid",
    ),
    "alerts": ErasedTable(
        ("id",),
        Goes.STAYS,
        _columns(
            nothing="tenant source fingerprint severity trace_id span_id",
            person="acknowledged_by",
            text="name summary description links labels annotations external_url silence",
        ),
    ),
    "deliveries": ErasedTable(
        ("id",),
        Goes.APART,
        _columns(nothing="tenant sink ordering_key mode urgency state reason", text="address key error receipt"),
        "task_uid",
    ),
    "ordering_keys": ErasedTable(
        ("sink", "ordering_key"), Goes.APART, _columns(nothing="sink ordering_key call", text="address receipt")
    ),
    "rate_limits": ErasedTable(("key",), Goes.STAYS, _columns(nothing="key reason", text="error")),
    "model_usage": ErasedTable(
        ("task_uid", "model", "at"), Goes.WITH_TASK, _columns(nothing="tenant model"), "task_uid"
    ),
    "spending": ErasedTable(
        ("budget", "tenant", "scope", "began_at"),
        Goes.STAYS,
        _columns(nothing="budget tenant at_limit", text="scope raises"),
    ),
    "budgets_begun": ErasedTable(("budget",), Goes.STAYS, _columns(nothing="budget")),
    "budget_reservations": ErasedTable(
        ("tenant", "id", "budget"), Goes.APART, _columns(nothing="budget tenant", text="ref scope")
    ),
    "budget_questions": ErasedTable(
        ("key",), Goes.WITH_TASK, _columns(nothing="budget tenant", text="scope"), "task_uid"
    ),
    "provider_limits": ErasedTable(
        ("tenant", "account", "provider", "model", "kind", "day"),
        Goes.STAYS,
        _columns(nothing="tenant provider model kind", text="account"),
    ),
    "processes": ErasedTable(("key",), Goes.STAYS, _columns(nothing="key tenant roots traces", text="producer")),
    "heartbeats": ErasedTable(("id",), Goes.STAYS, {}),
    "access_tokens": ErasedTable(
        ("id",), Goes.STAYS, _columns(nothing="tenant scopes digest", person="made_by", text="name")
    ),
    "tenant_totals": ErasedTable(("tenant",), Goes.STAYS, _columns(nothing="tenant")),
    "granted_roles": ErasedTable(("role",), Goes.STAYS, _columns(nothing="role kind tenants")),
    "redaction_key": ErasedTable(("one",), Goes.STAYS, _columns(nothing="key")),
    "session_secret": ErasedTable(("one",), Goes.STAYS, _columns(nothing="secret")),
    "ended_sessions": ErasedTable(("id",), Goes.STAYS, _columns(nothing="id")),
    "interaction_requests": ErasedTable(("key",), Goes.STAYS, _columns(nothing="key")),
    "slack_installations": ErasedTable(
        ("client", "team"),
        Goes.STAYS,
        _columns(
            nothing="client team enterprise app_id bot bot_user scopes encrypted", text="team_name why", person="by"
        ),
    ),
    "erasures": ErasedTable(
        ("id",), Goes.STAYS, _columns(nothing="tenant actor reason salt selected kinds state working progress")
    ),
    "archives": ErasedTable(("id",), Goes.APART, _columns(nothing="tenant source path sha256 digest state")),
    "retention_floors": ErasedTable(("source",), Goes.STAYS, _columns(nothing="source age pruned")),
    "retention_progress": ErasedTable(("one",), Goes.STAYS, _columns(nothing="error")),
    "erased_traces": ErasedTable(("key",), Goes.STAYS, _columns(nothing="key")),
    "seal_state": ErasedTable(("one",), Goes.STAYS, _columns(nothing="cluster rescan")),
    "seal_logs": ErasedTable(("tenant",), Goes.STAYS, _columns(nothing="tenant origin")),
    "sealed_rows": ErasedTable(("tenant", "leaf"), Goes.APART, _columns(nothing="tenant")),
    "seal_entries": ErasedTable(("tenant", "bundle"), Goes.STAYS, _columns(nothing="tenant body")),
    "seal_tiles": ErasedTable(("tenant", "level", "tile"), Goes.STAYS, _columns(nothing="tenant hashes")),
    "seal_checkpoints": ErasedTable(("tenant", "size"), Goes.STAYS, _columns(nothing="tenant root note")),
    "seal_notes": ErasedTable(("id",), Goes.STAYS, _columns(nothing="tenant kind actor reason archive")),
    "seal_keys": ErasedTable(("public_key",), Goes.STAYS, _columns(nothing="public_key")),
    "seal_publications": ErasedTable(("tenant", "way"), Goes.STAYS, _columns(nothing="tenant way failure receipt")),
    "spanpost_version": ErasedTable(("version_num",), Goes.STAYS, _columns(nothing="version_num")),
}
#: Types of columns that can hold a text, by `pg_type.typname`.
KINDS: Final = ("text", "varchar", "bpchar", "name", "json", "jsonb", "xml", "bytea", "_text", "_bytea", "_jsonb")
#: Text columns of ordinary tables whose texts are replaced row by row (`mentions`).
SCANNED: Final = frozenset({PERSON, TEXT, COMMENT})
