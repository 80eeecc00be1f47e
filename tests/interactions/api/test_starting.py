"""Starting work over HTTP, the successors of a task, and the acts that a caller may do."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.model.launch_orders import OrderQuery, OrderRow
from spanpost.model.observations import Status
from tests.errors import field_of, reason_of
from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def orders(served: Served, **asked: Any) -> list[OrderRow]:
    pipeline = served.gateway.pipeline
    return list(pipeline.ask(pipeline.store.launch_orders.listed(OrderQuery(**asked))))


def failed(served: Served, name: str, **said: Any) -> dict[str, Any]:
    """Return a failed task."""
    task = served.task(name, **said)
    served.end(task, status=Status.ERROR, status_message="no such till")
    return task


def test_launchers_are_those_that_one_may_start(served: Served) -> None:
    """Each caller sees the launchers that the rules let them start: by a rule of its own, else by the role."""
    answers = {role: served.as_of(role).get("/api/launchers").json() for role in ("viewer", "operator", "approver")}
    assert answers == {
        "viewer": {"items": [], "next": None},
        "operator": {"items": [{"name": "fix", "parameters": []}], "next": None},
        "approver": {"items": [{"name": "locked", "parameters": []}], "next": None},
    }


def test_work_is_started_once(served: Served) -> None:
    """A start is an order in the caller's name, once for its key; its task is found by the order."""
    client = served.as_of("operator")
    body = {"text": "Fix the till", "parameters": {"repo": "acme/till"}}
    answers = [
        client.post("/api/launchers/fix/start", json=body, headers={"idempotency-key": "s1"}).json() for _ in range(3)
    ]
    assert [answer["is_repeat"] for answer in answers] == [False, True, True]
    [id] = {answer["order_id"] for answer in answers}
    [row] = [one for one in orders(served) if str(one.order.id) == id]
    order = row.order
    assert (order.text, order.parameters, order.source, order.by, order.tenant) == (
        "Fix the till", {"repo": "acme/till"}, "api", "operator", "default",
    )  # fmt: skip
    task = served.task("The till", agent__order__id=id)
    found = client.get("/api/tasks", params={"order": id}).json()["items"]
    assert [(one["uid"], one["order_id"]) for one in found] == [(task["uid"], id)]
    assert client.post("/api/launchers/fix/start").json()["order_id"] != id


def test_starts_that_are_refused(served: Served) -> None:
    """Without the right to start every launcher is refused; with it an unknown one is reported as missing."""
    before = len(orders(served))
    for name in ("fix", "locked", "nothere"):
        assert reason_of(served.as_of("viewer").post(f"/api/launchers/{name}/start").json()) == "refused"
    operator = served.as_of("operator")
    assert operator.post("/api/launchers/locked/start").status_code == 403
    assert reason_of(operator.post("/api/launchers/nothere/start").json()) == "not_found"
    for body, field in (
        ({"text": 7}, "text"),
        ({"parameters": {"a": 1}}, "parameters.a"),
        ({"parameters": {"": "x"}}, "parameters..[key]"),
        ({"parameters": {"a": "x" * 1001}}, "parameters.a"),
        ({"launcher": "locked"}, "launcher"),
    ):
        answer = operator.post("/api/launchers/fix/start", json=body)
        assert (answer.status_code, field_of(answer.json())) == (422, field)
    assert len(orders(served)) == before


def test_a_task_says_what_may_be_done(served: Served) -> None:
    """`acts` lists the possible acts that the rules allow the role; retry only if something would start it."""
    task = served.task("acts", agent__name="again")
    path = f"/api/tasks/{task['uid']}"
    operator = served.as_of("operator")
    assert served.as_of("viewer").get(path).json()["acts"] == []
    assert operator.get(path).json()["acts"] == ["cancel", "pause", "message", "rate", "mute"]
    operator.post(f"{path}/pause").raise_for_status()
    operator.post(f"{path}/cancel").raise_for_status()
    operator.post(f"{path}/mute").raise_for_status()
    assert operator.get(path).json()["acts"] == ["resume", "message", "rate", "unmute"]
    served.end(task)
    assert operator.get(path).json()["acts"] == ["rate", "unmute"]
    assert operator.get(f"/api/tasks/{failed(served, 'no retrier')['uid']}").json()["acts"] == ["rate", "mute"]
    assert operator.get(f"/api/tasks/{failed(served, 'retrier', agent__name='again')['uid']}").json()["acts"] == [
        "retry",
        "rate",
        "mute",
    ]


def test_a_question_says_how_it_is_answered(served: Served) -> None:
    """A question's `acts` are its decider's while it is open; a listed task has its question and failure."""
    question = served.question("Deploy\n1.2")
    choice = served.question("may-2", options=["blue", "green"])
    for role, expected in (("operator", [[], []]), ("approver", [["approve", "deny"], ["choose"]])):
        client = served.as_of(role)
        answers = [
            client.get(f"/api/tasks/{one['task_uid']}").json()["approvals"][0]["acts"] for one in (question, choice)
        ]
        assert answers == expected
        listed = {
            one["key"]: one["acts"] for one in client.get("/api/approvals", params={"state": "open"}).json()["items"]
        }
        assert [listed[question["key"]], listed[choice["key"]]] == expected
    client = served.as_of("approver")
    assert client.get(f"/api/tasks/{question['task_uid']}").json()["question"] == "Deploy 1.2?"
    client.post(f"/api/approvals/{question['key']}/decision", json={"decision": "deny"}).raise_for_status()
    whole = client.get(f"/api/tasks/{question['task_uid']}").json()
    assert (whole["question"], whole["approvals"][0]["acts"]) == (None, [])
    task = failed(served, "why it failed")
    [listed] = client.get("/api/tasks", params={"q": "why it failed"}).json()["items"]
    assert "no such till" in listed["failure"]
    assert listed["uid"] == task["uid"]


def test_what_followed_a_task(served: Served) -> None:
    """A task's retry and the work after its end are listed with it, found by any id, in its tenant only."""
    task = failed(served, "first", agent__task__id="follow-1", agent__name="again")
    answer = served.as_of("operator").post("/api/tasks/follow-1/retry").json()
    again = served.task("again", agent__retry_of="follow-1", agent__order__id=answer["order_id"])
    after = served.task("after", agent__caused_by="follow-1")
    served.task("theirs", agent__retry_of="follow-1", tenant="other")
    client = served.as_of("viewer")
    expected = {again["uid"]: ("follow-1", None, answer["order_id"]), after["uid"]: (None, "follow-1", None)}
    answers = [client.get(f"/api/tasks/{task['uid']}").json()["followed_by"]]
    answers += [client.get("/api/tasks", params={"follows": id}).json()["items"] for id in ("follow-1", task["uid"])]
    for found in answers:
        assert {one["uid"]: (one["retry_of"], one["caused_by"], one["order_id"]) for one in found} == expected
    assert field_of(client.get("/api/tasks", params={"follows": "nobody"}).json()) == "follows"
