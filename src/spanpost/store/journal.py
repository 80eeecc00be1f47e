"""The journal of the Postgres store: requests that are durable but not recorded yet.

Rules.
1. Before a row is written, its observations are read and redacted: the journal holds what the audit rows may
   hold, and nothing else.
2. A row is locked (`FOR UPDATE SKIP LOCKED`) by the transaction that records it, and deleted by the same
   transaction. After a kill at any moment the row is there, or all of its observations are recorded.
3. A row that cannot be recorded that way (it takes too long, or a value is refused) is recorded trace by
   trace, and the refused observations are kept in `quarantine`. The row is deleted last: after a kill,
   traces that were recorded before are recognised as duplicates by their keys.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from spanpost.model.errors import OverBudget, SpanpostError
from spanpost.model.journal import Appended, Backlog, Entry
from spanpost.model.observations import Observation
from spanpost.model.recorded import UNFOLDABLE, Recorded
from spanpost.store.fold_threads import TimeMeter
from spanpost.store.folding import Wider
from spanpost.store.journal_rows import pack, unpack
from spanpost.store.locks import FINE, is_few, lock_free
from spanpost.store.quarantine import discard_body, discarded, set_aside
from spanpost.store.recording import Recording
from spanpost.store.transactions import is_of_data
from spanpost.tasks import batches
from spanpost.tasks.folded import Placed
from spanpost.tasks.stall import without_beats
from spanpost.tasks.work import Interrupted

log = logging.getLogger(__name__)

#: Most domains of one row, and of rows that are recorded together, unless one trace has more: few enough for
#: fine locks, with room for domains found later.
_AT_ONCE = FINE * 3 // 4
#: Most rows of one transaction, and the observations a row is assumed to hold before the first was read.
_ROWS, _PER_ROW = 256, 512.0
#: Weight of a row's observations in the moving average `_per_row`.
_RECENT = 0.3
#: Raised for a value that MessagePack cannot encode.
_UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)

_APPEND = """
INSERT INTO journal (tenant, observations, domains, body)
SELECT * FROM unnest($1::text[], $2::int4[], $3::int4[], $4::bytea[])"""
_TAKE = (
    "SELECT id, body, observations, domains FROM journal WHERE tenant = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_TAKE_THESE = "SELECT id FROM journal WHERE tenant = $1 AND id = ANY($2::int8[]) ORDER BY id FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM journal WHERE tenant = $1 AND id = ANY($2::int8[])"
_DEPTH = """
SELECT tenant, count(*)::int8 AS rows, sum(octet_length(body))::int8 AS size, sum(observations)::int8 AS observations,
  greatest(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 AS age
FROM journal GROUP BY tenant ORDER BY min(id)"""


class _Row(NamedTuple):
    """A row that was read, decoded."""

    id: int
    placed: list[Placed]
    domains: set[bytes]


class _New(NamedTuple):
    """A row to append."""

    tenant: str
    observations: int
    domains: int
    body: bytes


class _Held(Exception):
    """Other transactions hold domains of all rows that were read: wait for these locks."""


async def depth(connection: Any) -> list[Backlog]:
    """Return the backlog by tenant, the tenant with the oldest row first."""
    return [Backlog(**dict(row)) for row in await connection.fetch(_DEPTH)]


class Journaling(Recording):
    """The journal methods of `PostgresStore`."""

    #: Moving average of the observations of a row.
    _per_row = _PER_ROW

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """Make requests durable, to be recorded later: all except the refused ones, in one transaction.

        A row holds observations of one tenant and, if possible, whole traces. Heartbeats are recorded at
        once.
        """
        beats: list[Observation] = []
        plain: list[tuple[str, Sequence[Observation]]] = []
        for entry in entries:
            batch, some = without_beats(entry.observations)
            plain.append((entry.tenant, batch))
            beats += some
        meter = TimeMeter(math.inf)
        refused, rows = await self._threads.run(meter, partial(self._packed, plain))
        if rows:
            await self._run(lambda c: c.execute(_APPEND, *map(list, zip(*rows, strict=True))))
        sizes: dict[str, int] = {}
        for row in rows:
            sizes[row.tenant] = sizes.get(row.tenant, 0) + len(row.body)
        recorded = self._with_losses(await self._record_beats(beats) if beats else Recorded())
        return Appended(refused=frozenset(refused), sizes=sizes, recorded=recorded)

    def _packed(self, entries: Sequence[tuple[str, Sequence[Observation]]]) -> tuple[set[int], list[_New]]:
        """Return the positions of entries that cannot be journaled, and the rows of the others."""
        refused: set[int] = set()
        prepared: dict[int, list[Placed]] = {}
        for i, (_, batch) in enumerate(entries):
            meter = TimeMeter(self.batch_budget)
            try:
                prepared[i] = meter.run(partial(self._prepared, batch, meter))[0]
            except Interrupted as ended:
                if not isinstance(ended.reason, OverBudget):
                    raise
                refused.add(i)
            except Exception as error:
                if not is_of_data(error):
                    raise
                refused.add(i)
        try:
            return refused, _rows(entries, prepared)
        except _UNPACKABLE:
            for i, placed in list(prepared.items()):
                try:
                    pack(placed)
                except _UNPACKABLE:
                    refused.add(i)
                    del prepared[i]
        return refused, _rows(entries, prepared)

    async def journal_depth(self) -> list[Backlog]:
        """Return the backlog by tenant, the tenant with the oldest row first."""
        return await self._run(depth)

    # --- recording ----------------------------------------------------------------------------------------------------

    async def record_journal(self, tenant: str, most: int) -> Recorded | None:
        """Record about `most` observations of a tenant and delete their rows, in one transaction.

        None: all rows that are left are held by others. Raises `OverBudget` when it takes too long; then
        `record_journal_alone` records such a row trace by trace.
        """
        given: list[_Row] = []
        await self._sets.learn(self._run)
        try:
            return self._counted(await self._run(partial(self._record_free, tenant, most, given)))
        except Wider as wider:
            more = wider.domains
        except (_Held, asyncpg.UniqueViolationError):
            more = set()
        except Exception as error:
            return await self._record_apart(tenant, given, error)
        try:
            domains = more.union(*(row.domains for row in given))
            return self._counted(await self._widening(partial(self._record_these, tenant, given), domains))
        except Exception as error:
            return await self._record_apart(tenant, given, error)

    async def record_journal_alone(self, tenant: str) -> Recorded | None:
        """Record a tenant's first row trace by trace, then delete it; None as in `record_journal`.

        A trace that takes too long by itself, or cannot be recorded, is kept in `quarantine`.
        """
        rows, recorded = await self._run(lambda c: self._take_rows(c, tenant, 1))
        if not rows:
            return self._counted(recorded) if recorded.lost else None
        return self._counted(recorded.plus(await self._record_row(tenant, rows[0])))

    def _counted(self, recorded: Recorded | None) -> Recorded | None:
        return None if recorded is None else self._with_losses(recorded)

    async def _take_rows(self, connection: Any, tenant: str, most: int) -> tuple[list[_Row], Recorded]:
        """Lock a tenant's first free rows, about `most` observations. A damaged row goes to `quarantine`."""
        taken = _fitting(await connection.fetch(_TAKE, tenant, max(1, min(_ROWS, round(most / self._per_row)))), most)
        for row in taken:
            self._per_row += _RECENT * (row["observations"] - self._per_row)
        found = await self._threads.run(
            TimeMeter(math.inf), lambda: [_unpacked(row["id"], row["body"]) for row in taken]
        )
        lost = 0
        for of, row in zip(taken, found, strict=True):
            if isinstance(row, Exception):
                log.error(
                    "row %d of the journal, of tenant %s, is damaged and is kept in quarantine: %s",
                    of["id"],
                    tenant,
                    row,
                )
                await discard_body(connection, tenant, "journal", str(row), of["body"])
                await connection.execute(_DELETE, tenant, [of["id"]])
                lost += of["observations"]
        rows = [row for row in found if not isinstance(row, Exception)]
        return rows, Recorded(lost={UNFOLDABLE: lost} if lost else {})

    async def _record_free(self, tenant: str, most: int, given: list[_Row], connection: Any) -> Recorded | None:
        """Record a tenant's first rows, except rows with domains that another transaction has locked."""
        given[:], recorded = await self._take_rows(connection, tenant, most)
        if not given:
            return recorded if recorded.lost else None
        domains = set[bytes]().union(*(row.domains for row in given))
        if not is_few(domains):
            raise _Held
        now, others = await lock_free(connection, domains)
        rows = [row for row in given if row.domains.isdisjoint(others)]
        if not rows:
            raise _Held
        return recorded.plus(
            await self._record_locked(connection, tenant, rows, domains - others, now, checks_all=False)
        )

    async def _record_these(self, tenant: str, given: Sequence[_Row], connection: Any, locked: set[bytes]) -> Recorded:
        """Record rows that were read before, unless another reader has recorded them meanwhile."""
        now = await self._lock(connection, locked)
        left = {row["id"] for row in await connection.fetch(_TAKE_THESE, tenant, [row.id for row in given])}
        rows = [row for row in given if row.id in left]
        return await self._record_locked(connection, tenant, rows, locked, now, checks_all=True) if rows else Recorded()

    async def _record_locked(
        self, connection: Any, tenant: str, rows: Sequence[_Row], locked: set[bytes], now: datetime, *, checks_all: bool
    ) -> Recorded:
        """Record rows and delete them.

        `checks_all`: ask the audit rows about every observation, not only doubtful ones.
        """
        meter = TimeMeter(self.batch_budget)
        placed = [p for row in rows for p in row.placed]
        touched = set[bytes]().union(*(row.domains for row in rows))
        some = await self._take_locked(
            connection, placed, locked, now, asks_all=checks_all, touched=touched, meter=meter
        )
        recorded = some
        while some.owed:
            placed, touched = await self._threads.run(meter, partial(self._prepared, some.owed, meter))
            await self._lock_more(connection, locked, touched)
            some = await self._take_locked(connection, placed, locked, now, asks_all=True, meter=meter)
            recorded = recorded.plus(some)
        await connection.execute(_DELETE, tenant, [row.id for row in rows])
        return recorded

    # --- one by one ---------------------------------------------------------------------------------------------------

    async def _record_apart(self, tenant: str, rows: Sequence[_Row], error: Exception) -> Recorded:
        """Record rows one by one, trace by trace, after a value was refused or spanpost failed."""
        if isinstance(error, (SpanpostError, MemoryError)):
            raise error
        message = "%d rows of the journal, of tenant %s, are recorded trace by trace: %s: %s"
        log.warning(message, len(rows), tenant, type(error).__name__, error)
        recorded = Recorded()
        for row in rows:
            recorded = recorded.plus(await self._record_row(tenant, row))
        return self._with_losses(recorded)

    async def _record_row(self, tenant: str, row: _Row) -> Recorded:
        recorded = Recorded()
        for positions, touched in batches.parts(row.placed, 0):
            recorded = recorded.plus(await self._record_trace([row.placed[i] for i in positions], touched))
        await self._run(lambda c: c.execute(_DELETE, tenant, [row.id]))
        return recorded

    async def _record_trace(self, placed: Sequence[Placed], touched: set[bytes]) -> Recorded:
        """Record a trace.

        `quarantine` keeps all of it when it takes too long, else the refused observations.
        """
        sources = [p.source for p in placed]
        trace = (sources[0].tenant, sources[0].trace_id)
        most = self.batch_budget if trace in self._slow else self.trace_budget
        try:
            try:
                recorded = await self._widening(
                    lambda c, locked: self._take(c, placed, locked, most, asks_all=True), touched
                )
            except Exception as error:
                if not is_of_data(error):
                    raise
                given = list(placed)
                recorded = await self._widening(
                    lambda c, locked: self._bisect(c, sources, lambda first, end, _: given[first:end], locked, most),
                    touched,
                )
            return recorded.plus(await self._record(recorded.owed, most)) if recorded.owed else recorded
        except OverBudget as error:
            return await self._set_aside(trace, sources, error)
        except (SpanpostError, MemoryError):
            raise
        except Exception as error:  # a bug in spanpost: other traces must not wait for this one
            log.exception(
                "trace %s of tenant %s cannot be recorded and is kept in quarantine", trace[1].hex(), trace[0]
            )
            rows = list(discarded(sources, error))
            await self._run(lambda c: set_aside(c, rows))
            return Recorded(lost={UNFOLDABLE: len(sources)})


def _unpacked(id: int, body: bytes) -> _Row | Exception:
    try:
        placed = unpack(body)
        return _Row(id, placed, batches.domains(placed))
    except Exception as error:  # whatever a damaged row holds
        return error


def _fitting(rows: Sequence[Any], most: int) -> list[Any]:
    """Return the first rows that may be recorded together, at least one."""
    left = _AT_ONCE
    for i, row in enumerate(rows):
        most -= row["observations"]
        left -= row["domains"]
        if i and (most < 0 or left < 0):
            return list(rows[:i])
    return list(rows)


def _rows(entries: Sequence[tuple[str, Sequence[Observation]]], prepared: Mapping[int, list[Placed]]) -> list[_New]:
    """Return the rows to append. Entries of one tenant are packed together."""
    of: dict[str, list[Placed]] = {}
    for i, placed in prepared.items():
        of.setdefault(entries[i][0], []).extend(placed)
    return [
        _New(tenant, len(part), domains, pack(part))
        for tenant, placed in of.items()
        if placed
        for part, domains in _cut(placed)
    ]


def _cut(placed: Sequence[Placed]) -> Iterator[tuple[Sequence[Placed], int]]:
    """Yield the observations of each row of one tenant and the number of their domains.

    Split only between traces.
    """
    touched = batches.domains(placed)
    if len(touched) <= _AT_ONCE:
        yield placed, len(touched)
        return
    for positions, touched in batches.parts(placed, _AT_ONCE):
        yield [placed[i] for i in positions], len(touched)
