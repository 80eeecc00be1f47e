"""Two ledgers, one behaviour: memory and PostgreSQL pass the same suites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from spanpost.fold.batch import Rules
from spanpost.ledger.memory import MemoryLedger
from spanpost.ledger.postgres import PostgresLedger
from spanpost.testing.exercise_again import ExerciseAgain
from spanpost.testing.exercise_alerts import ExerciseAlerts
from spanpost.testing.exercise_answers import ExerciseAnswers
from spanpost.testing.exercise_browse import ExerciseBrowse
from spanpost.testing.exercise_installations import ExerciseInstallations
from spanpost.testing.exercise_ledger import TELLING, ExerciseLedger, MakeLedger
from spanpost.testing.exercise_left import ExerciseLeft
from spanpost.testing.exercise_orders import ExerciseOrders
from spanpost.testing.exercise_pacing import ExercisePacing
from spanpost.testing.exercise_people import ExercisePeople
from spanpost.testing.exercise_runs import ExerciseRuns
from spanpost.testing.exercise_silence import ExerciseSilence
from spanpost.testing.exercise_spend import ExerciseSpend
from spanpost.testing.exercise_summaries import ExerciseSummaries
from spanpost.testing.postgres import as_role, with_database
from tests.conftest import WRITER

#: A quarter of an hour later for all that is kept, who claimed what when excepted.
_OLDER = [
    "UPDATE buckets SET at = at - $1::interval, blocked_until = blocked_until - $1::interval,"
    " window_at = window_at - $1::interval, probe_until = probe_until - $1::interval",
    "UPDATE lanes SET due_at = due_at - $1::interval, lease_until = lease_until - $1::interval",
    "UPDATE timers SET at = at - $1::interval",
    "UPDATE approvals SET expires_at = expires_at - $1::interval",
    "UPDATE slack_installations SET refreshing_until = refreshing_until - $1::interval",
    "UPDATE deliveries SET not_before = not_before - $1::interval, lease_until = lease_until - $1::interval",
]


class Everything(
    ExerciseLedger,
    ExerciseAlerts,
    ExerciseAnswers,
    ExerciseBrowse,
    ExerciseInstallations,
    ExerciseLeft,
    ExerciseOrders,
    ExercisePacing,
    ExercisePeople,
    ExerciseRuns,
    ExerciseSilence,
    ExerciseSpend,
    ExerciseSummaries,
    ExerciseAgain,
):
    """All suites."""


class TestMemory(Everything):
    """The ledger that keeps everything in memory."""

    @pytest.fixture
    def make_ledger(self) -> MakeLedger:
        self.ahead = timedelta()

        async def make(rules: Rules = TELLING, lease: timedelta = timedelta(seconds=60)) -> MemoryLedger:
            return MemoryLedger(rules, lease=lease, clock=lambda: datetime.now(UTC) + self.ahead)

        return make

    async def pass_time(self, ledger: object, seconds: float) -> None:
        """Put the ledger's clock forward."""
        self.ahead += timedelta(seconds=seconds)


@pytest.mark.acceptance
class TestPostgres(Everything):
    """The ledger in PostgreSQL, on the system's server and on the embedded one, with a gateway's rights and no more."""

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
            ledger = PostgresLedger(as_role(dsn, WRITER), rules=rules, lease=lease, pool_size=2)
            await ledger.open()
            made.append(ledger)
            return ledger

        self.others = made
        yield make
        await asyncio.gather(*(ledger.close() for ledger in made))

    async def another(self, ledger: PostgresLedger) -> PostgresLedger:
        """Open another ledger on the same database."""
        other = PostgresLedger(ledger._dsn, rules=ledger.rules, pool_size=2)
        await other.open()
        self.others.append(other)
        return other

    async def pass_time(self, ledger: PostgresLedger, seconds: float) -> None:
        """Make older what is kept: the database's clock cannot be set."""
        async with ledger._pool.acquire() as connection:
            for statement in _OLDER:
                await connection.execute(statement, timedelta(seconds=seconds))
