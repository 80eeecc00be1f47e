"""A spool file while this process writes it, from several threads and without a lock."""

from __future__ import annotations

import itertools
from collections import deque
from pathlib import Path
from typing import Any

from spanpost import semconv as c
from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.spans import is_ours

#: The origin number of spanpost's own spans, which are never written.
OURS = -1
_MAX_SCOPES = 1024

#: Attributes that mark a span, at its start, as an agent's or a workflow's.
_ROOT_SPAN = frozenset(
    {
        c.TASK_ID,
        c.TASK_NAME,
        c.NAME,
        "gen_ai.agent.name",
        "gen_ai.agent.id",
        "traceloop.entity.name",
        "traceloop.workflow.name",
    }
)
_KINDS = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_ROOT_SPAN_KINDS = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "AGENT", "CHAIN", "agent", "workflow"})


def is_root_span(span: Any, attributes: dict[str, Any]) -> bool:
    """Whether a starting span is a root span, or marked as an agent's: only these starts are written."""
    parent = span.parent
    if parent is None or parent.is_remote or not _ROOT_SPAN.isdisjoint(attributes):
        return True
    return any(type(kind := attributes.get(name)) is str and kind in _ROOT_SPAN_KINDS for name in _KINDS)


def waits_for_disk(thread: int) -> bool:
    """Whether a thread of this process (native id) is in uninterruptible sleep: Linux waits for disks that
    way.
    """
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2][1:2] == b"D"
    except OSError:
        return False


class SpoolFile:
    """A spool file of this process, until everything in it is recorded."""

    def __init__(self, fd: int, path: Path, number: int) -> None:
        self.fd = fd
        self.path = path
        self.number = number
        self.is_finished = False
        #: It holds records that did not go through the queue.
        self.is_unrecorded = False
        self.is_dirty = True
        #: Start time and native thread id of each write in progress. Append, remove and reading the first
        #: are atomic.
        self.busy: deque[tuple[float, int]] = deque()
        self.origins: dict[tuple[int, str, str], int] = {}
        self._kept: list[Any] = []
        #: By identity of the scope, which a tracer's spans share.
        self._scopes: dict[int, tuple[Any, Any, int]] = {}
        self._numbers = itertools.count(1)

    def origin(self, resource: Any, scope: Any) -> tuple[int, bytes, Any]:
        """Return the number of a resource and scope; if it is new, also the record to write first (see
        `keep`).

        Returns `OURS` for spanpost's own scopes, which are never written.
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
        return (
            number,
            spool_files.frame(spool_packing.pack_origin(number, attributes, name, version)),
            (key, number, resource),
        )

    def keep(self, new_origin: Any) -> None:
        """Remember an origin's number, now that its record is in the file."""
        key, number, resource = new_origin
        if len(self.origins) >= _MAX_SCOPES:
            self.origins.clear()
            self._kept.clear()
        self._kept.append(resource)  # otherwise another resource could get its id
        self.origins[key] = number
