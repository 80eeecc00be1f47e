"""Fields of a task that links and queries in the settings may use, and its attributes: ``attributes.shop.dealer``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from spanpost.model.tasks import Task
from spanpost.routing.matching import FIELDS as OF_ATTRIBUTES

#: Before the name of an attribute.
PREFIX: Final = "attributes."
#: A field's name, or `attributes.` and the name of an attribute.
NAME: Final = r"attributes\.[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,99}|[a-z_]{1,40}"
_ATTRIBUTE: Final = re.compile(r"attributes\.[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,99}")
#: Fields of a task with the name that they have elsewhere, too (API, rows).
_TEXTS: Final = (
    *("task_id", "tenant", "type", "status", "agent_id", "agent_version", "model", "repo", "topic", "service"),
    *("environment", "session_id", "requested_by", "parent_task_id", "retry_of", "caused_by", "order_id"),
)


def values(task: Task) -> dict[str, str]:
    """Return the values of a task's fields, empty when unknown, and of its known attributes."""
    found = {
        "trace_id": task.trace_id.hex(),
        "span_id": task.span_id.hex(),
        "uid": str(task.uid),
        "task_name": task.name,
        "agent": task.agent_name or "",
        "started_ms": _milliseconds(task.started_at),
        # While the task runs: its last event.
        "ended_ms": _milliseconds(task.ended_at or task.last_event_at),
    }
    found |= {name: getattr(task, name) or "" for name in _TEXTS}
    found |= {PREFIX + name: getattr(task, own) or "" for name, own in OF_ATTRIBUTES.items()}
    return found | {PREFIX + name: value for name, value in task.attributes.items()}


def unknown(names: Iterable[str]) -> str:
    """Return the first name that no task can have a value for; empty: there is none."""
    return next((name for name in sorted(set(names) - set(FIELDS)) if not _ATTRIBUTE.fullmatch(name)), "")


def attributes_of(names: Iterable[str]) -> frozenset[str]:
    """Return the attributes among these fields that a task must keep for them."""
    return frozenset(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)) - set(OF_ATTRIBUTES)


def _milliseconds(at: datetime | None) -> str:
    return "" if at is None else str(int(at.timestamp() * 1000))


#: Names of the fields.
FIELDS: Final = tuple(
    name for name in values(Task(uid=UUID(int=0), tenant="", task_id="")) if not name.startswith(PREFIX)
)
#: The same for people.
LISTED: Final = f"{', '.join(FIELDS)}, and attributes.<name>"
