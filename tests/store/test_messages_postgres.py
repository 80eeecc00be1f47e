"""Messages that move between tasks, in PostgreSQL: the property of `tests/tasks/test_messages.py` on a few
histories.
"""

from __future__ import annotations

import os
from datetime import timedelta
from random import Random

import msgspec
import pytest

from spanpost.model.queries import TaskQuery
from spanpost.store.postgres import PostgresStore
from spanpost.tasks import batches
from spanpost.tasks.folded import Placed
from tests.tasks.histories import history, placed, resumptions
from tests.tasks.posting import RULES, SINKS, FarSide, faults, torn

pytestmark = pytest.mark.acceptance

#: Seeds tried, by two histories each (about a second for both), and the first of them.
SEEDS = int(os.environ.get("SPANPOST_POSTED") or 2)
FIRST = int(os.environ.get("SPANPOST_POSTED_FROM") or 0)
_AT_ONCE = msgspec.structs.replace(RULES, announce_delay=timedelta(0), usage_delay=timedelta(0))


def _of(tenant: str, batch: list[Placed]) -> list[Placed]:
    return [placed(msgspec.structs.replace(p.observation, tenant=tenant), p.reading) for p in batch]


class _Carried:
    """A store whose deliveries go to a remote side, in between the observations of a history."""

    def __init__(self, store: PostgresStore, random: Random) -> None:
        self.store = store
        self.random = random
        self.far = FarSide(random)

    async def _answer_claimed(self) -> None:
        held, self.far.held = self.far.held, []
        for delivery in held:
            await self.store.outbox.finish(delivery, self.far.answer(delivery))

    async def take(self, batch: list[Placed]) -> None:
        for part in torn(batch, self.random):
            await self.store._record_at_once([p.observation for p in part], part, batches.domains(part), 60.0)
            if self.random.random() < 0.5:
                await self.store.elapse()
            await self._answer_claimed()
            for _ in range(self.random.randrange(4)):
                for delivery in await self.store.outbox.claim(SINKS, 2):
                    if not self.far.holds(delivery):
                        await self.store.outbox.finish(delivery, self.far.answer(delivery))

    async def finish(self) -> None:
        for _ in range(3):
            await self.store.elapse()
            await self._answer_claimed()
            while claimed := await self.store.outbox.claim(SINKS, 50):
                for delivery in claimed:
                    await self.store.outbox.finish(delivery, self.far.answer(delivery, is_sure=True))


@pytest.mark.proves("one-message", "random-orders")
async def test_torn_histories_leave_true_messages(postgres_dsn: str) -> None:
    """With any delays each message shows its task or successor, and each checkpoint is reported once."""
    store = PostgresStore(postgres_dsn, rules=_AT_ONCE, pool_size=2)
    await store.open()
    try:
        carried = _Carried(store, Random(FIRST))
        for seed in range(FIRST, FIRST + SEEDS):
            for make in (history, resumptions):
                await carried.take(_of(f"{make.__name__}-{seed}", make(Random(seed))))
        await carried.finish()
        tasks = {t.uid: t for t in await store.tasks(TaskQuery(limit=10_000))}
        checkpoints = await store.reader.checkpoints(limit=100_000)
        left = [row for row in await store.outbox.deliveries(limit=100_000) if row.state != "delivered"]
        assert faults(carried.far, tasks, checkpoints, left, _AT_ONCE.routes) == []
        assert sum(shown.has_moved for shown in carried.far.stands.values()) > 1
    finally:
        await store.close()
