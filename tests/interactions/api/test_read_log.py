"""Who reads content at the API: each route that shows content leaves a row, where `log_reads` is set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from spanpost.model.errors import StoreUnavailable
from tests.interactions.api.served import Served, tokens

#: Routes that read, with the kind of content that they show; without a kind they show names, states and figures.
READS = {
    "/api/acts": "acts",
    "/api/approvals": "question",
    "/api/approvals/{key}": "question",
    "/api/tasks/{id}": "question",
    "/api/tasks/{id}/message": "message",
    "/api/tasks/{id}/timeline": "recorded",
    "/api/tasks/{id}/waterfall": "question",
}
NO_CONTENT = {
    "/api/alerts", "/api/components", "/api/content-reads", "/api/costs", "/api/costs/days", "/api/deliveries",
    "/api/events", "/api/facets", "/api/launchers", "/api/login", "/api/login/callback", "/api/me",
    "/api/standing-approvals", "/api/stats", "/api/tasks", "/api/tasks.csv", "/api/tasks/{id}/context", "/api/usage",
}  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway without a database that logs who reads content."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("home"))
        with Served(None, interactions={"tokens": tokens(), "log_reads": True}) as made:
            yield made


def reads(app: Served, **asked: Any) -> list[tuple[Any, ...]]:
    """Return the rows of who read: kind, person, credential, number, task."""
    answer = app.as_of("auditor").get("/api/content-reads", params={"limit": 200, **asked}).raise_for_status()
    names = ("content", "actor_id", "credential", "reads", "task_uid")
    return sorted(tuple(one[name] for name in names) for one in answer.json()["items"])


@pytest.mark.slow
def test_each_route_that_shows_content_leaves_a_row(app: Served) -> None:
    """Two reads of an hour are one row with their number, the token and the task; a route that is in no list fails."""
    document = app.as_of("viewer").get("/api/openapi.json").json()
    reading = {path for path, methods in document["paths"].items() if "get" in methods}
    assert reading == set(READS) | {path for path in NO_CONTENT if path in document["paths"]}
    question = app.question("read-me")
    task, client = question["task_uid"], app.client("spt_auditor")
    for path, kind in READS.items():
        url = path.replace("{key}", question["key"]).replace("{id}", task)
        before = {row[0]: row[3] for row in reads(app, task=task)}
        params: dict[str, Any] = {"task": task} if "{" not in path else {}
        for _ in range(2):
            client.get(url, params=params | ({"content": True} if kind == "recorded" else {})).raise_for_status()
        found = [row for row in reads(app, task=task) if row[0] == kind]
        assert found == [(kind, "api:default:auditor", "token auditor", before.get(kind, 0) + 2, task)], path
    before_all = reads(app, task=task)
    client.get(f"/api/tasks/{task}/timeline").raise_for_status()
    for path in NO_CONTENT - {"/api/events", "/api/login", "/api/login/callback"}:
        client.get(path.replace("{id}", task))
    assert reads(app, task=task) == before_all
    assert reads(app, task=task, person="nobody") == []


def test_what_cannot_be_logged_is_not_shown(app: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot keep the row answers 503; a list of names is shown all the same."""

    async def away(reads: Any) -> None:
        raise StoreUnavailable("away")

    question = app.question("not-shown")
    client = app.as_of("viewer")
    monkeypatch.setattr(app.gateway.pipeline.store.acts, "count_reads", away)
    assert client.get(f"/api/approvals/{question['key']}").status_code == 503
    assert client.get("/api/tasks").status_code == 200
