"""Two stores, one behaviour: memory and PostgreSQL pass the same suites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_acts import ExerciseActs
from spanpost.testing.exercise_again import ExerciseAgain
from spanpost.testing.exercise_alert_acts import ExerciseAlertActs
from spanpost.testing.exercise_alerts import ExerciseAlerts
from spanpost.testing.exercise_answers import ExerciseAnswers
from spanpost.testing.exercise_browse import ExerciseBrowse
from spanpost.testing.exercise_budgets import ExerciseSpend
from spanpost.testing.exercise_chains import ExerciseChains
from spanpost.testing.exercise_costs import ExerciseCosts
from spanpost.testing.exercise_deliveries import ExerciseDeliveries
from spanpost.testing.exercise_evaluations import ExerciseEvaluations
from spanpost.testing.exercise_held import ExerciseHeld
from spanpost.testing.exercise_installations import ExerciseInstallations
from spanpost.testing.exercise_limits import ExerciseLimits
from spanpost.testing.exercise_loops import ExerciseLoops
from spanpost.testing.exercise_orders import ExerciseOrders
from spanpost.testing.exercise_pacing import ExercisePacing
from spanpost.testing.exercise_people import ExercisePeople
from spanpost.testing.exercise_questions import ExerciseQuestions
from spanpost.testing.exercise_reconciling import ExerciseReconciling
from spanpost.testing.exercise_redaction import ExerciseRedaction
from spanpost.testing.exercise_runs import ExerciseRuns
from spanpost.testing.exercise_several import ExerciseSeveral
from spanpost.testing.exercise_stall import ExerciseStall
from spanpost.testing.exercise_standing import ExerciseStanding
from spanpost.testing.exercise_store import ROUTED_RULES, ExerciseStore, MakeStore
from spanpost.testing.exercise_summaries import ExerciseSummaries
from spanpost.testing.exercise_takeovers import ExerciseTakeovers
from spanpost.testing.exercise_tenant_totals import ExerciseTenantTotals
from spanpost.testing.exercise_waterfalls import ExerciseWaterfalls
from spanpost.testing.exercise_withdrawal import ExerciseWithdrawal
from spanpost.testing.postgres import as_role, with_database
from tests.conftest import WRITER
from tests.store import contents

#: Dates everything stored a quarter of an hour back, except claims.
_OLDER = [
    "UPDATE agent_tasks SET last_seen_at = last_seen_at - $1::interval",
    "UPDATE rate_limits SET at = at - $1::interval, blocked_until = blocked_until - $1::interval,"
    " window_at = window_at - $1::interval, probe_until = probe_until - $1::interval",
    "UPDATE ordering_keys SET due_at = due_at - $1::interval, lease_until = lease_until - $1::interval",
    "UPDATE timers SET at = at - $1::interval",
    "UPDATE budget_reservations SET expires_at = expires_at - $1::interval",
    "UPDATE approvals SET expires_at = expires_at - $1::interval",
    "UPDATE standing_approvals SET expires_at = expires_at - $1::interval",
    "UPDATE slack_installations SET refreshing_until = refreshing_until - $1::interval",
    "UPDATE deliveries SET not_before = not_before - $1::interval, lease_until = lease_until - $1::interval",
]


class Everything(
    ExerciseStore,
    ExerciseActs,
    ExerciseAlertActs,
    ExerciseAlerts,
    ExerciseAnswers,
    ExerciseBrowse,
    ExerciseChains,
    ExerciseCosts,
    ExerciseDeliveries,
    ExerciseEvaluations,
    ExerciseHeld,
    ExerciseInstallations,
    ExerciseLoops,
    ExerciseTakeovers,
    ExerciseOrders,
    ExercisePacing,
    ExercisePeople,
    ExerciseQuestions,
    ExerciseReconciling,
    ExerciseRedaction,
    ExerciseRuns,
    ExerciseSeveral,
    ExerciseStall,
    ExerciseLimits,
    ExerciseSpend,
    ExerciseStanding,
    ExerciseSummaries,
    ExerciseTenantTotals,
    ExerciseAgain,
    ExerciseWaterfalls,
    ExerciseWithdrawal,
):
    """All suites."""


class TestMemory(Everything):
    """The store that keeps everything in memory."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        self.ahead = timedelta()

        async def make(rules: FoldRules = ROUTED_RULES, lease: timedelta = timedelta(seconds=60)) -> MemoryStore:
            return MemoryStore(rules, lease=lease, clock=lambda: datetime.now(UTC) + self.ahead)

        return make

    async def pass_time(self, store: object, seconds: float) -> None:
        """Put the store's clock forward."""
        self.ahead += timedelta(seconds=seconds)

    async def hang_below(self, store: MemoryStore, child: UUID, parent: UUID) -> None:
        """Write a task below another one, past all checks."""
        tasks = store.reader._tables.tasks
        tasks[child] = msgspec.structs.replace(tasks[child], parent_uid=parent)

    async def everything(self, store: MemoryStore) -> str:
        """Return the texts of every object."""
        return "\n".join(contents.texts(store))


@pytest.mark.acceptance
class TestPostgres(Everything):
    """The store in PostgreSQL, on the system's server and on the embedded one, with a gateway's rights and no more."""

    @pytest.fixture
    async def make_store(self, postgres_dsn: str) -> AsyncIterator[MakeStore]:
        import asyncpg

        made: list[PostgresStore] = []

        async def make(rules: FoldRules = ROUTED_RULES, lease: timedelta = timedelta(seconds=60)) -> PostgresStore:
            dsn = postgres_dsn
            if made:  # a second store of one test is another, empty one
                connection = await asyncpg.connect(postgres_dsn)
                name = await connection.fetchval("SELECT current_database()") + f"_{len(made)}"
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE made")
                await connection.close()
                dsn = with_database(postgres_dsn, name)
            self.owner_dsn = dsn
            store = PostgresStore(as_role(dsn, WRITER), rules=rules, lease=lease, pool_size=2)
            await store.open()
            made.append(store)
            return store

        self.others = made
        yield make
        await asyncio.gather(*(store.close() for store in made))

    async def another(self, store: PostgresStore) -> PostgresStore:
        """Open another store on the same database."""
        other = PostgresStore(store._dsn, rules=store.rules, pool_size=2)
        await other.open()
        self.others.append(other)
        return other

    async def pass_time(self, store: PostgresStore, seconds: float) -> None:
        """Date stored rows back: the database's clock cannot be set."""
        async with store._pool.acquire() as connection:
            for statement in _OLDER:
                await connection.execute(statement, timedelta(seconds=seconds))

    async def hang_below(self, store: PostgresStore, child: UUID, parent: UUID) -> None:
        """Write a task below another one, past all checks."""
        async with store._pool.acquire() as connection:
            await connection.execute("UPDATE agent_tasks SET parent_uid = $2 WHERE uid = $1", child, parent)

    async def everything(self, store: PostgresStore) -> str:
        """Return every value of every table, read by the owner."""
        import asyncpg

        connection = await asyncpg.connect(self.owner_dsn)
        try:
            return "\n".join([text async for _, text in contents.columns(connection)])
        finally:
            await connection.close()
