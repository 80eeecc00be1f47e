"""Two ledgers, one behaviour: memory and PostgreSQL pass the same suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from spanpost.fold.batch import Rules
from spanpost.ledger.memory import MemoryLedger
from spanpost.ledger.postgres import PostgresLedger
from spanpost.testing.exercise_ledger import TELLING, ExerciseLedger, MakeLedger
from spanpost.testing.exercise_silence import ExerciseSilence
from spanpost.testing.postgres import with_database


class TestMemory(ExerciseLedger, ExerciseSilence):
    """The ledger that keeps everything in memory."""

    @pytest.fixture
    def make_ledger(self) -> MakeLedger:
        async def make(rules: Rules = TELLING, lease: timedelta = timedelta(seconds=60)) -> MemoryLedger:
            return MemoryLedger(rules, lease=lease)

        return make


@pytest.mark.acceptance
class TestPostgres(ExerciseLedger, ExerciseSilence):
    """The ledger in PostgreSQL, on the system's server and on the embedded one."""

    @pytest.fixture
    async def make_ledger(self, postgres_dsn: str) -> AsyncIterator[MakeLedger]:
        import asyncpg

        made: list[PostgresLedger] = []

        async def make(rules: Rules = TELLING, lease: timedelta = timedelta(seconds=60)) -> PostgresLedger:
            dsn = postgres_dsn
            if made:  # a second ledger of one test is another, empty one
                connection = await asyncpg.connect(postgres_dsn)
                name = await connection.fetchval("SELECT current_database()") + f"_{len(made)}"
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE made")
                await connection.close()
                dsn = with_database(postgres_dsn, name)
            ledger = PostgresLedger(dsn, rules=rules, lease=lease, pool_size=2)
            await ledger.open()
            made.append(ledger)
            return ledger

        yield make
        await asyncio.gather(*(ledger.close() for ledger in made))
