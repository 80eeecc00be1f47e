"""Finding the routes of a task among many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.routing.matching import Match
from spanpost.routing.routes import Route, Routes, chosen
from spanpost.testing.nouns import a_task

WANTED = st.none() | st.sampled_from(["a", "b", "a*", "*", ("a", "b"), ("b", "a*"), ()])
ROUTE = st.builds(
    Route,
    sink=st.sampled_from(["slack", "console"]),
    address=st.sampled_from(["1", "2", "3"]),
    repo=WANTED,
    service=WANTED,
    tenant=WANTED,
    agent=WANTED,
    status=st.none() | st.just("working"),
)
VALUE = st.sampled_from([None, "a", "b", "ab"])


@given(st.lists(ROUTE, max_size=8), VALUE, VALUE, VALUE)
def test_the_same_routes_as_by_asking_each(
    routes: list[Route], repo: str | None, service: str | None, agent: str | None
) -> None:
    """The index leaves out no route that takes the task, and keeps their order."""
    task = a_task(repo=repo, service=service, agent_name=agent, tenant="a")
    table = Routes(sinks=("slack", "console"), routes=tuple(routes))
    candidates = [table.routes[number] for number in table._index.candidates(task)]
    assert [route for route in candidates if route.takes(task)] == [route for route in routes if route.takes(task)]


def test_of_a_thousand_channels_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with a route for each of a thousand repositories asks one of them, and the default."""
    asked: list[str] = []
    takes = Match.takes

    def counted(self: Route, task: object) -> bool:
        asked.append(self.address)
        return takes(self, task)  # type: ignore[arg-type]

    monkeypatch.setattr(Match, "takes", counted)
    routes = tuple(Route(sink="slack", repo=f"repo-{n}", address=f"C{n}") for n in range(1_000))
    table = Routes(sinks=("slack",), routes=(*routes, replace(routes[0], repo=None, address="rest")))
    assert [route.address for route in chosen(a_task(repo="repo-7"), table)] == ["C7"]
    assert asked == ["C7", "rest"]
    assert [route.address for route in chosen(a_task(repo="another"), table)] == ["rest"]
