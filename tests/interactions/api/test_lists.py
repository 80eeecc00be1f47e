"""Facets, exports, costs of days and deliveries over HTTP."""

from __future__ import annotations

import csv
import io

import pytest

from spanpost.testing.exercise_budgets import a_costly_run
from spanpost.testing.observed import a_run
from tests.errors import field_of
from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def test_facets_and_orders(served: Served) -> None:
    """Facets count what the list has; a list by cost has its own cursors; another tenant's tasks are in neither."""
    for n, usd in enumerate(("0.25", "4", "1.5")):
        served.record(
            *a_costly_run(served.trace(), usd, agent="facet-agent", attributes={"agent.requested_by": f"p{n}"})
        )
    client = served.as_of("viewer")
    found = client.get("/api/facets", params={"agent": "facet-agent"}).json()
    assert (found["total"], found["cost_usd"]) == (3, "5.75")
    assert {one["value"]: one["count"] for one in found["fields"]["person"]} == {"p0": 1, "p1": 1, "p2": 1}
    assert served.client("spt_theirs").get("/api/facets", params={"agent": "facet-agent"}).json()["total"] == 0
    asked = {"agent": "facet-agent", "sort": "cost", "limit": 2}
    page = client.get("/api/tasks", params=asked).json()
    assert [float(one["cost_usd"]) for one in page["items"]] == [4, 1.5]
    rest = client.get("/api/tasks", params=asked | {"cursor": page["next"]}).json()
    assert [one["cost_usd"] for one in rest["items"]] == ["0.25"]
    wrong = client.get("/api/tasks", params={"agent": "facet-agent", "cursor": page["next"]})
    assert (wrong.status_code, field_of(wrong.json())) == (422, "cursor")


def test_an_export_is_no_formula(served: Served) -> None:
    """The file has a line for each task of the filter; a name that a spreadsheet would compute is quoted."""
    served.task("=HYPERLINK(1)", agent__topic="export", agent__name="x")
    served.task("plain, with a comma", agent__topic="export")
    answer = served.as_of("viewer").get("/api/tasks.csv", params={"topic": "export"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["name"] for row in rows} == {"'=HYPERLINK(1)", "plain, with a comma"}


def test_the_waterfall_of_a_task(served: Served) -> None:
    """A task's waterfall has its tracks and calls; a stranger's is unknown."""
    trace = served.trace()
    served.record(*a_run("falls", trace=trace))
    path = f"/api/tasks/{trace:032x}/waterfall"
    found = served.as_of("viewer").get(path).json()
    assert [one["name"] for one in found["tracks"]] == ["falls"]
    assert {(one["kind"], one["name"]) for one in found["bars"]} == {("tool", "grep"), ("llm", "gpt-4o")}
    assert found["trace_url"] is None
    assert served.client("spt_theirs").get(path).status_code == 404


def test_days_and_deliveries(served: Served) -> None:
    """Costs of days are of the time zone that is asked for, an unknown one is refused; nothing waits without a sink."""
    client = served.as_of("viewer")
    assert client.get("/api/costs/days", params={"by": "agent", "zone": "Asia/Seoul"}).status_code == 200
    for zone in ("../../etc/passwd", "Mars/Phobos", ""):
        refused = client.get("/api/costs/days", params={"zone": zone})
        assert (refused.status_code, field_of(refused.json())) == (422, "zone")
    assert client.get("/api/deliveries", params={"state": "dead"}).json()["items"] == []


def test_the_state_of_components(served: Served) -> None:
    """Everybody sees which component works; figures, which are of all tenants, only operators and auditors do."""
    found = served.as_of("operator").get("/api/components").json()["items"]
    states = {one["name"]: one["state"] for one in found}
    assert (states["database"], {"outbox"} <= states.keys()) == ("ok", True)
    assert any(one["detail"] for one in found)
    plain = served.as_of("viewer").get("/api/components").json()["items"]
    assert [one["name"] for one in plain] == [one["name"] for one in found]
    assert {one["detail"] for one in plain} == {""}
