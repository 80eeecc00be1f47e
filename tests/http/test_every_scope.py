"""Every route with a token of every scope: `docs/reference/token-scopes.md` is the table, checked both ways."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from spanpost.model.access_tokens import ACT, OF_CALLERS, OF_NO_TENANT, SCOPES
from spanpost.store.memory_access_tokens import MemoryAccessTokens
from tests.conftest import ROOT
from tests.http import test_every_route as every
from tests.http.test_stored_tokens import a_token
from tests.interactions.api.served import Served

gateway = every.gateway
CALLERS = {*map(str, OF_CALLERS), *(scope for scope in SCOPES if scope.startswith(ACT))}
#: Cells of the table that stand for sets of scopes.
WORDS = {"none": {*SCOPES}, "a signature": set[str](), "any role or action": CALLERS}
#: Makes a path out of a route's, which leads to something that is there, and the key of a new question.
MakesPath = Callable[[str, dict[str, Any]], tuple[str, str]]
#: Bodies with which a request passes validation, by the last part of its path; several: any of them may be accepted.
BODIES: dict[str, list[dict[str, Any]]] = {
    "messages": [{"text": "x"}],
    "rate": [{"rating": "up"}],
    "decision": [{"decision": word} for word in ("approve", "deny", "canary")],
    "decide": [{"decision": word} for word in ("approve", "deny")],
}


def routes_of(served: Served) -> list[tuple[str, str]]:
    """Return method and path of every route."""
    assert served.gateway._endpoints is not None
    table = served.gateway._endpoints.router.table()
    return [(method, path) for path, methods in table for method in sorted(methods - {"HEAD", "OPTIONS"})]


def accepts(served: Served, method: str, route: str, path_of: MakesPath, token: str) -> bool:
    """Return whether a route accepts a token, with any of the bodies that fit it."""
    for body in BODIES.get(route.rpartition("/")[2], [{}]):
        path, key = path_of(route, body)
        given = body if route != "/api/approvals/decide" else body | {"keys": [key]}
        sent = None if method == "GET" else json.dumps(given).encode()
        answer = every.ask(served, method, path, sent, token=token)
        # Several questions are answered one by one.
        is_refused = route == "/api/approvals/decide" and b'"refused"' in answer.body
        if not is_refused and answer.status not in (401, 403):
            return True
    return False


def paths(served: Served) -> MakesPath:
    """Return a function that makes paths."""
    alert = {
        "labels": {"alertname": "x"}, "annotations": {}, "status": "firing", "startsAt": "2026-11-23T10:00:00Z",
        "fingerprint": "f", "generatorURL": "http://127.0.0.1/",
    }  # fmt: skip
    body = json.dumps({"version": "4", "receiver": "r", "status": "firing", "alerts": [alert]}).encode()
    assert every.ask(served, "POST", "/alerts/alertmanager", body, token="spt_db_alerts").status == 200
    [seen] = json.loads(every.ask(served, "GET", "/api/alerts", token="spt_db_viewer").body)["items"]

    known = {"alerts": seen["id"], "tasks": served.task("x", agent__name="again")["uid"]}

    def path_of(route: str, body: dict[str, Any]) -> tuple[str, str]:
        if route in every.BELOW:
            return route + every.BELOW[route], ""
        kind = route.split("/")[2] if route.startswith("/api/") else ""
        if kind in known:
            return re.sub(r"\{[^}]*\}", known[kind], route), ""
        if kind not in ("approvals", "standing-approvals"):
            return re.sub(r"\{[^}]*\}", "fix", route), ""
        options = ["canary", "all"] if body.get("decision") == "canary" else []
        key = served.question(secrets.token_hex(4), options=options, tool="Edit")["key"]
        if kind == "approvals":
            return re.sub(r"\{[^}]*\}", key, route), key
        grant = json.dumps({"decision": "approve", "scope": "task"}).encode()
        made = every.ask(served, "POST", f"/api/approvals/{key}/decision", grant, token="spt_db_approver")
        return re.sub(r"\{[^}]*\}", json.loads(made.body)["standing_approval"], route), key

    return path_of


def page() -> dict[str, set[str]]:
    """Return the table of the page: scopes by request."""
    text = (ROOT / "docs" / "reference" / "token-scopes.md").read_text()
    rows = re.findall(r"^\| `(\w+ /[^`]*)` \| (.*) \|$", text, re.M)
    return {asked: WORDS.get(said) or set(re.findall(r"`([^`]+)`", said)) for asked, said in rows}


@pytest.mark.slow
def test_each_scope_opens_what_the_page_says(gateway: Served) -> None:
    """Every request needs the scopes that the page names, accepts each of them, and refuses a token with all other
    scopes. The page has every route.
    """
    given, said = gateway.gateway, page()
    assert given._token_reader is not None
    rows = given.pipeline.store.access_tokens
    assert isinstance(rows, MemoryAccessTokens)
    rows.rows = [
        a_token(f"spt_db_{scope}", scope, tenant=None if scope in OF_NO_TENANT else "default") for scope in SCOPES
    ]
    given.pipeline.ask(given._token_reader.read())
    path_of = paths(gateway)
    found = {
        f"{method} {path}": {scope for scope in SCOPES if accepts(gateway, method, path, path_of, f"spt_db_{scope}")}
        for method, path in routes_of(gateway)
    }
    assert {asked: scopes for asked, scopes in found.items() if scopes != said.get(asked)} == {}
    assert said.keys() == found.keys()
