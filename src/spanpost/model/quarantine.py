"""Values of `quarantine` for an operator."""

from __future__ import annotations

from datetime import datetime

import msgspec


class QuarantineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are meant: those that fit all that is given."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    tenant: str | None = None


class QuarantineRow(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be recorded."""

    id: int
    tenant: str
    #: What refused it: ``record`` for an observation, else the source of a request body.
    source: str
    reason: str
    error: str
    #: Bytes that are kept.
    size: int
    #: How often it came.
    attempts: int
    first_at: datetime
    last_at: datetime


class Retried(msgspec.Struct, kw_only=True):
    """What became of rows that were tried again."""

    #: They are recorded, or were already.
    recorded: int = 0
    #: They failed as before.
    kept: int = 0
    #: They hold a request body, or bytes that this version does not read: neither is recorded by itself.
    skipped: int = 0
