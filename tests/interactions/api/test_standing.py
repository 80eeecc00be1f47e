"""Standing approvals, several people and several questions over HTTP and at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.errors import field_of, reason_of
from tests.interactions.api.served import Served
from tests.interactions.api.test_command_line import run

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def allow(served: Served, id: str, tool: str) -> tuple[dict[str, object], dict[str, object]]:
    """Approve a question for a tool in its task; return the question and the answer."""
    question = served.question(id, tool=tool)
    answer = served.as_of("approver").post(
        f"/api/approvals/{question['key']}/decision", json={"decision": "approve", "scope": "task"}
    )
    return question, answer.raise_for_status().json()


def test_a_tool_is_allowed_listed_and_revoked(served: Served) -> None:
    """An approver allows a tool in a task; it is listed for the tenant, and revoked by people who may approve."""
    question, answer = allow(served, "allow-1", "Edit")
    assert question["scopes"] == ["once", "task"]
    id = answer["standing_approval"]
    [listed] = [one for one in served.as_of("viewer").get("/api/standing-approvals").json()["items"] if one["id"] == id]
    assert (listed["tool"], listed["scope"], listed["granted_by"], listed["used"]) == ("Edit", "task", "approver", 0)
    refused = served.as_of("operator").post(f"/api/standing-approvals/{id}/revoke")
    assert (refused.status_code, reason_of(refused.json())) == (403, "refused")
    assert served.as_of("approver").post(f"/api/standing-approvals/{id}/revoke").json()["result"] == "done"
    again = served.as_of("approver").post(f"/api/standing-approvals/{id}/revoke")
    assert (again.status_code, reason_of(again.json())) == (409, "decided")
    assert id not in [one["id"] for one in served.as_of("viewer").get("/api/standing-approvals").json()["items"]]
    assert id in [
        one["id"] for one in served.as_of("viewer").get("/api/standing-approvals", params={"all": True}).json()["items"]
    ]
    unknown = served.as_of("approver").post(f"/api/standing-approvals/{uuid4()}/revoke")
    assert unknown.status_code == 404


def test_a_scope_goes_with_an_approval_of_a_tool(served: Served) -> None:
    """A scope is refused with a denial, and for a question without a tool, which stays open."""
    question = served.question("no-tool")
    client, path = served.as_of("approver"), f"/api/approvals/{question['key']}/decision"
    wrong = client.post(path, json={"decision": "deny", "scope": "task"})
    assert (wrong.status_code, field_of(wrong.json())) == (422, "scope")
    late = client.post(path, json={"decision": "approve", "scope": "task"})
    assert (late.status_code, reason_of(late.json())) == (409, "no_scope")
    assert client.get(f"/api/approvals/{question['key']}").json()["state"] == "open"


def test_one_token_is_one_person(served: Served) -> None:
    """The approval of one of two people counts, and the same caller is no second person."""
    question = served.question("two", needs=2)
    client, path = served.as_of("approver"), f"/api/approvals/{question['key']}/decision"
    for _ in range(2):
        answer = client.post(path, json={"decision": "approve"}).json()
        assert (answer["result"], answer["approvals"], answer["needs"]) == ("counted", 1, 2)
    shown = client.get(f"/api/approvals/{question['key']}").json()
    assert (shown["state"], shown["approved_by"]) == ("open", ["approver"])


def test_several_questions_are_decided_by_one_act(served: Served) -> None:
    """Each question has its own outcome: one that is hidden in part is left out, and stops no other."""
    plain = [served.question(f"batch-{n}")["key"] for n in range(2)]
    hidden = served.question("batch-hidden", detail="password=hunter2hunter2")["key"]
    unknown = str(uuid4())
    body = {"keys": [plain[0], hidden, unknown, plain[1], plain[0]], "decision": "approve", "comment": "these"}
    answer = served.as_of("approver").post("/api/approvals/decide", json=body).raise_for_status().json()
    assert [(one["key"], one["result"]) for one in answer["items"]] == [
        (plain[0], "done"),
        (hidden, "hidden"),
        (unknown, "unknown"),
        (plain[1], "done"),
    ]
    assert all((one["reason"] is None) is (one["result"] == "done") for one in answer["items"])
    refused = served.as_of("viewer").post("/api/approvals/decide", json={"keys": [hidden], "decision": "deny"}).json()
    assert [one["result"] for one in refused["items"]] == ["refused"]


def test_the_command_line_approves_several_and_revokes(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """Several questions are answered by one command, each alone; a standing approval is listed and revoked."""
    first, second = served.question("cli-a", tool="Read"), served.question("cli-b")
    done = run(
        tmp_path,
        *("approvals", "approve", first["key"], second["key"], "--as", "Ann", "--yes"),
        DATABASE_URL=api_dsn,
    )
    assert (done[0], done[1].count("The agent receives it.")) == (0, 2)
    allowed = served.question("cli-c", tool="Read")
    granted = run(
        tmp_path,
        *("approvals", "approve", allowed["key"], "--scope", "task", "--as", "Ann", "--yes", "--comment", "sandbox"),
        DATABASE_URL=api_dsn,
    )
    assert granted[0] == 0, granted[2]
    found = json.loads(run(tmp_path, "approvals", "rules", "list", "--json", DATABASE_URL=api_dsn)[1])
    [one] = [one for one in found["standing_approvals"] if one["reason"] == "sandbox"]
    assert (one["tool"], one["granted_by"]) == ("Read", "Ann")
    at_gateway = {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_approver"}
    assert one["id"] in run(tmp_path, "approvals", "rules", "list", "--json", **at_gateway)[1]
    revoked = run(tmp_path, "approvals", "rules", "revoke", one["id"], "--as", "Ben", "--yes", DATABASE_URL=api_dsn)
    assert revoked[:2] == (0, "It was revoked: the next question of this tool is asked again.\n")
    again = run(tmp_path, "approvals", "rules", "revoke", one["id"], "--as", "Ben", "--yes", DATABASE_URL=api_dsn)
    assert again[0] == 1
