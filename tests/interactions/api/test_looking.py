"""Reading tasks over HTTP: lists, one task, timelines, sums; and refused requests."""

from __future__ import annotations

import pytest

from spanpost.model.observations import Status
from spanpost.testing.exercise_budgets import a_costly_run
from spanpost.testing.observed import a_run, ended
from tests.errors import field_of, reason_of
from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def test_who_one_is(served: Served) -> None:
    """A token gives its name and rights; a missing, mistyped or unknown one is refused with a next step."""
    assert served.as_of("operator").get("/api/me").json() == {
        "name": "operator", "provider": "api", "email": None, "tenant": "default", "roles": ["operator"],
    }  # fmt: skip
    for headers in (
        {},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer spt_nobody"},
        {"authorization": "Bearer"},
    ):
        answer = served.client(**headers).get("/api/me")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert reason_of(answer.json()) == "unauthenticated"


def test_pages_of_tasks(served: Served) -> None:
    """Pages by cursor contain all tasks of the filter, newest first, each once."""
    names = [f"page {n}" for n in range(7)]
    for name in names:
        served.task(name, agent__topic="pages")
    client, found, cursor = served.as_of("viewer"), list[str](), ""
    for _ in range(10):
        page = client.get(
            "/api/tasks", params={"topic": "pages", "limit": 3} | ({"cursor": cursor} if cursor else {})
        ).json()
        found += [task["name"] for task in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(found) == names
    assert (
        client.get("/api/tasks", params={"q": "PAGE 3", "status": ["working", "starting"]}).json()["items"][0]["name"]
        == "page 3"
    )
    assert client.get("/api/tasks", params={"topic": "pages", "status": "error"}).json() == {"items": [], "next": None}


def test_a_task_whole(served: Served) -> None:
    """A task has its children, artifacts, figures and trace; money is text and ids may hold slashes."""
    trace = served.trace()
    served.record(*a_run("whole", trace=trace))
    client = served.as_of("viewer")
    task = client.get(f"/api/tasks/{trace:032x}").json()
    assert (task["name"], task["status"], task["artifacts"][0]["name"]) == ("whole", "complete", "patch")
    assert isinstance(task["cost_usd"], str)
    slashed = served.task("slashed", agent__task__id="team/job/1")
    assert slashed["traceparent"].startswith(f"00-{slashed['trace_id']}-")
    for ref in ("team/job/1", "team%2Fjob%2F1", slashed["uid"], slashed["trace_id"]):
        assert client.get(f"/api/tasks/{ref}").json()["task_id"] == "team/job/1"
    assert client.get("/api/tasks/team/job/1/timeline").json()["items"][0]["kind"] == "start"


def test_content_is_for_auditors(served: Served) -> None:
    """Steps and calls are in the timeline for all; recorded content only for an auditor who requests it."""
    trace = served.trace()
    served.record(*a_run("content", trace=trace))
    path = f"/api/tasks/{trace:032x}/timeline"
    plain = served.as_of("viewer").get(path).json()["items"]
    assert {one["source"] for one in plain} == {"checkpoint", "event"}
    assert {one["content"] for one in plain} == {None}
    assert served.as_of("operator").get(path, params={"content": True}).status_code == 403
    whole = served.as_of("auditor").get(path, params={"content": True}).json()["items"]
    assert {"gen_ai.tool.name": "grep", "gen_ai.operation.name": "execute_tool"} in [one["content"] for one in whole]


def test_sums(served: Served) -> None:
    """The sums of the last days are those of the tenant's tasks."""

    def total() -> dict[str, int]:
        return dict(served.client("spt_theirs").get("/api/stats", params={"days": 2}).json()["total"])

    before = total()
    served.record(*a_run("their sum", trace=served.trace(), tenant="other"))
    after = total()
    assert (after["tasks"] - before["tasks"], after["input_tokens"] - (before["input_tokens"] or 0)) == (1, 100)
    assert field_of(served.as_of("viewer").get("/api/stats", params={"days": 0}).json()) == "days"


def test_what_is_spent(served: Served) -> None:
    """A tenant sees its own budgets and limits, and no other tenant does."""
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "error.type": "RateLimitError",
        "agent.account": "key-1",
    }
    held = ended(
        trace=(trace := served.trace()), span=2, parent=1, name="chat m", attributes=call, status=Status.ERROR, at=1.0
    )
    root_span = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "miner"}
    served.record(
        held,
        *a_costly_run(served.trace(), "3"),
        ended(trace=trace, span=1, name="invoke_agent miner", attributes=root_span),
    )
    usage = served.as_of("viewer").get("/api/usage").json()
    [spent] = [one for one in usage["budgets"] if one["budget"] == "miners"]  # other tests spend other budgets
    assert (spent["budget"], spent["cost_usd"], spent["left_usd"], spent["share"]) == ("miners", "3", "7", 0.3)
    assert [(one["account"], one["kind"], one["count"]) for one in usage["provider_limits"]] == [
        ("key-1", "rate_limit", 1)
    ]
    assert served.client("spt_theirs").get("/api/usage").json() == {"budgets": [], "provider_limits": []}


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/tasks?limit=0", 422, "limit"),
        ("/api/tasks?limit=many", 422, "limit"),
        ("/api/tasks?stauts=working", 422, "stauts"),
        ("/api/tasks?status=fine", 422, "status.0"),
        ("/api/tasks?cursor=%00", 422, "cursor"),
        ("/api/tasks?cursor=bnVsbA", 422, "cursor"),
        ("/api/tasks?cursor=e30", 422, "cursor"),
        ("/api/tasks?since=yesterday", 422, "since"),
        ("/api/tasks?until=0.5", 422, "until"),
        ("/api/tasks?q=%00", 422, "q"),
        ("/api/tasks?parent=nobody", 404, "parent"),
        ("/api/tasks?access_token=spt_viewer", 400, None),
        ("/api/tasks/nobody", 404, None),
        ("/api/tasks/%00", 404, None),
        ("/api/tasks/" + "x" * 5000, 404, None),
        ("/api/tasks/%ff%fe", 404, None),
        ("/api/nothing", 404, None),
        ("/api/", 404, None),
        ("/api/events?after=1.2", 422, "Last-Event-ID"),
        ("/api/events?after=-1.0.00000000000000000000000000000000", 422, "Last-Event-ID"),
        ("/api/approvals?state=maybe", 422, "state"),
    ],
)
def test_what_is_not_understood(served: Served, path: str, status: int, field: str | None) -> None:
    """Malformed and unknown values are refused in JSON with the field, and never repeated."""
    answer = served.as_of("viewer").get(path)
    assert answer.status_code == status
    assert field_of(answer.json()) == field
    assert "spt_" not in answer.text


def test_times_at_the_ends_of_time(served: Served) -> None:
    """Any time that can be written is accepted."""
    for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01", "2026-01-01T00:00:00"):
        assert served.as_of("viewer").get("/api/tasks", params={"since": since, "until": since}).status_code == 200


def test_nothing_of_another_tenant(served: Served) -> None:
    """No id, filter, timeline, question, decision or act reaches another tenant's task: it does not exist."""
    own = served.task("ours", agent__task__id="shared-id", agent__topic="leak")
    theirs = served.task("theirs", tenant="other", agent__task__id="shared-id", agent__topic="leak")
    question = served.question("tenant-q")
    client = served.client("spt_theirs")
    assert client.get("/api/tasks/shared-id").json()["name"] == "theirs"
    assert [task["name"] for task in client.get("/api/tasks", params={"topic": "leak"}).json()["items"]] == ["theirs"]
    refs = [own["uid"], own["trace_id"], question["task_uid"]]
    for ref in refs:
        assert client.get(f"/api/tasks/{ref}").status_code == 404
        assert client.get(f"/api/tasks/{ref}/timeline").status_code == 404
        assert client.get("/api/tasks", params={"parent": ref}).status_code == 404
        assert client.get("/api/approvals", params={"task": ref}).status_code == 404
        assert client.get("/api/events", params={"task": ref}).status_code == 404
        for act in ("cancel", "pause", "resume", "retry", "mute", "unmute"):
            assert client.post(f"/api/tasks/{ref}/{act}").status_code == 404
        assert client.post(f"/api/tasks/{ref}/messages", json={"text": "hello"}).status_code == 404
    for key in (question["key"], question["id"]):
        assert client.post(f"/api/approvals/{key}/decision", json={"decision": "approve"}).status_code == 404
    assert client.get("/api/approvals").json()["items"] == []
    assert served.as_of("viewer").get(f"/api/tasks/{theirs['uid']}").status_code == 404
    assert (
        served.as_of("viewer").get("/api/approvals", params={"task": question["task_uid"]}).json()["items"][0]["state"]
        == "open"
    )
