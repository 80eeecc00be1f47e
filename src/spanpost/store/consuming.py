"""The part of the Postgres store that records messages of Kafka, and keeps their offsets.

Rules.
1. One transaction records the observations of messages and moves the partition's offset past them. After a
   kill at any moment the offset stands before these messages, or all of their observations are recorded.
2. The transaction locks the offset's row first and compares it with the offset that the consumer expects.
   Two consumers that both believe to own a partition therefore never both record: the second one raises
   `OffsetMoved`, and nothing of its transaction stays.
3. Messages that cannot be recorded that way (they take too long, have traces for several transactions, or a
   value is refused) are recorded by `Recording.record_apart`, and the offset is moved last: after a kill,
   observations that were recorded before are recognised as duplicates by their keys.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from spanpost.model.consumption import ConsumedMessage, PartitionOffset
from spanpost.model.errors import OffsetMoved, OverBudget, SpanpostError
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.store.fold_threads import TimeMeter
from spanpost.store.locks import is_few
from spanpost.store.quarantine import discard_body
from spanpost.store.recording import Recording
from spanpost.tasks.folded import Placed
from spanpost.tasks.stall import without_beats

log = logging.getLogger(__name__)

_OFFSETS = """
SELECT topic, partition, next_offset FROM kafka_offsets
WHERE consumer_group = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int4[]))"""
_FIRST = """
INSERT INTO kafka_offsets (consumer_group, topic, partition, next_offset) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING true"""
_MOVE = """
UPDATE kafka_offsets SET next_offset = $4, moved_at = clock_timestamp()
WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $5 RETURNING true"""


class _Prepared(NamedTuple):
    """The first messages of a batch, as many as one transaction can lock; and their heartbeats."""

    messages: Sequence[ConsumedMessage]
    batch: list[Observation]
    placed: list[Placed]
    domains: set[bytes]
    beats: list[Observation]


class _Wide(Exception):
    """One message has traces for several transactions."""


class Consuming(Recording):
    """The methods of `PostgresStore` for a consumer of Kafka."""

    async def offsets(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the offsets of a group's partitions; a partition that was never read is left out."""
        topics, numbers = [topic for topic, _ in partitions], [number for _, number in partitions]
        rows = await self.run(lambda c: c.fetch(_OFFSETS, group, topics, numbers))
        return {(row[0], row[1]): row[2] for row in rows}

    async def record_consumed(self, at: PartitionOffset, messages: Sequence[ConsumedMessage]) -> tuple[Recorded, int]:
        """Record the first of a partition's messages, as many as one transaction can lock, at least one; return
        the offset after them.

        Raises `OffsetMoved` if the offset in the database is not `at.next`.
        """
        await self._sets.learn(self.run)
        meter = TimeMeter(self.batch_budget)
        taken: Sequence[ConsumedMessage] = messages
        try:
            ready = await self._threads.run(meter, partial(self._prepare_messages, messages, meter))
            taken = ready.messages
            recorded = await self._record_ready(at, ready)
            beats = ready.beats
        except Exception as error:
            if isinstance(error, (SpanpostError, MemoryError)) and not isinstance(error, OverBudget):
                raise
            if len(taken) > 1:  # the others are not held up by the one that fails
                return await self.record_consumed(at, taken[: len(taken) // 2])
            recorded, beats = await self._record_first(at, taken[0], error)
        recorded = self._with_losses(recorded)
        return recorded.plus(await self._record_beats(beats)) if beats else recorded, taken[-1].offset + 1

    def _prepare_messages(self, messages: Sequence[ConsumedMessage], meter: TimeMeter) -> _Prepared:
        """Read and redact the first messages."""
        ready = _Prepared([], [], [], set(), [])
        count = 0
        for message in messages:
            batch, beats = without_beats(message.observations)
            placed, domains = self._prepared(batch, meter)
            if not is_few(ready.domains | domains):
                if not count:
                    raise _Wide
                break
            count += 1
            ready.batch.extend(batch)
            ready.placed.extend(placed)
            ready.domains.update(domains)
            ready.beats.extend(beats)
        return ready._replace(messages=messages[:count])

    async def _record_ready(self, at: PartitionOffset, ready: _Prepared) -> Recorded:
        try:
            return await self.widening(partial(self._record_moving, at, ready, False), ready.domains)
        except asyncpg.UniqueViolationError:
            return await self.widening(partial(self._record_moving, at, ready, True), ready.domains)

    async def _record_moving(
        self, at: PartitionOffset, ready: _Prepared, asks_all: bool, connection: Any, locked: set[bytes]
    ) -> Recorded:
        """Record messages and move the offset, in one transaction."""
        now = await self.lock(connection, locked)
        await self._move(connection, at, ready.messages)
        meter = TimeMeter(self.batch_budget)
        recorded = some = Recorded()
        if ready.placed:
            recorded = some = await self.take_locked(
                connection, ready.placed, locked, now, asks_all=asks_all, touched=ready.domains, meter=meter
            )
        while some.owed:
            placed, touched = await self._threads.run(meter, partial(self._prepared, some.owed, meter))
            await self.lock_more(connection, locked, touched)
            some = await self.take_locked(connection, placed, locked, now, asks_all=True, meter=meter)
            recorded = recorded.plus(some)
        return recorded

    async def _move(self, connection: Any, at: PartitionOffset, messages: Sequence[ConsumedMessage]) -> None:
        """Move the offset past messages, and keep their unreadable parts in `quarantine`.

        Raises `OffsetMoved`.
        """
        whose, to = (at.group, at.topic, at.partition), messages[-1].offset + 1
        if at.next is None:
            is_moved = await connection.fetchval(_FIRST, *whose, to)
        else:
            is_moved = await connection.fetchval(_MOVE, *whose, to, at.next)
        if not is_moved:
            raise OffsetMoved(
                f"partition {at.partition} of topic {at.topic} is not at offset {at.next} any more in the database"
            )
        redaction = self.redaction
        for each in (each for message in messages for each in message.unreadable):
            body, error = each.body, each.error
            if redaction is not None:
                body, error = redaction.body(each.tenant, body), redaction.of(each.tenant).text(error)
            await discard_body(connection, each.tenant, f"kafka {at.topic}", error, body)

    async def _record_first(
        self, at: PartitionOffset, message: ConsumedMessage, error: Exception
    ) -> tuple[Recorded, list[Observation]]:
        """Record a message in as many transactions as it takes, and then move the offset."""
        if not isinstance(error, (_Wide, OverBudget)):
            log.warning(
                "message %d of partition %d of topic %s is recorded by itself: %s: %s",
                message.offset, at.partition, at.topic, type(error).__name__, error,
            )  # fmt: skip
        found = await self.offsets(at.group, [(at.topic, at.partition)])
        if found.get((at.topic, at.partition)) != at.next:
            raise OffsetMoved(f"partition {at.partition} of topic {at.topic} is read by another consumer")
        batch, beats = without_beats(message.observations)
        recorded = await self.record_apart(batch)
        await self.run(lambda c: self._move(c, at, [message]))
        return recorded, list(beats)
