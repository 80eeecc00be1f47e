"""The part of the Postgres store that records observations.

A batch is one transaction unless another process is recording some of its traces. Observations that the
database refuses go to quarantine.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import asyncpg

from spanpost.model.errors import OverBudget, SpanpostError
from spanpost.model.observations import Observation
from spanpost.model.recorded import OVER_BUDGET, UNFOLDABLE, Recorded
from spanpost.store import faults, heartbeats
from spanpost.store.fold_threads import TimeMeter
from spanpost.store.folding import Folding, Wider
from spanpost.store.locks import FINE, is_few, lock_free
from spanpost.store.quarantine import discard, discard_body, discarded, mended, set_aside
from spanpost.store.transactions import Unfoldable, is_of_data, unfoldable
from spanpost.tasks import batches
from spanpost.tasks.folded import Placed
from spanpost.tasks.stall import without_beats
from spanpost.text.content import without_content

log = logging.getLogger(__name__)

#: Domains of one transaction when a batch touches too many for fine locks; leaves some for domains found
#: later.
_AT_ONCE = FINE * 3 // 4


#: A tenant and a trace id.
Trace = tuple[str, bytes]
#: Positions in a batch, and the domains that these observations touch.
Part = tuple[list[int], set[bytes]]
#: How many traces that took too long are remembered.
_SLOW = 1000


class Recording(Folding):
    """The recording methods of `PostgresStore`."""

    #: Seconds of processor time that one transaction with several traces may take.
    batch_budget: float
    _slow: dict[Trace, None]

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Record a batch. See `Store.record`.

        When a value is refused, the batch is repaired and bisected: the refused observation goes to
        `quarantine` and the others are recorded, all in one transaction. A batch of very many traces takes
        several transactions; when a later one fails and the caller tries again, the observations recorded
        before are duplicates.

        A batch that takes longer than `batch_budget` is recorded trace by trace, the smallest first. A trace
        that takes longer than `trace_budget` goes to `quarantine`. With `is_whole` the batch raises
        `OverBudget` instead.
        """
        batch, beats = without_beats(batch)
        recorded = await self._record(batch, self.batch_budget) if is_whole else await self._record_all(batch)
        recorded = self._with_losses(recorded)
        return recorded.plus(await self._record_beats(beats)) if beats else recorded

    def _with_losses(self, recorded: Recorded) -> Recorded:
        """Add the faults met and the secrets redacted since the last call."""
        dropped = faults.losses()
        redacted = redaction.found() if (redaction := self.redaction) is not None else {}
        return recorded.plus(Recorded(dropped=dropped, redacted=redacted)) if dropped or redacted else recorded

    def _clean(self, o: Observation) -> Observation:
        return o if (redaction := self.redaction) is None else redaction.clean(o)

    def _clean_text(self, tenant: str, text: str) -> str:
        return text if (redaction := self.redaction) is None else redaction.of(tenant).text(text)

    async def _record_all(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch; in parts if it takes too long.

        A trace that takes too long by itself goes to quarantine.
        """
        traces: dict[Trace, list[Observation]] = {}
        for o in batch:
            traces.setdefault((o.tenant, o.trace_id), []).append(o)
        if len(traces) > 1:
            with contextlib.suppress(OverBudget):
                return await self._record(batch, self.batch_budget)
        recorded = Recorded()
        for trace, part in sorted(traces.items(), key=lambda item: len(item[1])):
            # A trace that was slow before gets less time, so that more of it does not cost as much each time.
            most = self.batch_budget if trace in self._slow else self.trace_budget
            try:
                recorded = recorded.plus(await self._record(part, most))
            except OverBudget as error:
                recorded = recorded.plus(await self._set_aside(trace, part, error))
        return recorded

    async def _set_aside(self, trace: Trace, part: Sequence[Observation], error: OverBudget) -> Recorded:
        self._slow[trace] = None
        if len(self._slow) > _SLOW:
            del self._slow[next(iter(self._slow))]
        log.error(
            "%d observations of tenant %s, trace %s, are kept in quarantine, and their sender is told not to repeat"
            " them: %s",
            len(part), trace[0], trace[1].hex(), error,
        )  # fmt: skip
        await self.quarantine(part, error)
        return Recorded(dropped={OVER_BUDGET: len(part)})

    async def quarantine(self, batch: Sequence[Observation], error: Exception) -> None:
        """Keep observations that cannot be recorded, with the error."""
        kept = map(self._clean, batch if self.rules.keeps_content else map(without_content, batch))
        rows = await self._threads.run(TimeMeter(math.inf), lambda: list(discarded(kept, error, self._clean_text)))
        await self.run(lambda c: set_aside(c, rows))

    async def record_apart(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch in as many transactions as it takes.

        A trace that takes too long, or that cannot be recorded, is kept in `quarantine`.
        """
        try:
            return await self._record_all(batch)
        except (SpanpostError, MemoryError):
            raise
        except Exception:
            traces: dict[Trace, list[Observation]] = {}
            for o in batch:
                traces.setdefault((o.tenant, o.trace_id), []).append(o)
        recorded = Recorded()
        for part in traces.values():
            recorded = recorded.plus(await self._record_trace(part))
        return recorded

    async def _record_trace(self, batch: Sequence[Observation]) -> Recorded:
        """Record a trace; after a bug in spanpost all of it is kept in `quarantine`, so that no other waits
        for it.
        """
        try:
            return await self._record_all(batch)
        except (SpanpostError, MemoryError):
            raise
        except Exception as error:
            message = "trace %s of tenant %s cannot be recorded and is kept in quarantine"
            log.exception(message, batch[0].trace_id.hex(), batch[0].tenant)
            await self.quarantine(batch, error)
            return Recorded(dropped={UNFOLDABLE: len(batch)})

    async def _record(self, batch: Sequence[Observation], most: float | None = None) -> Recorded:
        """Record a batch, each transaction within `most` seconds of processor time. Raises `OverBudget`."""
        if not batch:
            return Recorded()
        await self._sets.learn(self.run)
        recorded = await self._record_parts(batch, most or self.trace_budget)
        return recorded.plus(await self._record(recorded.owed, most)) if recorded.owed else recorded

    def _prepared(self, batch: Sequence[Observation], meter: TimeMeter) -> tuple[list[Placed], set[bytes]]:
        rules = self.rules
        with unfoldable():
            placed = batches.prepare(
                batch,
                keeps_content=rules.keeps_content,
                prices=rules.prices,
                redaction=self.redaction,
                key=self._key if self.rules.loops.enabled else None,
                tick=meter.tick,
            )
            return placed, batches.domains(placed)

    async def _record_parts(self, batch: Sequence[Observation], most: float) -> Recorded:
        try:
            meter = TimeMeter(most)
            placed, domains = await self._threads.run(meter, lambda: self._prepared(batch, meter))
        except Exception as error:
            return await self._mend(batch, error, most)
        if is_few(domains):
            return await self._record_at_once(batch, placed, domains, most)
        # Coarse locks on so many domains would keep all other transactions of the tenant waiting.
        return await self._record_one_by_one(batch, placed, batches.parts(placed, _AT_ONCE), most)

    async def _record_one_by_one(
        self, batch: Sequence[Observation], placed: Sequence[Placed], parts: Sequence[Part], most: float
    ) -> Recorded:
        recorded = Recorded()
        for part, touched in parts:
            given = [placed[i] for i in part]
            recorded = recorded.plus(await self._record_at_once([batch[i] for i in part], given, touched, most))
        return recorded

    async def _record_at_once(
        self, batch: Sequence[Observation], placed: Sequence[Placed], domains: set[bytes], most: float
    ) -> Recorded:
        """Record the traces that no other transaction holds, then the others in a second transaction.

        This way a batch does not hold all of its locks while it waits for the one trace that another process
        records.
        """
        if not is_few(domains):
            return await self._record_in_turn(batch, placed, domains, most)
        try:
            recorded, held, touched = await self.run(partial(self._take_free, placed, domains, most))
        except Wider as wider:
            parts = batches.parts(placed, 0) if not is_few(domains | wider.domains) else []
            if len(parts) > 1:  # one trace touches very many domains: only that trace takes its tenant's lock
                return await self._record_one_by_one(batch, placed, parts, most)
            return await self._record_in_turn(batch, placed, domains | wider.domains, most)
        except asyncpg.UniqueViolationError:
            return await self._record_in_turn(batch, placed, domains, most)
        except Exception as error:
            return await self._mend(batch, error, most)
        if held:
            left = [placed[i] for i in held]
            recorded = recorded.plus(await self._record_in_turn([batch[i] for i in held], left, touched, most))
        return recorded

    async def _record_in_turn(
        self, batch: Sequence[Observation], placed: Sequence[Placed], domains: set[bytes], most: float
    ) -> Recorded:
        try:
            try:
                return await self.widening(lambda c, locked: self._take(c, placed, locked, most), domains)
            except asyncpg.UniqueViolationError:
                return await self.widening(
                    lambda c, locked: self._take(c, placed, locked, most, asks_all=True), domains
                )
        except Exception as error:
            return await self._mend(batch, error, most)

    async def _take_free(
        self, placed: Sequence[Placed], domains: set[bytes], most: float, connection: Any
    ) -> tuple[Recorded, list[int], set[bytes]]:
        """Record the traces that no other transaction holds.

        Return the others' positions and their domains.
        """
        now, taken = await lock_free(connection, domains)
        held, touched = list[int](), set[bytes]()
        if taken:
            (free, domains), (held, touched) = batches.apart(placed, taken)
            placed = [placed[i] for i in free]
        if not placed:
            return Recorded(), held, touched
        meter = TimeMeter(most)
        recorded = await self.take_locked(
            connection, placed, set(domains), now, asks_all=False, touched=domains, meter=meter
        )
        return recorded, held, touched

    async def _take(
        self, connection: Any, placed: Sequence[Placed], locked: set[bytes], most: float, *, asks_all: bool = False
    ) -> Recorded:
        now = await self.lock(connection, locked)
        meter = TimeMeter(most)
        return await self.take_locked(connection, placed, locked, now, asks_all=asks_all, touched=locked, meter=meter)

    async def _mend(self, batch: Sequence[Observation], error: Exception, most: float) -> Recorded:
        if not is_of_data(error):
            raise error
        log.warning("a batch of %d observations is repaired and bisected: %s", len(batch), error)
        if isinstance(error, Unfoldable):
            faults.tell(error)
        meter = TimeMeter(most)
        kept, known = await self._threads.run(meter, lambda: self._mended(batch, meter))

        def prepared(first: int, end: int, meter: TimeMeter) -> list[Placed]:
            return self._prepared(kept[first:end], meter)[0]

        return await self.widening(lambda c, locked: self._bisect(c, batch, prepared, locked, most), known)

    def _mended(self, batch: Sequence[Observation], meter: TimeMeter) -> tuple[list[Observation], set[bytes]]:
        kept = [mended(o) for o in batch]
        known: set[bytes] = set()
        for o in kept:
            with contextlib.suppress(Exception):
                known |= self._prepared([o], meter)[1]
        return kept, known

    async def _bisect(
        self,
        connection: Any,
        batch: Sequence[Observation],
        prepared: Callable[[int, int, TimeMeter], list[Placed]],
        locked: set[bytes],
        most: float,
    ) -> Recorded:
        """Record a batch without the observations that are refused.

        `prepared(first, end, meter)` reads a range of it.
        """
        now = await self.lock(connection, locked)
        meter = TimeMeter(most)
        total = Recorded()
        waiting = [(0, len(batch))]
        while waiting:
            first, end = waiting.pop()
            try:
                placed = await self._threads.run(meter, partial(prepared, first, end, meter))
                async with connection.transaction():
                    # A copy: locks taken within are released when the part is rolled back.
                    part = await self.take_locked(connection, placed, set(locked), now, asks_all=True, meter=meter)
            except Exception as error:
                if not is_of_data(error):
                    raise
                if end - first > 1:
                    middle = (first + end) // 2
                    waiting += [(middle, end), (first, middle)]
                else:
                    await discard(connection, self._clean(batch[first]), error, self._clean_text)
                    total.dropped = dict(Counter(total.dropped) + Counter({UNFOLDABLE: 1}))
                continue
            total = total.plus(part)
        return total

    async def _record_beats(self, beats: Sequence[Observation]) -> Recorded:
        """Record heartbeats; tasks that were interrupted are resumed when their process sends again."""
        try:
            back = await self.run(
                lambda c: heartbeats.record(c, [mended(beat) for beat in beats], self.rules.stall_rules)
            )
        except Exception as error:
            if not is_of_data(error):
                raise
            log.warning("%d heartbeats cannot be recorded: %s", len(beats), error)
            return Recorded(dropped={UNFOLDABLE: len(beats)})
        return await self._record_all(back) if back else Recorded()

    async def keep_body(self, tenant: str, source: str, error: str, body: bytes) -> None:
        """Keep a body that the receiver could not decode in `quarantine`.

        The same bytes again count as one more attempt.
        """
        error = self._clean_text(tenant, error)
        if (redaction := self.redaction) is not None:
            body = redaction.body(tenant, body)
        await self.run(lambda c: discard_body(c, tenant, source, error, body))
