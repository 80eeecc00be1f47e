"""Tests in every store of what tenants have stored and open."""

from __future__ import annotations

from datetime import timedelta

from spanpost.model.observations import Observation
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import ended, started

_SOON, _LATER = timedelta(hours=1), timedelta()


def an_open_task(trace: int, tenant: str) -> Observation:
    """Return a task's root span that has not ended."""
    said = {"agent.task.id": f"job-{trace}", "agent.task.name": "job"}
    return started(trace=trace, span=1, name="agent", attributes=said, tenant=tenant)


def a_task(trace: int, tenant: str) -> list[Observation]:
    """Return a task that has ended."""
    said = {"agent.task.id": f"job-{trace}", "agent.task.name": "job", "agent.status": "complete"}
    return [ended(trace=trace, span=1, name="agent", attributes=said, tenant=tenant)]


class ExerciseTenantTotals(Exercised):
    """Tests of the totals of tenants in every store."""

    async def test_each_tenant_has_what_it_sent(self, make_store: MakeStore) -> None:
        """A tenant that sent forty times as much has more rows and bytes; one that sent nothing has no row."""
        store = await make_store()
        assert await store.tenant_totals.stored() == []
        await store.record([o for trace in range(1, 41) for o in a_task(trace, "acme")])
        await store.record(a_task(1, "globex"))
        assert await store.tenant_totals.measure(_SOON)
        found = {one.tenant: one for one in await store.tenant_totals.stored()}
        assert sorted(found) == ["acme", "globex"]
        assert 39 * found["globex"].rows < found["acme"].rows < 42 * found["globex"].rows  # some are of a batch
        assert found["globex"].rows >= 3  # of tasks and checkpoints too
        assert found["acme"].size > 5 * found["globex"].size > 0

    async def test_what_was_measured_lately_is_not_measured_again(self, make_store: MakeStore) -> None:
        """Within the interval no other process measures; after it, what came in between is counted."""
        store = await make_store()
        await store.record(a_task(1, "acme"))
        assert await store.tenant_totals.measure(_SOON)
        await store.record(a_task(2, "acme"))
        [before] = await store.tenant_totals.stored()
        other = await self.another(store) or store
        assert not await other.tenant_totals.measure(_SOON)
        assert await other.tenant_totals.stored() == [before]
        assert await other.tenant_totals.measure(_LATER)
        [after] = await store.tenant_totals.stored()
        assert after.rows == 2 * before.rows

    async def test_open_tasks_are_counted_with_their_traces(self, make_store: MakeStore) -> None:
        """Only tasks that have not ended are counted, each for its tenant, until nothing was sent for a day."""
        store = await make_store()
        await store.record([an_open_task(1, "acme"), an_open_task(2, "acme"), an_open_task(1, "globex")])
        await store.record(a_task(3, "acme"))
        totals = store.tenant_totals
        assert await totals.open_tasks() == {"acme": 2, "globex": 1}
        assert await totals.open_traces("acme") == {trace.to_bytes(16, "big") for trace in (1, 2)}
        assert await totals.open_traces("initech") == frozenset()
        await self.pass_time(store, 25 * 3600.0)
        assert await totals.open_tasks() == {}
        assert await totals.open_traces("acme") == frozenset()
