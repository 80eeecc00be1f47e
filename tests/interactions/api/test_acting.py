"""Acts over HTTP: the same rules, rows and repeats as a click in Slack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from spanpost.interactions.texts import NO_LAUNCHER
from spanpost.testing.exercise_limits import a_call
from spanpost.text.locales import ENGLISH
from tests.errors import field_of, reason_of
from tests.eventually import eventually
from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def acts(served: Served, task_uid: str) -> list[tuple[str, str, str]]:
    """Return verb, result and person of each act on a task."""
    items = served.as_of("viewer").get(f"/api/tasks/{task_uid}/timeline").json()["items"]
    return [(one["kind"], one["result"], one["by"]) for one in items if one["source"] == "intervention"]


def decide(client: httpx.Client, question: dict[str, Any], decision: str, **headers: str) -> httpx.Response:
    path = f"/api/approvals/{question['key']}/decision"
    return client.post(path, json={"decision": decision, "comment": "as agreed"}, headers=headers)


def test_a_decision_is_an_approvers(served: Served) -> None:
    """A caller who is no approver is refused, which is recorded; an approver decides; later answers get the
    first decision.
    """
    question = served.question("decide-1")
    for role in ("viewer", "operator", "auditor"):
        answer = decide(served.as_of(role), question, "approve")
        assert (answer.status_code, reason_of(answer.json())) == (403, "refused")
    done = decide(served.as_of("approver"), question, "deny")
    assert done.json() == {
        "result": "done",
        "task_id": question["task_id"],
        "decision": "deny",
        "by": "approver",
        "order_id": None,
        "approvals": 0,
        "needs": 1,
        "standing_approval": None,
        "is_repeat": False,
        "message": "Decided: deny. The agent receives it.",
    }
    late = decide(served.as_of("approver"), question, "approve")
    assert (late.status_code, reason_of(late.json())) == (409, "decided")
    assert "denied by approver" in late.json()["message"]
    [approval] = served.as_of("viewer").get("/api/approvals", params={"task": question["task_uid"]}).json()["items"]
    assert (approval["state"], approval["decision"], approval["by"], approval["comment"], approval["source"]) == (
        "decided", "deny", "approver", "as agreed", "api",
    )  # fmt: skip
    assert [one[1:] for one in acts(served, question["task_uid"])] == [
        ("refused", "viewer"), ("refused", "operator"), ("refused", "auditor"), ("done", "approver"),
        ("decided", "approver"),
    ]  # fmt: skip


def test_options_are_answers(served: Served) -> None:
    """A question with options accepts those and no other word; the agent's own id of it works too."""
    question = served.question("choose/1", options=["blue", "green"])
    client = served.as_of("approver")
    wrong = decide(client, question, "approve")
    assert (wrong.status_code, field_of(wrong.json())) == (422, "decision")
    assert client.post("/api/approvals/choose%2F1/decision", json={"decision": "green"}).json()["decision"] == "green"


def test_a_budget_is_raised_by_those_who_may(served: Served) -> None:
    """The answer +20 % to a budget's question needs the action `raise` beside `choose`; /api/usage shows who raised."""
    task = served.task("asks for more", gen_ai__operation__name="invoke_agent", gen_ai__agent__name="asker")
    served.record(a_call(task["trace"], 2), a_call(task["trace"], 3))
    [question] = served.as_of("viewer").get("/api/approvals", params={"task": task["uid"]}).json()["items"]
    assert question["options"] == ["+20 %", "Stop"]
    refused = decide(served.as_of("operator"), question, "+20 %")
    assert (refused.status_code, reason_of(refused.json())) == (403, "refused")
    assert decide(served.as_of("approver"), question, "+20 %").json()["result"] == "done"
    budgets = served.as_of("viewer").get("/api/usage").json()["budgets"]
    [spent] = [one for one in budgets if one["budget"] == "asked"]
    assert (spent["calls"], spent["limit_calls"], [one["by"] for one in spent["raises"]]) == (2, 3, ["approver"])
    assert ("resume", "done", "approver") in acts(served, task["uid"])


def test_what_operators_do(served: Served) -> None:
    """Acts reach the task; viewers, tasks that cannot restart and ended tasks are refused with the reason."""
    task = served.task("operate")
    client = served.as_of("operator")
    assert served.as_of("viewer").post(f"/api/tasks/{task['uid']}/cancel").status_code == 403
    assert client.post(f"/api/tasks/{task['uid']}/pause", json={"comment": "wait"}).json()["result"] == "done"
    assert client.get(f"/api/tasks/{task['uid']}").json()["paused_by"] == "operator"
    assert client.post(f"/api/tasks/{task['uid']}/resume").status_code == 200
    assert client.post(f"/api/tasks/{task['uid']}/mute").status_code == 200
    assert client.post(f"/api/tasks/{task['uid']}/messages", json={"text": "look at the log"}).status_code == 200
    assert client.post(f"/api/tasks/{task['uid']}/cancel").status_code == 200
    shown = client.get(f"/api/tasks/{task['uid']}").json()
    assert (shown["paused_by"], shown["muted"], shown["cancel_by"]) == (None, True, "operator")
    retry = client.post(f"/api/tasks/{task['uid']}/retry")
    assert (retry.status_code, reason_of(retry.json()), retry.json()["message"]) == (403, "refused", NO_LAUNCHER)
    served.end(task)
    late = client.post(f"/api/tasks/{task['uid']}/pause")
    assert (late.status_code, reason_of(late.json())) == (409, "too_late")
    assert late.json()["message"] == ENGLISH.say("interactions.too_late")


def test_a_repeat_with_a_key_is_the_same_act(served: Served) -> None:
    """Twenty requests with one Idempotency-Key are one act; another body with that key is another act."""
    task = served.task("repeat")
    client = served.as_of("operator")

    def say(text: str) -> dict[str, Any]:
        def post() -> httpx.Response:
            url = f"/api/tasks/{task['uid']}/messages"
            return client.post(url, json={"text": text}, headers={"idempotency-key": "k1"})

        # A busy database answers 503: send it again.
        answer = eventually(post, lambda answer: answer.status_code != 503)
        return dict(answer.raise_for_status().json())

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(say, ["hello"] * 20))
    assert sorted(answer.pop("is_repeat") for answer in answers) == [False] + [True] * 19
    assert all(answer == answers[0] for answer in answers)
    assert say("good-bye")["is_repeat"] is False
    assert acts(served, task["uid"]) == [("message", "done", "operator")] * 2


def test_two_callers_with_one_key_are_two(served: Served) -> None:
    """An Idempotency-Key belongs to its sender: with the same key another caller gets an act of its own."""
    question = served.question("own-key")
    headers = {"idempotency-key": "shared"}
    assert decide(served.as_of("viewer"), question, "approve", **headers).status_code == 403
    assert decide(served.as_of("approver"), question, "approve", **headers).json()["is_repeat"] is False
    assert decide(served.as_of("viewer"), question, "approve", **headers).status_code == 403
    assert len(acts(served, question["task_uid"])) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field"),
    [
        (b"{", "application/json", 400, None),
        (b"[]", "application/json", 422, None),
        (b"{}", "application/json", 422, "text"),
        (b'{"text": ""}', "application/json", 422, "text"),
        (b'{"text": 7}', "application/json", 422, "text"),
        (b'{"text": "\\u0000"}', "application/json", 422, "text"),
        (b'{"text": "\\ud800"}', "application/json", 422, "text"),
        (b'{"text": "a", "as": "root"}', "application/json", 422, "as"),
        (b'{"text": "\xff"}', "application/json", 400, None),
        (b"", "application/json", 422, None),
        (b'{"text": "' + b"x" * 70_000 + b'"}', "application/json", 413, None),
        (b"[" * 60_000, "application/json", 400, None),
    ],
)
def test_bodies_that_are_not_understood(
    served: Served, body: bytes, content_type: str, status: int, field: str | None
) -> None:
    """Malformed, mistyped, oversized or deeply nested bodies are refused with the field and change nothing."""
    task = served.task("bodies")
    headers = {"content-type": content_type}
    answer = served.as_of("operator").post(f"/api/tasks/{task['uid']}/messages", content=body, headers=headers)
    assert (answer.status_code, field_of(answer.json())) == (status, field), answer.text
    assert acts(served, task["uid"]) == []


def test_pages_of_elsewhere_cannot_act(served: Served) -> None:
    """Without a token no foreign page's browser request acts here; with one the Host does not matter."""
    task = served.task("elsewhere")
    path = f"/api/tasks/{task['uid']}/cancel"
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        assert served.client(**headers).post(path).status_code == 403
        assert served.client(**headers).get("/api/me").status_code == 403
    assert served.as_of("operator").post(path, content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert acts(served, task["uid"]) == []
    assert served.client("spt_viewer", host="behind.a.proxy").get("/api/me").status_code == 200


def test_a_rating_is_recorded_and_shown(served: Served) -> None:
    """An operator rates a task; its newest rating stands, with its comment, and another word is refused."""
    task = served.question("rate-1")["task_uid"]
    path, operator = f"/api/tasks/{task}/rate", served.as_of("operator")
    assert served.as_of("viewer").post(path, json={"rating": "up"}).status_code == 403
    assert operator.post(path, json={"rating": "sideways"}).status_code == 422
    for rating, comment in (("up", ""), ("down", "the wrong file")):
        done = operator.post(path, json={"rating": rating, "comment": comment}).json()
        assert (done["result"], done["decision"]) == ("done", rating)
    [shown] = served.as_of("viewer").get(f"/api/tasks/{task}").json()["evaluations"]
    assert {name: shown[name] for name in ("name", "source", "score", "label", "explanation", "by")} == {
        "name": "person_rating",
        "source": "person",
        "score": 0.0,
        "label": "down",
        "explanation": "the wrong file",
        "by": "operator",
    }
