"""Tests in every store of what pull requests, people and repositories cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from spanpost.model.costs import ResultCost
from spanpost.model.observations import Observation
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended


def a_family(trace: int, made: list[str], *, below: str = "", by: str = "alice", cost: str = "1") -> list[Observation]:
    """Return a root task that made pull requests, and with `below` a sub-agent that cost half a dollar and made one."""
    said: dict[str, Any] = {
        "agent.task.id": f"root-{trace}",
        "agent.task.name": f"root {trace}",
        "agent.requested_by": by,
        "agent.repo": "acme/app",
        "agent.status": "complete",
        "agent.cost_usd": float(cost),
    }
    batch = [ended(trace=trace, span=1, name="agent", attributes=said)]
    batch += [_made(trace, 1, uri, index) for index, uri in enumerate(made)]
    if below:
        child = {"agent.task.id": f"child-{trace}", "agent.task.name": "reviewer", "agent.cost_usd": 0.5}
        batch.append(
            ended(trace=trace, span=2, parent=1, name="reviewer", attributes={**child, "agent.status": "complete"})
        )
        batch.append(_made(trace, 2, below, 0))
    return batch


def _made(trace: int, span: int, uri: str, index: int) -> Observation:
    said = {"agent.artifact.name": "PR", "agent.artifact.uri": uri, "agent.artifact.kind": "PR" if index else "pr"}
    return an_event(trace=trace, span=span, name="agent.artifact", attributes=said, index=index, at=1 + index / 10)


def shown(costs: list[ResultCost]) -> list[tuple[str, str | None, int, int]]:
    """Return costs as short tuples."""
    return [(c.key, None if c.cost_usd is None else f"{c.cost_usd:.9f}", c.tasks, c.pull_requests) for c in costs]


class ExerciseCosts(Exercised):
    """Tests of what results cost in every store."""

    async def test_a_familys_cost_is_split_and_counted_once(self, make_store: MakeStore) -> None:
        """The parts add up to the cost of a task with its sub-agent; a pull request of two tasks has both parts."""
        store = await make_store()
        await store.record(
            [
                *a_family(1, ["https://x.example/1", "https://x.example/2"], below="https://x.example/3", cost="0.5"),
                *a_family(2, ["https://x.example/1"], by="bob", cost="0.25"),
                *a_family(3, [], by="bob", cost="2"),
            ]
        )
        by_pr = await store.budgets.costs("default", "pr", None, 50)
        assert shown(by_pr) == [
            ("https://x.example/1", "0.583333334", 2, 1),
            ("https://x.example/2", "0.333333333", 1, 1),
            ("https://x.example/3", "0.333333333", 1, 1),
        ]
        by_person = await store.budgets.costs("default", "person", None, 50)
        assert shown(by_person) == [("bob", "2.250000000", 2, 1), ("alice", "1.000000000", 1, 3)]
        [repo] = await store.budgets.costs(None, "repo", None, 50)
        assert (repo.key, repo.cost_usd, repo.tasks, repo.pull_requests) == ("acme/app", Decimal("3.25"), 3, 3)

    async def test_costs_are_of_a_tenant_and_a_time(self, make_store: MakeStore) -> None:
        """Costs of another tenant, of older tasks and beyond the limit are left out; a sub-agent alone is no root."""
        store = await make_store()
        await store.record([*a_family(1, ["https://x.example/1"]), *a_family(2, ["https://x.example/2"], cost="3")])
        assert await store.budgets.costs("other", "pr", None, 50) == []
        later = datetime.now(UTC) + timedelta(days=1)
        assert await store.budgets.costs("default", "pr", later, 50) == []
        earlier = datetime.now(UTC) - timedelta(days=1)
        assert shown(await store.budgets.costs("default", "pr", earlier, 1)) == [
            ("https://x.example/2", "3.000000000", 1, 1)
        ]

    async def test_an_unknown_cost_is_not_zero(self, make_store: MakeStore) -> None:
        """A family of which no cost is known has none; one with an unpriced call is partial."""
        store = await make_store()
        said = {"agent.task.name": "root", "agent.status": "complete"}
        call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5}
        root, model = (
            ended(trace=1, span=1, name="agent", attributes=said),
            ended(trace=1, span=2, parent=1, name="chat m", attributes=call),
        )
        await store.record([root, model, _made(1, 1, "https://x.example/1", 0)])
        [found] = await store.budgets.costs("default", "pr", None, 50)
        assert (found.cost_usd, found.is_partial) == (None, True)
