"""Rows of who read content, where `interactions.log_reads` is set. What cannot be logged is not shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from spanpost.model.acts import NO_TASK, ContentKind, ContentRead
from spanpost.model.interventions import Actor
from spanpost.store.protocols import Acts
from spanpost.tasks.interventions import id_of, name_of

#: Most characters of a statement that are kept.
_LONGEST: Final = 1_000


class ReadLog:
    """Logs reads of content. One that is off logs nothing."""

    def __init__(self, acts: Acts, *, is_on: bool) -> None:
        self._acts = acts
        self._is_on = is_on

    async def note(
        self, actor: Actor, kind: ContentKind, tenant: str, tasks: Iterable[UUID] = (NO_TASK,), detail: str = ""
    ) -> None:
        """Log that a person is about to read content of these tasks. Raises `StoreUnavailable`: show nothing."""
        if not self._is_on:
            return
        now = datetime.now(UTC)
        reads = [
            ContentRead(
                tenant=tenant,
                task_uid=task,
                content=kind,
                actor=name_of(actor),
                actor_id=id_of(actor),
                credential=actor.credential,
                client=actor.client,
                detail=detail[:_LONGEST],
                at=now,
            )
            for task in dict.fromkeys(tasks)
        ]
        if reads:
            await self._acts.count_reads(reads)
