"""The gateway's journal: the store's journal, with its recordings counted and their deliveries sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from spanpost.model.journal import Appended, Backlog, Entry
from spanpost.model.recorded import Recorded
from spanpost.runtime.pipeline import Pipeline


class Journals(Protocol):
    """**Protocol:** the part of a store that keeps a journal (`spanpost.store.journal.Journaling`)."""

    async def append(self, entries: Sequence[Entry]) -> Appended: ...

    async def record_journal(self, tenant: str, most: int) -> Recorded | None: ...

    async def record_journal_alone(self, tenant: str) -> Recorded | None: ...

    async def journal_depth(self) -> list[Backlog]: ...

    async def listen_anew(self) -> None: ...


class PipelineJournal:
    """A `spanpost.receivers.journal.Journal` in the pipeline's loop."""

    def __init__(self, pipeline: Pipeline, store: Journals) -> None:
        self._pipeline = pipeline
        self._store = store

    async def append(self, entries: Sequence[Entry], /) -> Appended:
        """Make entries durable, with their costs computed now."""
        for entry in entries:
            await self._pipeline.price(entry.observations)
        appended = await self._store.append(entries)
        self._pipeline.take(appended.recorded)
        return appended

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        """Record waiting entries of a tenant."""
        return await self._pipeline.counted(self._store.record_journal(tenant, most))

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        """Record the first entry of a tenant."""
        return await self._pipeline.counted(self._store.record_journal_alone(tenant))

    async def depth(self) -> Sequence[Backlog]:
        """Return what waits, by tenant."""
        return await self._store.journal_depth()

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task."""
        await self._store.listen_anew()


def journal_of(pipeline: Pipeline) -> PipelineJournal | None:
    """Return the pipeline's journal; None if its store has none."""
    store = pipeline.store
    return PipelineJournal(pipeline, cast("Journals", store)) if hasattr(store, "record_journal") else None
