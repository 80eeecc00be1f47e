"""Views of a task: its message by its route, and its context, without any database."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from spanpost.testing.exercise_browse import a_call
from spanpost.testing.exercise_people import asking
from spanpost.testing.observed import started
from tests.interactions.api.served import Served


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that keeps its rows in memory, and whose routes configure Slack."""
    routes = [
        {"sink": "slack", "address": "#deploys", "agent": "deployer", "prefix": "[PROD]", "verbosity": "live"},
        {"sink": "slack", "address": "#ends", "agent": "quiet", "verbosity": "final", "content": False},
        {"sink": "slack", "address": "#loud", "status": "error"},
        {"sink": "slack", "agent": "nobody", "enabled": False},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("house"))
        made = Served(None, slack={"channel": "#agents", "dry_run": True}, routes=routes)
    with made:
        yield made


def drawn(app: Served, id: str) -> tuple[dict[str, object], str]:
    """Return the metadata of a task's message, and all texts of it and of its thread."""
    body = app.as_of("viewer").get(f"/api/tasks/{id}/message").raise_for_status().json()
    texts = json.dumps([body.pop("message"), body.pop("replies")], ensure_ascii=False)
    return body, texts


def test_a_message_is_drawn_as_its_route_has_it(app: Served) -> None:
    """Prefix, channel and verbosity come from the task's route, or else from the default route."""
    task = app.task("Ship it", agent__name="deployer")
    app.record(app.checkpoint(task, 1, "half way"))
    body, texts = drawn(app, task["uid"])
    assert body == {"channel": "#deploys", "verbosity": "live", "task_uid": task["uid"]}
    assert ("[PROD]" in texts, "half way" in texts) == (True, True)
    body, texts = drawn(app, app.task("Sweep", agent__name="sweeper")["uid"])
    assert (body["channel"], "[PROD]" in texts) == ("#agents", False)


def test_what_a_route_does_not_tell_is_not_drawn(app: Served) -> None:
    """A thread shows only the kinds of its route, within its limit; a route that is off has no channel."""
    task = app.task("Hush", agent__name="quiet")
    app.record(app.checkpoint(task, 1, "on the way"))
    app.record(asking("hush", "Really?", trace=task["trace"], detail='{"password": 1}'))
    body, texts = drawn(app, task["uid"])
    assert (body["channel"], body["verbosity"]) == ("#ends", "final")
    replies = app.as_of("viewer").get(f"/api/tasks/{task['uid']}/message").json()["replies"]
    assert ["Really?" in json.dumps(one) for one in replies] == [True]
    assert "password" not in texts
    body, texts = drawn(app, app.task("Nobody hears", agent__name="nobody")["uid"])
    assert (body["channel"], "Nobody hears" in texts) == (None, True)


def test_a_sub_agents_message_is_that_of_the_task_for_which_it_works(app: Served) -> None:
    """A sub-agent's checkpoints are in the thread of its root, by the root's route."""
    root = app.task("The whole", agent__name="deployer")
    said = {"agent.task.name": "The part", "agent.name": "painter", "agent.task.id": "the-part"}
    app.record(started(trace=root["trace"], span=2, parent=1, name="part", attributes=said, at=1.0))
    body, texts = drawn(app, "the-part")
    assert (body["task_uid"], body["channel"]) == (root["uid"], "#deploys")
    assert all(words in texts for words in ("[PROD]", "The whole", "The part"))


def test_a_context_is_drawn_without_a_database(app: Served) -> None:
    """The curve has a point for each call, even without audit rows."""
    task = app.task("Read", agent__name="reader")
    app.record(*(a_call(task["trace"], 10 + n, 1_000 * n, at=float(n)) for n in (2, 1, 3)))
    body = app.as_of("viewer").get(f"/api/tasks/{task['uid']}/context").json()
    assert [point["used_tokens"] for point in body["items"]] == [1_000, 2_000, 3_000]
