"""Attributes that hold identities, collected from the dialects, so that a new dialect is included."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.readers.agent import ON_RESOURCE
from spanpost.readers.events import CLIS
from spanpost.readers.known_dialects import DIALECTS

_FIELDS = frozenset(
    [
        "task_id",
        "task_alias",
        "task_parent_id",
        "agent_id",
        "retry_of",
        "caused_by",
        "order_id",
        "conversation_id",
        "tool_call_id",
        "response",
        "status",
    ]
)
_OF_RECORDS = frozenset({"session", "prompt", "request", "tool_call_id", "sequence"})

#: Names of attributes whose values are never altered.
IDENTITY: frozenset[str] = frozenset(
    {name for dialect in DIALECTS for field, names in dialect.fields.items() if field in _FIELDS for name in names}
    | {name for cli in CLIS for field, names in cli.fields.items() if field in _OF_RECORDS for name in names}
    | {name for name, field in ON_RESOURCE.items() if field in _FIELDS}
    | {dialect.kind for dialect in DIALECTS if dialect.kind}
    | c.ENVELOPE - {c.SPAN_NAME, c.SPAN_STATUS_MESSAGE}
    | {c.APPROVAL_ID, c.APPROVAL_DIGEST, c.PRODUCER, c.OPEN_ROOTS, c.ALERT_ID, c.ACCOUNT}
    | {
        "service.instance.id",
        "session.id",
        "sessionId",
        "thread.id",
        "thread_id",
        "trace_id",
        "span_id",
        "langfuse.trace.id",
        "run_id",
    }
)
