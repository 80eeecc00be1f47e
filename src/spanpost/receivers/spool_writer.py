"""Spool files of this process until everything in them is recorded: written by several threads, without a lock."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from spanpost import semconv as c
from spanpost.model.observations import Observation
from spanpost.receivers import spool_files, spool_packing
from spanpost.receivers.spans import is_ours
from spanpost.receivers.spool_bypass import Gap

#: The origin number of spanpost's own spans, which are never written.
OURS = -1
_MAX_SCOPES, _MAX_OPEN = 1024, 1000

#: Writes bytes to a descriptor, as `os.write` does.
Write: TypeAlias = Callable[[int, bytes], int]

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


def is_root_span(span: Any) -> bool:
    """Whether a starting span is a root span, or marked as an agent's: only these starts are written."""
    attributes = getattr(span, "_attributes", None)
    attributes = getattr(attributes, "_dict", attributes) or {}
    parent = span.parent
    if parent is None or parent.is_remote or not _ROOT_SPAN.isdisjoint(attributes):
        return True
    return any(type(kind := attributes.get(name)) is str and kind in _ROOT_SPAN_KINDS for name in _KINDS)


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
        self._head, self._began = 0, time.monotonic()
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

    def write_head(self, write: Write, gap: Gap | None, live_spans: Iterable[Any]) -> None:
        """Write the head of a later file: the gap before it, and the starts of the agents' open spans."""
        if gap is not None:
            row = (spool_packing.GAP, gap.first, gap.last, gap.number, gap.reason)
            write(self.fd, spool_files.frame(spool_packing.encode(row)))
        for span in itertools.islice(live_spans, _MAX_OPEN):
            if not is_root_span(span):
                continue
            origin, head, new_origin = self.origin(span.resource, span.instrumentation_scope)
            if origin == OURS:
                continue
            write(self.fd, head + spool_files.frame(spool_packing.pack_span(origin, span, False)))
            if new_origin is not None:
                self.keep(new_origin)

    def begin(self) -> None:
        """Its head is written: what follows are records."""
        self._head, self._began = os.fstat(self.fd).st_size, time.monotonic()

    def is_over(self, size: int, seconds: float) -> bool:
        """Return whether it has reached a size, or holds a record and is so old."""
        found = os.fstat(self.fd).st_size
        return found >= size or (found > self._head and time.monotonic() - self._began >= seconds)

    def write_last(self, write: Write, interruptions: Iterable[Observation]) -> None:
        """Write the end of the process's last file: the interruptions of open spans."""
        for o in interruptions:
            number, origin, name = next(self._numbers), o.origin, str(o.attributes.get(c.SPAN_NAME, ""))
            head = spool_packing.pack_origin(number, origin.resource, origin.scope, origin.scope_version)
            interruption = spool_packing.pack_interruption(o.trace_id, o.span_id, name, o.at_ns, number)
            write(self.fd, spool_files.frame(head) + spool_files.frame(interruption))
        write(self.fd, spool_files.frame(spool_packing.encode((spool_packing.CLOSED,))))


class OwnFiles:
    """The spool files of this process that are not deleted yet."""

    def __init__(self) -> None:
        self._files: list[SpoolFile] = []
        #: Finished files whose marker has come: to be read if unrecorded, then deleted.
        self.to_delete: list[SpoolFile] = []
        #: Deleted files, for the keeper to close: beside the writers only the keeper uses a descriptor.
        self._deleted: deque[SpoolFile] = deque()
        #: Files up to this number hold refused records.
        self._unrecorded_until = 0

    def add(self, spool_file: SpoolFile) -> None:
        """Add a new file."""
        spool_file.is_unrecorded = spool_file.number <= self._unrecorded_until
        self._files.append(spool_file)

    def all(self) -> list[SpoolFile]:
        """Return all files, oldest first."""
        return list(self._files)

    def mark_unrecorded(self, until: int) -> int:
        """Note that all files up to a number must be read; return the number of the oldest."""
        self._unrecorded_until = until
        files = self.all()
        for spool_file in files:
            spool_file.is_unrecorded = True
        return min((s.number for s in files), default=until)

    def on_marker(self, spool_file: SpoolFile) -> None:
        """Handle the marker of a finished file: everything queued before it is recorded."""
        if spool_file in self._files and spool_file not in self.to_delete:
            self.to_delete.append(spool_file)

    def delete_recorded(self, read: Callable[[SpoolFile], bool]) -> bool:
        """Delete the files whose marker has come; read the unrecorded ones first. True: none is left."""
        left = []
        for spool_file in self.to_delete:
            if spool_file.busy or (spool_file.is_unrecorded and not read(spool_file)):
                left.append(spool_file)
                continue
            spool_file.path.unlink(missing_ok=True)
            with suppress(ValueError):
                self._files.remove(spool_file)
            self._deleted.append(spool_file)
        self.to_delete = left
        return not left

    def give_up(self) -> int:
        """Leave what could not be deleted for the next start; return the number of these files."""
        self._deleted += self.to_delete
        return len(self.to_delete)

    def close_deleted(self, *, is_last: bool) -> None:
        """Close the descriptors of deleted files; at the last time also write the data to the disk."""
        while self._deleted:
            spool_file = self._deleted.popleft()
            if is_last:
                with suppress(OSError):
                    os.fdatasync(spool_file.fd)
            spool_files.release(spool_file.fd)
