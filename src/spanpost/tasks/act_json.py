"""Acts and reads of content as JSON: the API's and the command line's."""

from __future__ import annotations

from typing import Any, Final

from spanpost.model.acts import ActRow, ReadRow
from spanpost.tasks.json_form import rfc3339

#: Fields of an act that are null where they are empty.
_TEXTS: Final = (
    "tenant", "task_id", "task_name", "decision", "comment", "actor", "actor_id", "actor_email", "credential",
    "client", "source", "os_user", "database_role", "scope", "launcher", "refusal", "approval_id", "mark",
    "question", "detail", "risk",
)  # fmt: skip


def act_json(row: ActRow) -> dict[str, Any]:
    """Return an act as JSON. Question, detail, options and risk are text from agents."""
    return {
        "number": row.number,
        "id": str(row.id),
        "at": rfc3339(row.at),
        "recorded_at": rfc3339(row.recorded_at),
        "verb": row.verb,
        "result": row.result,
        "task_uid": str(row.task_uid) if row.task_uid is not None else None,
        **{name: getattr(row, name) or None for name in _TEXTS},
        "rule": str(row.rule) if row.rule is not None else None,
        "order_id": str(row.order_id) if row.order_id is not None else None,
        "parameters": dict(row.parameters),
        "options": list(row.options),
    }


def read_json(row: ReadRow) -> dict[str, Any]:
    """Return as JSON how often a person read content in an hour."""
    texts = "tenant", "task_id", "task_name", "credential", "client", "detail", "os_user", "database_role"
    return {
        "hour": rfc3339(row.hour),
        "content": row.content,
        "actor": row.actor,
        "actor_id": row.actor_id,
        "reads": row.reads,
        "first_at": rfc3339(row.first_at),
        "last_at": rfc3339(row.last_at),
        "task_uid": str(row.task_uid) if row.task_uid is not None else None,
        **{name: getattr(row, name) or None for name in texts},
    }
