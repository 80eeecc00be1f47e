"""Facets, exports, costs of days and deliveries over HTTP."""

from __future__ import annotations

import csv
import io
import zoneinfo

import pytest

from spanpost.testing.exercise_budgets import a_costly_run
from spanpost.testing.observed import a_run, ended
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
    wrong = client.get("/api/tasks", params=asked | {"sort": "duration", "cursor": page["next"]})
    assert (wrong.status_code, field_of(wrong.json())) == (422, "cursor")
    assert "another sort" in wrong.json()["message"]


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
    assert [one["title"] for one in found["tracks"]] == ["falls"]
    assert {(one["kind"], one["name"]) for one in found["bars"]} == {("tool", "grep"), ("llm", "gpt-4o")}
    assert found["trace_url"] is None
    assert found["is_cut"] is False
    assert served.client("spt_theirs").get(path).status_code == 404


def test_what_has_not_changed_is_not_sent_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks again with the tag gets 304; of a waterfall nothing is read for that. A new call, and another
    window, are sent; a stranger is refused as ever.
    """
    trace = served.trace()
    served.record(*a_run("same", trace=trace))
    client = served.as_of("viewer")
    path = f"/api/tasks/{trace:032x}"
    for read in (path, f"{path}/waterfall", f"{path}/context", "/api/deliveries"):
        tag = client.get(read).headers["etag"]
        again = client.get(read, headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(read, headers={"if-none-match": '"other"'}).status_code == 200
    seen = {"if-none-match": client.get(f"{path}/waterfall").headers["etag"]}
    with monkeypatch.context() as patch:
        patch.setattr(served.gateway.pipeline.store.reader, "waterfall", None)
        assert client.get(f"{path}/waterfall", headers=seen).status_code == 304
    assert client.get(f"{path}/waterfall", params={"since": "2026-01-01"}, headers=seen).status_code == 200
    assert served.client("spt_theirs").get(f"{path}/waterfall", headers=seen).status_code == 404
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "late"}
    served.record(ended(trace=trace, span=77, parent=1, name="execute_tool late", attributes=said, at=2.0, seconds=1.0))
    assert "late" in client.get(f"{path}/waterfall", headers=seen).text


def test_time_zones_by_older_names(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that browsers send are known where the system has none of them, and PostgreSQL need not know them."""
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    try:
        client = served.as_of("viewer")
        for zone in ("US/Pacific", "Asia/Calcutta", "Europe/Kiev", "Asia/Saigon", "America/Buenos_Aires", "UTC"):
            assert client.get("/api/costs/days", params={"zone": zone}).status_code == 200, zone
    finally:
        zoneinfo.reset_tzpath()


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
