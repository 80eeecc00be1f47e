"""Who did what: every endpoint that changes something leaves a row, and no request or telemetry forges one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from spanpost.model.task_acts import TASK_ACTS
from spanpost.store.system_user import system_user
from spanpost.testing.exercise_people import a_reported_decision
from tests.errors import reason_of
from tests.interactions.api.served import Served
from tests.interactions.api.test_acting import decide
from tests.interactions.api.test_standing import allow

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

#: Posts of the document that are no acts, with the reason.
NO_ACTS: dict[str, str] = {}


def listed(served: Served, **asked: Any) -> list[dict[str, Any]]:
    """Return acts as an auditor reads them, oldest first."""
    params = {"oldest_first": True, "limit": 200, **asked}
    return list(served.as_of("auditor").get("/api/acts", params=params).raise_for_status().json()["items"])


def _on_task(path: str, body: dict[str, Any] | None = None) -> Callable[[Served, httpx.Client], httpx.Response]:
    def act(served: Served, client: httpx.Client) -> httpx.Response:
        task = served.task(f"for {path}")
        return client.post(f"/api/tasks/{task['uid']}/{path}", json=body)

    return act


def _decided(served: Served, client: httpx.Client) -> httpx.Response:
    return decide(client, served.question(uuid4().hex), "deny")


def _several(served: Served, client: httpx.Client) -> httpx.Response:
    keys = [served.question(uuid4().hex)["key"]]
    return client.post("/api/approvals/decide", json={"keys": keys, "decision": "deny"})


def _revoked(served: Served, client: httpx.Client) -> httpx.Response:
    _, answer = allow(served, uuid4().hex, "Edit")
    return client.post(f"/api/standing-approvals/{answer['standing_approval']}/revoke")


def _of_alert(verb: str) -> Callable[[Served, httpx.Client], httpx.Response]:
    return lambda served, client: client.post(f"/api/alerts/{uuid4()}/{verb}", json={})


#: Each path of the document that changes something: how it is called, and the verb of its row.
CHANGES: dict[str, tuple[str, Callable[[Served, httpx.Client], httpx.Response]]] = {
    "/api/approvals/{key}/decision": ("deny", _decided),
    "/api/approvals/decide": ("deny", _several),
    "/api/standing-approvals/{id}/revoke": ("revoke", _revoked),
    "/api/launchers/{name}/start": ("start", lambda served, client: client.post("/api/launchers/fix/start")),
    "/api/alerts/{id}/acknowledge": ("acknowledge", _of_alert("acknowledge")),
    "/api/alerts/{id}/silence": ("silence", _of_alert("silence")),
    "/api/alerts/{id}/unsilence": ("unsilence", _of_alert("unsilence")),
    **{
        f"/api/tasks/{{id}}/{act.path}": (str(verb), _on_task(act.path, act.body("why", "up")))
        for verb, act in TASK_ACTS.items()
    },
}


@pytest.mark.proves("every-act")
def test_every_endpoint_that_changes_something_leaves_a_row(served: Served) -> None:
    """Each POST, PUT, PATCH and DELETE of the document has a row of its verb with the token and the client that
    called it, done or refused. An endpoint that is not in the table fails here. `/api/logout` is in the test below.
    """
    document = served.as_of("viewer").get("/api/openapi.json").json()
    changing = {path for path, methods in document["paths"].items() if set(methods) - {"get"}}
    assert changing - {"/api/logout"} == set(CHANGES) | set(NO_ACTS)
    for role in ("operator", "approver", "viewer"):
        client = served.client(f"spt_{role}", **{"spanpost-client": "mcp"})
        for path, (verb, call) in CHANGES.items():
            before = {one["id"] for one in listed(served, verb=verb, person=f"api:default:{role}")}
            answer = call(served, client)
            new = [one for one in listed(served, verb=verb, person=role) if one["id"] not in before]
            assert len(new) == 1, (path, role, answer.text)
            assert (new[0]["credential"], new[0]["client"], new[0]["source"]) == (f"token {role}", "mcp", "api")
            assert (new[0]["result"] in ("done", "counted")) == (
                answer.status_code == 200 and "reason" not in (answer.json().get("items") or [{}])[0]
            ) or new[0]["result"] == answer.json()["items"][0]["result"]
            assert new[0]["os_user"] == system_user()


def test_a_try_on_an_unknown_id_is_a_row(served: Served) -> None:
    """An act on a task or a question of another tenant is answered as unknown, and the try is recorded with the id."""
    theirs = served.task("theirs", tenant="other")
    client = served.as_of("operator")
    assert client.post(f"/api/tasks/{theirs['uid']}/cancel").status_code == 404
    assert client.post("/api/approvals/nothing-known/decision", json={"decision": "deny"}).status_code == 404
    found = [(one["verb"], one["result"], one["parameters"]) for one in listed(served, person="operator")][-2:]
    assert found == [
        ("cancel", "unknown", {"id": theirs["uid"]}),
        ("deny", "unknown", {"id": "nothing-known"}),
    ]


@pytest.mark.proves("nothing-crosses")
def test_acts_are_an_auditors_and_of_their_tenant(served: Served) -> None:
    """Other roles are refused; an auditor of another tenant sees none of the acts and cannot ask by task."""
    task = served.task("watched")
    served.as_of("operator").post(f"/api/tasks/{task['uid']}/pause").raise_for_status()
    for path in ("/api/acts", "/api/content-reads"):
        for role in ("viewer", "operator", "approver"):
            refused = served.as_of(role).get(path)
            assert (refused.status_code, reason_of(refused.json())) == (403, "forbidden")
    theirs = served.client("spt_theirs")
    assert theirs.get("/api/acts", params={"task": task["uid"]}).status_code == 404
    assert [one for one in theirs.get("/api/acts").json()["items"] if one["tenant"] != "other"] == []
    [own] = listed(served, task=task["uid"])
    assert (own["verb"], own["actor_id"], own["task_name"]) == ("pause", "api:default:operator", "watched")


@pytest.mark.proves("every-act")
def test_no_request_names_its_actor(served: Served) -> None:
    """Fields of a body that name an actor are refused, and headers that claim one change nothing; an unknown client
    is none.
    """
    task = served.task("claimed")
    client, path = served.as_of("operator"), f"/api/tasks/{task['uid']}/pause"
    for claim in ({"actor": "the CEO"}, {"by": "the CEO"}, {"credential": "token boss"}, {"source": "slack"}):
        assert client.post(path, json={"comment": "", **claim}).status_code == 422
    headers = {"spanpost-client": "slack", "x-forwarded-user": "the CEO", "x-remote-user": "the CEO"}
    assert client.post(path, headers=headers).status_code == 200
    [row] = listed(served, task=task["uid"])
    assert (row["actor"], row["client"], row["credential"], row["source"]) == (
        "operator",
        None,
        "token operator",
        "api",
    )


def test_telemetry_names_no_actor(served: Served) -> None:
    """A decision that telemetry reports in a person's name leaves no act, whatever fields it has."""
    question = served.question("reported")
    trace = served._traces
    more = {"source": "slack", "credential": "token boss", "actor": "the CEO", "by_id": "slack:T1:U1"}
    served.record(a_reported_decision(id="reported", trace=trace, **more))
    assert listed(served, task=question["task_uid"]) == []
    assert [one for one in listed(served, person="the CEO") if one["source"] != "cli"] == []


def test_pages_follow_each_other(served: Served) -> None:
    """Pages have each act once, in either order; a foreign cursor is refused."""
    task = served.task("paged")
    for verb in ("pause", "resume", "mute", "unmute"):
        served.as_of("operator").post(f"/api/tasks/{task['uid']}/{verb}").raise_for_status()
    client, verbs, cursor = served.as_of("auditor"), [], None
    while True:
        params = {"task": task["uid"], "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/acts", params=params).raise_for_status().json()
        verbs += [one["verb"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert verbs == ["unmute", "mute", "resume", "pause"]
    assert client.get("/api/acts", params={"cursor": "e30"}).status_code == 422
