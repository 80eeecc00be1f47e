"""Limits of a tenant: entries a second, open tasks, stored bytes; and the bucket that keeps the rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

import msgspec

#: Seconds of the rate that a bucket holds where the settings name no burst.
_BURST_SECONDS: Final = 10
#: A task without telemetry for so long does not count as open: its agent is gone.
FORGOTTEN: Final = timedelta(days=1)


class TenantLimit(StrEnum):
    """What a tenant may be over."""

    RATE = "rate"
    OPEN_TASKS = "open_tasks"
    STORAGE = "storage"


@dataclass(frozen=True, kw_only=True)
class TenantLimits:
    """Limits of one tenant; 0: none."""

    #: Spans, log records and data points a second, and how many may come at once after a pause.
    entries_per_second: int = 0
    burst: int = 0
    open_tasks: int = 0
    stored_bytes: int = 0

    @property
    def bucket(self) -> int:
        """The size of the bucket: what may come at once."""
        return self.burst or self.entries_per_second * _BURST_SECONDS


@dataclass(frozen=True, kw_only=True)
class OwnTenantLimits:
    """Limits of one tenant that differ from the others'; None: the general one."""

    entries_per_second: int | None = None
    burst: int | None = None
    open_tasks: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TenantLimitRules(TenantLimits):
    """Limits of each tenant."""

    tenants: Mapping[str, OwnTenantLimits] = field(default_factory=dict)

    def of(self, tenant: str) -> TenantLimits:
        """Return the limits of a tenant."""
        own = self.tenants.get(tenant)
        return self if own is None else self._with(own)

    def _with(self, own: OwnTenantLimits) -> TenantLimits:
        return TenantLimits(
            entries_per_second=self.entries_per_second if own.entries_per_second is None else own.entries_per_second,
            burst=self.burst if own.burst is None else own.burst,
            open_tasks=self.open_tasks if own.open_tasks is None else own.open_tasks,
            stored_bytes=self.stored_bytes if own.stored_bytes is None else own.stored_bytes,
        )

    @property
    def every(self) -> list[TenantLimits]:
        """The general limits, and those of the tenants that have their own."""
        return [self, *map(self._with, self.tenants.values())]


class TenantStorage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tenant has stored, as it was last measured."""

    tenant: str
    rows: int
    size: int


class TokenBucket:
    """A rate with a burst. A request is admitted while the bucket holds anything, and takes all of its entries: so a
    body larger than the burst is never refused for ever, and what it takes too much is missing afterwards.

    In any `t` seconds it admits at most ``burst + rate * t`` entries and one request. `now`: seconds of one clock.
    """

    __slots__ = ("_at", "_level")

    def __init__(self, size: int, now: float) -> None:
        self._level = float(size)
        self._at = now

    def wait(self, rate: float, size: int, now: float) -> float:
        """Return the seconds until a request is admitted; 0: now."""
        self._fill(rate, size, now)
        # With any fraction of an entry, a bucket would admit a request at each moment of the clock.
        return max(1.0 - self._level, 0.0) / rate

    def is_full(self, rate: float, size: int, now: float) -> bool:
        """Whether the bucket is as one that was never used."""
        self._fill(rate, size, now)
        return self._level >= size

    def take(self, entries: int) -> None:
        """Take the entries of an admitted request; a negative number gives them back."""
        self._level -= entries

    def _fill(self, rate: float, size: int, now: float) -> None:
        self._level = min(self._level + max(now - self._at, 0.0) * rate, size)
        self._at = max(self._at, now)
