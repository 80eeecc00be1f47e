"""Judges requests by the limits of their tenants, before they are recorded.

Rules.
1. A request that is refused is to be repeated: nothing of it is recorded, and nothing that was acknowledged is lost.
2. Over its storage a tenant is refused everything; over its rate, what is more than the rate. Other tenants, people's
   answers and the API never come here.
3. Over its open tasks a tenant is refused a request with a trace that none of them has: it may begin another task.
   Requests of open tasks are taken, so that these can end; below twice the limit with as many other traces, because
   exporters send the end of one task together with the begin of the next. A record without a trace is taken as well.
4. Each process judges the rate by itself. What is stored and open is measured for all (`runtime.tenant_watch`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from typing import Final, Protocol

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.model.tenant_limits import TenantLimit, TenantLimitRules, TenantLimits, TokenBucket
from spanpost.receivers.admission import Busy, jitter
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.entries import Entries, count

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: Longest time after which a sender over its rate is asked to come back, seconds.
_LONGEST: Final = 30
#: The same for one that has stored too much: only erasing, archiving or a higher limit helps.
_STORED: Final = 300
#: Tenants whose rates are followed; beyond this, those that could send everything at once are forgotten.
_MOST_BUCKETS: Final = 10_000


class OverLimit(Busy):
    """A tenant is over a limit of its own."""

    def __init__(self, limit: TenantLimit, message: str, retry_after: int) -> None:
        super().__init__(message, retry_after)
        self.reason = f"tenant_{limit}"


class GateMetrics(Protocol):
    """**Protocol:** counts refused requests; implemented by `spanpost.metrics.Metrics`."""

    def refused_tenant(self, tenant: str, limit: str) -> None: ...


class TenantGate:
    """The limits of all tenants in one process. All of it is called in one event loop."""

    def __init__(self, rules: TenantLimitRules | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        #: Replaced on reload; buckets keep what they hold.
        self.rules = rules if rules is not None else TenantLimitRules()
        #: Bytes stored by tenant, as last measured.
        self.stored: Mapping[str, int] = {}
        #: Traces of the open tasks of each tenant that may begin no others.
        self.full: Mapping[str, frozenset[bytes]] = {}
        self.watch: GateMetrics | None = None
        self._buckets: dict[str, TokenBucket] = {}
        self._clock = clock

    def check(self, tenant: str) -> None:
        """Raise `OverLimit` if nothing of a tenant is taken now. Costs nothing of its rate."""
        limits = self.rules.of(tenant)
        most, stored = limits.stored_bytes, self.stored.get(tenant, 0)
        if most and stored >= most:
            raise self._refusal(
                TenantLimit.STORAGE,
                tenant,
                f"tenant {tenant} has stored {stored:,} bytes and may store {most:,} (limits.stored_bytes): nothing "
                "more of it is taken. Archive or erase old rows, or let the operator raise the limit",
                _STORED,
            )
        if not limits.entries_per_second:
            return
        if wait := self._bucket(tenant, limits).wait(limits.entries_per_second, limits.bucket, self._clock()):
            raise self._refusal(
                TenantLimit.RATE,
                tenant,
                f"tenant {tenant} sends more than {limits.entries_per_second:,} spans, log records and data points a "
                "second (limits.entries_per_second): send it again later. Send less, or let the operator raise the "
                "limit",
                min(math.ceil(wait), _LONGEST) + jitter(0, 1),
            )

    async def enter(self, tenant: str, signal: str, body: bytes, *, is_json: bool) -> int:
        """Judge a request whose body was read; return the entries that it takes of the tenant's rate.

        Raises `OverLimit`, and `BodyTooLarge` for a body that would be refused anyway.
        """
        self.check(tenant)
        limits, traces = self.rules.of(tenant), self.full.get(tenant)
        if not limits.entries_per_second and traces is None:
            return 0
        found = Entries()
        with suppress(Undecodable):  # the decoder says why
            for _ in count(found, signal, body, is_json=is_json, with_traces=traces is not None):
                await asyncio.sleep(0)
        self.check(tenant)  # others have entered meanwhile
        if traces is not None and limits.open_tasks and _begins_too_much(found.traces, traces, limits.open_tasks):
            raise self._refusal(
                TenantLimit.OPEN_TASKS,
                tenant,
                f"tenant {tenant} has {limits.open_tasks:,} open tasks or more (limits.open_tasks): telemetry of these "
                "is taken, other traces are when some have ended. End tasks, or let the operator raise the limit",
                jitter(3, 5),
            )
        if not limits.entries_per_second:
            return 0
        taken = max(found.number, 1)
        self._bucket(tenant, limits).take(taken)
        return taken

    def give_back(self, tenant: str, entries: int) -> None:
        """Give back what a request took of its tenant's rate: it was not recorded, and comes again."""
        if entries and (bucket := self._buckets.get(tenant)) is not None:
            bucket.take(-entries)

    def _bucket(self, tenant: str, limits: TenantLimits) -> TokenBucket:
        bucket = self._buckets.get(tenant)
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._forget()
            self._buckets[tenant] = bucket = TokenBucket(limits.bucket, self._clock())
        return bucket

    def _forget(self) -> None:
        """Drop the buckets that are full, or else all: tenants cannot be invented, but may be many."""
        now = self._clock()
        kept: dict[str, TokenBucket] = {}
        for tenant, bucket in self._buckets.items():
            limits = self.rules.of(tenant)
            if limits.entries_per_second and not bucket.is_full(limits.entries_per_second, limits.bucket, now):
                kept[tenant] = bucket
        self._buckets = kept if len(kept) < _MOST_BUCKETS else {}

    def _refusal(self, limit: TenantLimit, tenant: str, message: str, retry_after: int) -> OverLimit:
        _limited_log.warning(f"{limit} {tenant}", "%s", message)
        if self.watch is not None:
            self.watch.refused_tenant(tenant, str(limit))
        return OverLimit(limit, message, retry_after)


def _begins_too_much(sent: Set[bytes], known: frozenset[bytes], most: int) -> bool:
    """Tell whether a request begins more than a tenant may that has its open tasks. `known`: the traces of these."""
    new = len(sent - known)
    return new > 0 and (new > len(sent & known) or len(known) >= 2 * most)
