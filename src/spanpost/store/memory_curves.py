"""How full contexts were, in memory: the same answers as `curves`, of the figures that calls told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

from spanpost.model.observations import Part
from spanpost.model.readings import Role
from spanpost.model.tasks import Task
from spanpost.tasks.context_curve import CurveUse, Point, drawn, use_of
from spanpost.tasks.folded import Placed

#: Of a trace, and of a task, the newest are kept, and shown.
_OF_TRACE, MOST = 2_000, 600


class CurvesHost(Protocol):
    """**Protocol:** what is asked of the store that keeps the tasks."""

    def task(self, uid: UUID) -> Task | None: ...

    def domains_of(self, task: Task) -> set[bytes]: ...

    def owner(self, domain: bytes, span_id: bytes) -> bytes: ...


class MemoryCurves:
    """Keeps what calls told of contexts, by trace."""

    def __init__(self, knows: CurvesHost) -> None:
        self._knows = knows
        #: By domain: span and identity of what told it.
        self._uses: dict[bytes, dict[tuple[bytes, bytes], CurveUse]] = {}

    def keep(self, placed: Iterable[Placed]) -> None:
        """Keep what a batch tells."""
        for p in placed:
            reading, part = p.reading, p.observation.part
            if part is Part.STARTED or (reading.context_used is None and (part is not Part.ENDED or reading.role is not Role.LLM)):
                continue
            use = use_of(reading, p.observation.at_ns)
            if use is None:
                continue
            kept = self._uses.setdefault(p.domain, {})
            kept[p.observation.span_id, p.event_id] = use
            if len(kept) > _OF_TRACE:
                del kept[next(iter(kept))]

    def forget(self, domains: Iterable[bytes]) -> None:
        """Let go of traces."""
        for domain in domains:
            self._uses.pop(domain, None)

    async def of(self, task_uid: UUID) -> list[Point]:
        """Return how full a task's context was, oldest first; its newest calls only."""
        task = self._knows.task(task_uid)
        if task is None:
            return []
        found = [
            use
            for domain in self._knows.domains_of(task)
            for (span_id, _), use in self._uses.get(domain, {}).items()
            if self._knows.owner(domain, span_id) == task.uid.bytes
        ]
        return drawn(sorted(found, key=lambda use: use.at_ns)[-MOST:])
