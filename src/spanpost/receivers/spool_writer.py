"""A file of a spool while it is written: by this process, in several threads, without a lock."""

from __future__ import annotations

import itertools
from collections import deque
from pathlib import Path
from typing import Any

from spanpost import semconv as c
from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.spans import is_ours

#: The number of an origin whose spans are never written: spanpost's own.
OURS = -1
_MAX_SCOPES = 1024

#: Attributes by which a span says at its start that it is an agent's, or a run's.
_ROOT_SPAN = frozenset(
    {c.TASK_ID, c.TASK_NAME, c.NAME, "gen_ai.agent.name", "gen_ai.agent.id", "traceloop.entity.name", "traceloop.workflow.name"}
)
_KINDS = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_ROOT_SPAN_KINDS = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "AGENT", "CHAIN", "agent", "workflow"})


def is_root_span(span: Any, attributes: dict[str, Any]) -> bool:
    """Say whether a span that starts is worth a record: a root, or an agent's as far as it says so now."""
    parent = span.parent
    if parent is None or parent.is_remote or not _ROOT_SPAN.isdisjoint(attributes):
        return True
    return any(type(kind := attributes.get(name)) is str and kind in _ROOT_SPAN_KINDS for name in _KINDS)


def waits_for_disk(thread: int) -> bool:
    """Say whether one of this process's threads (by its native id) sleeps where nothing wakes it, which is how Linux waits for disks."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2][1:2] == b"D"
    except OSError:
        return False


class SpoolFile:
    """A file of this process, while it is written and until all it holds is recorded."""

    def __init__(self, fd: int, path: Path, number: int) -> None:
        self.fd = fd
        self.path = path
        self.number = number
        self.is_encrypted = False
        #: It holds what the queue does not.
        self.is_owed = False
        self.is_dirty = True
        #: When each write under way began, and in which of the system's threads. Appending, removing and asking for the first are atomic.
        self.busy: deque[tuple[float, int]] = deque()
        self.origins: dict[tuple[int, str, str], int] = {}
        self._kept: list[Any] = []
        #: By identity of the scope: a tracer's spans share it.
        self._scopes: dict[int, tuple[Any, Any, int]] = {}
        self._numbers = itertools.count(1)

    def origin(self, resource: Any, scope: Any) -> tuple[int, bytes, Any]:
        """Return the number of a resource and scope, and the record to write before where it is new (see `keep`).

        `OURS` for a scope of spanpost itself, which is never written.
        """
        known = self._scopes.get(id(scope))
        if known is not None and known[0] is scope and known[1] is resource:
            return known[2], b"", None
        name = (getattr(scope, "name", None) or "") if scope is not None else ""
        version = (getattr(scope, "version", None) or "") if scope is not None else ""
        key = (id(resource), name, version)
        number = OURS if is_ours(name) else self.origins.get(key)
        if number is not None:
            if len(self._scopes) >= _MAX_SCOPES:
                self._scopes.clear()
            self._scopes[id(scope)] = (scope, resource, number)
            return number, b"", None
        number = next(self._numbers)
        attributes = getattr(resource, "attributes", None)
        return number, spool_files.frame(spool_packing.pack_origin(number, attributes, name, version)), (key, number, resource)

    def keep(self, fresh: Any) -> None:
        """Use an origin's number from now on: it is in the file."""
        key, number, resource = fresh
        if len(self.origins) >= _MAX_SCOPES:
            self.origins.clear()
            self._kept.clear()
        self._kept.append(resource)  # or another one could have its id
        self.origins[key] = number
