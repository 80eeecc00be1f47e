"""Context curves in memory: the same answers as `context_curves`, from the figures of model calls."""

from __future__ import annotations

from collections.abc import Iterable

from spanpost.model.observations import Part
from spanpost.model.readings import Role
from spanpost.model.tasks import Task
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks.context_curve import CurveUse, Point, drawn, use_of
from spanpost.tasks.folded import Placed

#: Figures kept per trace, and shown per task; the newest.
_OF_TRACE, MOST = 2_000, 600


class MemoryCurves:
    """Context figures of model calls, by trace."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        #: By domain: figures by span and event.
        self._uses: dict[bytes, dict[tuple[bytes, bytes], CurveUse]] = {}

    def keep(self, placed: Iterable[Placed]) -> None:
        """Keep the context figures of a batch."""
        for p in placed:
            reading, part = p.reading, p.observation.part
            if part is Part.STARTED or (
                reading.context_used is None and (part is not Part.ENDED or reading.role is not Role.LLM)
            ):
                continue
            use = use_of(reading, p.observation.at_ns)
            if use is None:
                continue
            kept = self._uses.setdefault(p.domain, {})
            kept[p.observation.span_id, p.event_id] = use
            if len(kept) > _OF_TRACE:
                del kept[next(iter(kept))]

    def forget(self, domains: Iterable[bytes]) -> None:
        """Drop traces."""
        for domain in domains:
            self._uses.pop(domain, None)

    def of(self, task: Task) -> list[Point]:
        """Return how full a task's context was, oldest first; only the newest `MOST` calls."""
        found = [
            use
            for domain in self._tables.domains_of(task)
            for (span_id, _), use in self._uses.get(domain, {}).items()
            if self._tables.owner(domain, span_id) == task.uid.bytes
        ]
        return drawn(sorted(found, key=lambda use: use.at_ns)[-MOST:])
