"""The part of the Postgres ledger that records what is observed: a batch in one transaction, as far as nobody else is recording the
same traces, and whatever a database refuses set aside."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import asyncpg

from spanpost.domain.observations import Observation
from spanpost.domain.records import UNFOLDABLE, Recorded
from spanpost.fold import walk
from spanpost.fold.batch import Placed
from spanpost.fold.silence import without_beats
from spanpost.ledger import faults, hearing
from spanpost.ledger.folding import Folding, Wider
from spanpost.ledger.locks import FINE, lock_free
from spanpost.ledger.quarantine import bury, bury_body, mended
from spanpost.ledger.transactions import Unfoldable, is_of_data, unfoldable

log = logging.getLogger(__name__)

#: Domains of one transaction, where a batch touches too many for fine locks: with room for those that are found out later.
_AT_ONCE = FINE * 3 // 4


class Recording(Folding):
    """Recording, over the transactions of the ledger that this is a part of."""

    async def record(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch. See `Ledger.record`.

        When a value is refused, the batch is mended and bisected: the guilty observation is kept in `dead_letters`, its
        siblings are recorded, all in one transaction. A batch of very many traces is recorded in several, one after the other;
        when a later one fails, what was recorded before is met as repeats by whoever tries again.
        """
        batch, beats = without_beats(batch)
        recorded = await self._record(batch) if batch else Recorded()
        if recorded.owed:
            recorded = recorded.plus(await self._record(recorded.owed))
        lost = faults.losses()
        if lost:
            recorded = recorded.plus(Recorded(lost=lost))
        return recorded.plus(await self._hear(beats)) if beats else recorded

    async def _record(self, batch: Sequence[Observation]) -> Recorded:
        recorded = Recorded()
        try:
            with unfoldable():
                placed = walk.prepare(batch, keeps_content=self.rules.keeps_content, prices=self.rules.prices)
                domains = walk.domains(placed)
        except Exception as error:
            return await self._mend(batch, error)
        if len(domains) <= FINE:
            return await self._record_at_once(batch, placed, domains)
        # Locks on so many would keep everybody else waiting, whatever they touch: trace by trace is sooner done for all.
        for part, touched in walk.parts(placed, _AT_ONCE):
            given = [placed[i] for i in part]
            recorded = recorded.plus(await self._record_at_once([batch[i] for i in part], given, touched))
        return recorded

    async def _record_at_once(self, batch: Sequence[Observation], placed: Sequence[Placed], domains: set[bytes]) -> Recorded:
        """Record first what nobody else is recording just now, then, in a transaction of its own, the traces that others held.

        So a batch does not wait, with all that it holds itself, for the one trace of which somebody else was sent a part.
        """
        if len(domains) > FINE:
            return await self._record_in_turn(batch, placed, domains)
        try:
            recorded, held, touched = await self._run(partial(self._take_free, placed, domains))
        except Wider as wider:
            return await self._record_in_turn(batch, placed, domains | wider.domains)
        except asyncpg.UniqueViolationError:
            return await self._record_in_turn(batch, placed, domains)
        except Exception as error:
            return await self._mend(batch, error)
        if held:
            left = [placed[i] for i in held]
            recorded = recorded.plus(await self._record_in_turn([batch[i] for i in held], left, touched))
        return recorded

    async def _record_in_turn(self, batch: Sequence[Observation], placed: Sequence[Placed], domains: set[bytes]) -> Recorded:
        try:
            try:
                return await self._widening(lambda c, locked: self._take(c, placed, locked), domains)
            except asyncpg.UniqueViolationError:
                return await self._widening(lambda c, locked: self._take(c, placed, locked, asks_all=True), domains)
        except Exception as error:
            return await self._mend(batch, error)

    async def _take_free(
        self, placed: Sequence[Placed], domains: set[bytes], connection: Any
    ) -> tuple[Recorded, list[int], set[bytes]]:
        """Record the traces that nobody else holds; return the positions of the others, and the domains that those touch."""
        now, taken = await lock_free(connection, domains)
        held, touched = list[int](), set[bytes]()
        if taken:
            (free, domains), (held, touched) = walk.apart(placed, taken)
            placed = [placed[i] for i in free]
        if not placed:
            return Recorded(), held, touched
        recorded = await self._take_locked(connection, placed, set(domains), now, asks_all=False, touched=domains)
        return recorded, held, touched

    async def _take(self, connection: Any, placed: Sequence[Placed], locked: set[bytes], *, asks_all: bool = False) -> Recorded:
        now = await self._lock(connection, locked)
        return await self._take_locked(connection, placed, locked, now, asks_all=asks_all, touched=locked)

    async def _mend(self, batch: Sequence[Observation], error: Exception) -> Recorded:
        if not is_of_data(error):
            raise error
        log.warning("a batch of %d is mended and taken apart: %s", len(batch), error)
        if isinstance(error, Unfoldable):
            faults.tell(error)
        kept = [mended(o) for o in batch]
        known: set[bytes] = set()
        for o in kept:
            with contextlib.suppress(Exception):
                known |= walk.domains(walk.prepare([o], keeps_content=self.rules.keeps_content, prices=self.rules.prices))
        return await self._widening(lambda c, locked: self._bisect(c, batch, kept, locked), known)

    async def _bisect(
        self, connection: Any, batch: Sequence[Observation], kept: Sequence[Observation], locked: set[bytes]
    ) -> Recorded:
        now = await self._lock(connection, locked)
        total = Recorded()
        waiting = [(0, len(kept))]
        while waiting:
            first, end = waiting.pop()
            try:
                with unfoldable():
                    placed = walk.prepare(kept[first:end], keeps_content=self.rules.keeps_content, prices=self.rules.prices)
                async with connection.transaction():
                    # A copy: what is locked within goes when the part is rolled back.
                    part = await self._take_locked(connection, placed, set(locked), now, asks_all=True)
            except Exception as error:
                if not is_of_data(error):
                    raise
                if end - first > 1:
                    middle = (first + end) // 2
                    waiting += [(middle, end), (first, middle)]
                else:
                    await bury(connection, batch[first], error)
                    total.lost = dict(Counter(total.lost) + Counter({UNFOLDABLE: 1}))
                continue
            total = total.plus(part)
        return total

    async def _hear(self, beats: Sequence[Observation]) -> Recorded:
        """Take heartbeats in; what was interrupted of a process that is heard again is taken back."""
        try:
            back = await self._run(lambda c: hearing.hear(c, [mended(beat) for beat in beats], self.rules.patience))
        except Exception as error:
            if not is_of_data(error):
                raise
            log.warning("%d heartbeats are left out: %s", len(beats), error)
            return Recorded(lost={UNFOLDABLE: len(beats)})
        return await self._record(back) if back else Recorded()

    async def keep_body(self, tenant: str, source: str, error: str, body: bytes) -> None:
        """Keep a body that a door could not decode, in `dead_letters`. The same bytes again count on."""
        await self._run(lambda c: bury_body(c, tenant, source, error, body))
