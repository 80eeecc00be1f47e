"""The journal of the Postgres store: request bodies that are durable but not recorded yet.

Rules.
1. The store sees encrypted bodies only. An `Opener` decrypts and decodes them when they are recorded. Rows of
   keys that it does not have are left to others.
2. A row is locked (`FOR UPDATE SKIP LOCKED`) by the transaction that records it, and deleted by the same
   transaction. After a kill at any moment the row is there, or all of its observations are recorded.
3. A row that cannot be recorded that way (it takes too long, has traces for several transactions, or a value
   is refused) is recorded by itself (`Recording.record`), and the refused observations are kept in
   `quarantine`. The row is deleted last: after a kill, observations that were recorded before are recognised
   as duplicates by their keys.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import asyncpg

from spanpost.model.errors import SpanpostError
from spanpost.model.journal import Backlog, JournalRow, Opened
from spanpost.model.observations import Observation
from spanpost.model.recorded import UNFOLDABLE, Recorded
from spanpost.store.fold_threads import TimeMeter
from spanpost.store.folding import Wider
from spanpost.store.locks import is_few, lock_free
from spanpost.store.quarantine import discard_body
from spanpost.store.recording import Recording
from spanpost.store.transactions import Unfoldable
from spanpost.tasks.folded import Placed
from spanpost.tasks.stall import without_beats

log = logging.getLogger(__name__)

#: Most rows of one transaction, and the observations a row is assumed to hold before the first was read.
_ROWS, _PER_ROW = 256, 512.0
#: Bytes of the rows of one transaction, compressed as well as decoded; the last one may exceed them.
_BYTES = 4 * 1024 * 1024
#: After so many failures for want of memory, a second apart, a row is set aside: it would hold up its tenant.
_STARVED = 30
#: Weight of a row's observations in the moving average `_per_row`.
_RECENT = 0.3

_APPEND = """
INSERT INTO journal (tenant, key, observations, body)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::int4[], $4::bytea[])"""
_TAKE = """
WITH held AS MATERIALIZED (
  SELECT id, key, observations, body FROM journal WHERE tenant = $1 AND key = ANY($3::bytea[])
  ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
), sized AS (SELECT *, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before FROM held)
SELECT id, key, observations, body FROM sized WHERE before < $4 ORDER BY id"""
_TAKE_THESE = "SELECT id FROM journal WHERE tenant = $1 AND id = ANY($2::int8[]) ORDER BY id FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM journal WHERE tenant = $1 AND id = ANY($2::int8[])"
_DEPTH = """
SELECT tenant, count(*)::int8 AS rows, sum(octet_length(body))::int8 AS size, sum(observations)::int8 AS observations,
  greatest(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 AS age,
  (count(*) FILTER (WHERE NOT is_own))::int8 AS undecryptable,
  coalesce(
    greatest(extract(epoch FROM clock_timestamp() - min(received_at) FILTER (WHERE is_own)), 0), 0
  )::float8 AS own_age
FROM journal CROSS JOIN LATERAL (SELECT $1::bytea[] IS NULL OR key = ANY($1::bytea[]) AS is_own) AS whose
GROUP BY tenant ORDER BY min(id)"""


class Opener(Protocol):
    """**Protocol:** decrypts and decodes rows; implemented by `spanpost.receivers.journal_bodies`."""

    @property
    def keys(self) -> Sequence[bytes]:
        """Ids of the keys that it has."""
        ...

    def open(self, tenant: str, key: bytes, body: bytes, /) -> Opened:
        """Return the contents of a row; raises ValueError if it is damaged."""
        ...

    def count(self, opened: Opened, /) -> None:
        """Count the elements left out of a row, once it is recorded."""
        ...


class _Row(NamedTuple):
    """A row that was decrypted and decoded; `batch` has no heartbeats."""

    id: int
    opened: Opened
    batch: Sequence[Observation]
    beats: Sequence[Observation]


class _Ready(NamedTuple):
    """A row that was read and redacted."""

    row: _Row
    placed: list[Placed]
    domains: set[bytes]


class _Taken:
    """Rows that a transaction has locked, and those of them that it records together."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.ready: list[_Ready] = []


class _Held(Exception):
    """Other transactions hold domains of all rows that were read: wait for these locks."""


class _Wide(Exception):
    """A row has traces for several transactions."""


async def depth(connection: Any, keys: Sequence[bytes] | None = None) -> list[Backlog]:
    """Return the backlog by tenant, the tenant with the oldest row first; `keys`: those that the gateway has."""
    return [Backlog(**dict(row)) for row in await connection.fetch(_DEPTH, keys)]


class Journaling(Recording):
    """The journal methods of `PostgresStore`."""

    #: Moving average of the observations of a row.
    _per_row = _PER_ROW
    #: How often there was not enough memory, by row.
    _starved: dict[int, int]
    _dsn: str

    @property
    def password(self) -> str:
        """Password of the database's role, which all gateways of a database have; empty: it has none."""
        return unquote(urlsplit(self._dsn).password or "") if "://" in self._dsn else ""

    async def append(self, rows: Sequence[JournalRow]) -> None:
        """Make rows durable, all or none."""
        values = [(row.tenant, row.key, row.observations, row.body) for row in rows]
        await self.run(lambda c: c.execute(_APPEND, *map(list, zip(*values, strict=True))))

    async def journal_depth(self, keys: Sequence[bytes] | None = None) -> list[Backlog]:
        """Return the backlog as `depth` does."""
        return await self.run(partial(depth, keys=keys))

    # --- recording ---------------------------------------------------------------------------------------------------

    async def record_journal(self, tenant: str, most: int, opener: Opener) -> Recorded | None:
        """Record about `most` observations of a tenant and delete their rows, in one transaction.

        None: all rows that are left are held by others. Raises `OverBudget` when it takes too long; then
        `record_journal_alone` records such a row trace by trace.
        """
        taken = _Taken()
        await self._sets.learn(self.run)
        try:
            recorded = await self.run(partial(self._record_free, tenant, most, opener, taken))
        except Wider as wider:
            more = wider.domains
        except (_Held, asyncpg.UniqueViolationError):
            more = set()
        except Exception as error:
            return await self._record_apart(tenant, opener, taken.rows, error)
        else:
            return None if recorded is None else await self._finished(recorded, taken, opener)
        try:
            domains = more.union(*(each.domains for each in taken.ready))
            recorded = await self.widening(partial(self._record_these, tenant, taken), domains)
        except Exception as error:
            return await self._record_apart(tenant, opener, taken.rows, error)
        return await self._finished(recorded, taken, opener)

    async def record_journal_alone(self, tenant: str, opener: Opener) -> Recorded | None:
        """Record a tenant's first row by itself, then delete it; None as in `record_journal`.

        A trace that takes too long by itself, or cannot be recorded, is kept in `quarantine`; and so is a row for which
        there was not enough memory `_STARVED` times.
        """
        try:
            return await self._record_alone(tenant, opener)
        except MemoryError:
            return await self.run(lambda c: self._starve(c, tenant, opener))

    async def _record_alone(self, tenant: str, opener: Opener) -> Recorded | None:
        rows, recorded = await self.run(lambda c: self._take_rows(c, tenant, 1, opener))
        if not rows:
            return self._with_losses(recorded) if recorded.dropped else None
        return recorded.plus(await self._record_row(tenant, opener, rows[0]))

    async def _starve(self, connection: Any, tenant: str, opener: Opener) -> Recorded:
        """Count that there was not enough memory for a tenant's first row. Raises MemoryError until it is set aside."""
        rows = await connection.fetch(_TAKE, tenant, 1, opener.keys, _BYTES)
        if not rows:
            return Recorded()
        [row] = rows
        self._starved[row["id"]] = self._starved.get(row["id"], 0) + 1
        if self._starved[row["id"]] < _STARVED:
            raise MemoryError(f"there is not enough memory for row {row['id']} of the journal")
        said = f"there was not enough memory for it {_STARVED} times; it is encrypted with key {row['key'].hex()}"
        log.error("row %d of the journal, of tenant %s, is kept in quarantine: %s", row["id"], tenant, said)
        await discard_body(connection, tenant, "journal", said, row["body"])
        await connection.execute(_DELETE, tenant, [row["id"]])
        self._starved.clear()  # its row is gone, and others may have been short of memory for its sake
        return Recorded(dropped={UNFOLDABLE: row["observations"]})

    async def _take_rows(self, connection: Any, tenant: str, most: int, opener: Opener) -> tuple[list[_Row], Recorded]:
        """Lock and open a tenant's first free rows, about `most` observations. A damaged row goes to
        `quarantine`.
        """
        limit = max(1, min(_ROWS, round(most / self._per_row)))
        found = _fitting(await connection.fetch(_TAKE, tenant, limit, opener.keys, _BYTES), most)
        for each in found:
            self._per_row += _RECENT * (each["observations"] - self._per_row)
        opened = await self._threads.run(TimeMeter(math.inf), lambda: _all_opened(tenant, found, opener, most))
        dropped = 0
        for row, result in zip(found, opened, strict=False):  # the others stay for the next transaction
            if isinstance(result, Exception):
                message = "row %d of the journal, of tenant %s, is damaged and is kept in quarantine: %s"
                log.error(message, row["id"], tenant, result)
                await discard_body(connection, tenant, "journal", str(result), row["body"])
                await connection.execute(_DELETE, tenant, [row["id"]])
                dropped += row["observations"]
        rows = [row for row in opened if not isinstance(row, Exception)]
        return rows, Recorded(dropped={UNFOLDABLE: dropped} if dropped else {})

    async def _record_free(
        self, tenant: str, most: int, opener: Opener, taken: _Taken, connection: Any
    ) -> Recorded | None:
        """Record a tenant's first rows, except rows with domains that another transaction has locked."""
        taken.rows, recorded = await self._take_rows(connection, tenant, most, opener)
        if not taken.rows:
            return recorded if recorded.dropped else None
        meter = TimeMeter(self.batch_budget)
        taken.ready = await self._threads.run(meter, partial(self._readied, taken, meter))
        domains = set[bytes]().union(*(each.domains for each in taken.ready))
        if not is_few(domains):
            raise _Wide
        now, others = await lock_free(connection, domains)
        free = [each for each in taken.ready if each.domains.isdisjoint(others)]
        if not free:
            raise _Held
        taken.ready = free
        return recorded.plus(
            await self._record_locked(connection, tenant, free, domains - others, now, checks_all=False)
        )

    def _readied(self, taken: _Taken, meter: TimeMeter) -> list[_Ready]:
        """Read and redact rows, as many as can be locked together, at least one.

        Where the first one fails, it is the only one that is left in `taken`.
        """
        ready, touched = list[_Ready](), set[bytes]()
        for row in taken.rows:
            try:
                placed, domains = self._prepared(row.batch, meter)
            except Unfoldable:
                if ready:
                    break
                taken.rows = [row]
                raise
            if ready and not is_few(touched | domains):
                break
            ready.append(_Ready(row, placed, domains))
            touched |= domains
        taken.rows = [each.row for each in ready]
        return ready

    async def _record_these(self, tenant: str, taken: _Taken, connection: Any, locked: set[bytes]) -> Recorded:
        """Record rows that were read before, unless another reader has recorded them meanwhile."""
        now = await self.lock(connection, locked)
        ids = [each.row.id for each in taken.ready]
        left = {row["id"] for row in await connection.fetch(_TAKE_THESE, tenant, ids)}
        taken.ready = [each for each in taken.ready if each.row.id in left]
        if not taken.ready:
            return Recorded()
        return await self._record_locked(connection, tenant, taken.ready, locked, now, checks_all=True)

    async def _record_locked(
        self,
        connection: Any,
        tenant: str,
        ready: Sequence[_Ready],
        locked: set[bytes],
        now: datetime,
        *,
        checks_all: bool,
    ) -> Recorded:
        """Record rows and delete them.

        `checks_all`: ask the audit rows about every observation, not only doubtful ones.
        """
        meter = TimeMeter(self.batch_budget)
        placed = [p for each in ready for p in each.placed]
        touched = set[bytes]().union(*(each.domains for each in ready))
        recorded = some = Recorded()
        if placed:
            recorded = some = await self.take_locked(
                connection, placed, locked, now, asks_all=checks_all, touched=touched, meter=meter
            )
        while some.owed:
            placed, touched = await self._threads.run(meter, partial(self._prepared, some.owed, meter))
            await self.lock_more(connection, locked, touched)
            some = await self.take_locked(connection, placed, locked, now, asks_all=True, meter=meter)
            recorded = recorded.plus(some)
        await self._delete(connection, tenant, [each.row for each in ready])
        return recorded

    async def _delete(self, connection: Any, tenant: str, rows: Sequence[_Row]) -> None:
        """Delete recorded rows. Their unreadable parts go to `quarantine`."""
        redaction = self.redaction
        for source, error, body in (each for row in rows for each in row.opened.unreadable):
            if redaction is not None:
                body, error = redaction.body(tenant, body), redaction.of(tenant).text(error)
            await discard_body(connection, tenant, source, error, body)
        await connection.execute(_DELETE, tenant, [row.id for row in rows])

    async def _finished(self, recorded: Recorded, taken: _Taken, opener: Opener) -> Recorded:
        """Count the elements left out of recorded rows, and record their heartbeats."""
        beats = [beat for each in taken.ready for beat in each.row.beats]
        for each in taken.ready:
            opener.count(each.row.opened)
        recorded = self._with_losses(recorded)
        return recorded.plus(await self._record_beats(beats)) if beats else recorded

    # --- one by one ---------------------------------------------------------------------------------------------------

    async def _record_apart(self, tenant: str, opener: Opener, rows: Sequence[_Row], error: Exception) -> Recorded:
        """Record rows one by one: they are too much for one transaction, a value was refused, or spanpost
        failed.
        """
        if isinstance(error, (SpanpostError, MemoryError)):
            raise error
        if not isinstance(error, _Wide):
            message = "%d rows of the journal, of tenant %s, are recorded one by one: %s: %s"
            log.warning(message, len(rows), tenant, type(error).__name__, error)
        recorded = Recorded()
        for row in rows:
            recorded = recorded.plus(await self._record_row(tenant, opener, row))
        return recorded

    async def _record_row(self, tenant: str, opener: Opener, row: _Row) -> Recorded:
        """Record a row in as many transactions as it takes, then delete it."""
        recorded = await self.record_apart(row.batch)
        await self.run(lambda c: self._delete(c, tenant, [row]))
        taken = _Taken()
        taken.ready = [_Ready(row, [], set())]
        return await self._finished(recorded, taken, opener)


def _all_opened(tenant: str, rows: Sequence[Any], opener: Opener, most: int) -> list[_Row | Exception]:
    """Open the first rows, at least one, until they hold `most` observations or `_BYTES`."""
    opened: list[_Row | Exception] = []
    size = 0
    for row in rows:
        opened.append(result := _opened(tenant, row, opener))
        if not isinstance(result, Exception):
            size += result.opened.size
            most -= len(result.batch)
            if size > _BYTES or most <= 0:
                break
    return opened


def _opened(tenant: str, row: Any, opener: Opener) -> _Row | Exception:
    try:
        opened = opener.open(tenant, row["key"], row["body"])
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged row holds
        return error
    return _Row(row["id"], opened, *without_beats(opened.observations))


def _fitting(rows: Sequence[Any], most: int) -> list[Any]:
    """Return the first rows that may be recorded together, at least one."""
    for i, row in enumerate(rows):
        most -= row["observations"]
        if i and most < 0:
            return list(rows[:i])
    return list(rows)
