"""Erasures, with the role that owns the tables."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spanpost.runtime.maintenance import as_owner
from spanpost.settings import Settings
from spanpost.store import redaction_key
from spanpost.store.erasing import run
from spanpost.store.erasing.run import Erasure, Progress, Report
from spanpost.store.erasing.selection import Selection
from spanpost.store.system_user import system_user


def survey(settings: Settings, asked: Selection) -> Report:
    """Count what an erasure would erase."""
    return as_owner(settings, lambda connection: run.survey(connection, asked, directory=settings.retention.directory))


def erase(settings: Settings, asked: Selection, reason: str, progress: Progress) -> Report:
    """Erase, or go on with the same erasure."""

    async def work(connection: Any) -> Report:
        key = await redaction_key.read(connection)
        return await run.erase(
            connection,
            asked,
            actor=system_user(),
            reason=reason,
            key=key,
            directory=settings.retention.directory,
            progress=progress,
        )

    return as_owner(settings, work)


def advance(settings: Settings, id: UUID) -> Report:
    """Return how far the messages of an erasure are deleted."""
    return as_owner(settings, lambda connection: run.advance(connection, id))


def listed(settings: Settings, limit: int) -> list[Erasure]:
    """List erasures, the newest first."""
    return as_owner(settings, lambda connection: run.listed(connection, limit))
