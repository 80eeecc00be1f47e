"""The gateway's journal: that of the ledger, whose recordings are counted and have their deliveries sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from spanpost.domain.journal import Appended, Backlog, Entry
from spanpost.domain.records import Recorded
from spanpost.pipeline import Pipeline


class Journals(Protocol):
    """**Protocol:** the part of a ledger that keeps a journal (`spanpost.ledger.journal.Journaling`)."""

    async def append(self, entries: Sequence[Entry]) -> Appended: ...

    async def record_journal(self, tenant: str, most: int) -> Recorded | None: ...

    async def record_journal_alone(self, tenant: str) -> Recorded | None: ...

    async def journal_depth(self) -> list[Backlog]: ...

    async def listen_anew(self) -> None: ...


class PipelineJournal:
    """A `spanpost.intake.journal.Journal` of the pipeline's own loop."""

    def __init__(self, pipeline: Pipeline, ledger: Journals) -> None:
        self._pipeline = pipeline
        self._ledger = ledger

    async def append(self, entries: Sequence[Entry], /) -> Appended:
        """Make entries durable; what they cost is found out now."""
        for entry in entries:
            await self._pipeline.price(entry.observations)
        appended = await self._ledger.append(entries)
        self._pipeline.take(appended.recorded)
        return appended

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        """Record what waits of a tenant."""
        return await self._pipeline.counted(self._ledger.record_journal(tenant, most))

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        """Record the first row of a tenant."""
        return await self._pipeline.counted(self._ledger.record_journal_alone(tenant))

    async def depth(self) -> Sequence[Backlog]:
        """Return what waits, by tenant."""
        return await self._ledger.journal_depth()

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task."""
        await self._ledger.listen_anew()


def journal_of(pipeline: Pipeline) -> PipelineJournal | None:
    """Return the pipeline's journal; None where its ledger keeps none."""
    ledger = pipeline.ledger
    return PipelineJournal(pipeline, cast("Journals", ledger)) if hasattr(ledger, "record_journal") else None
