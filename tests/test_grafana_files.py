"""grafana/ is what its code makes, uses existing names, and each rule was seen firing and silent."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from spanpost.metrics.recorder import Metrics
from spanpost.receivers.alerts_http import PATHS
from tests.conftest import find

ROOT = Path(__file__).parent.parent
RULES = ROOT / "grafana" / "rules"
NAMES = re.compile(r"\bspanpost_[a-z_]+\b")


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Return all files that the script would write."""
    made: dict[str, str] = runpy.run_path(str(ROOT / "scripts" / "write_grafana.py"))["files"]()
    return made


@pytest.mark.slow
def test_files_are_current(files: dict[str, str]) -> None:
    """Each file is what `python scripts/write_grafana.py` would write, and no other file exists."""
    assert [name for name, text in files.items() if (ROOT / name).read_text() != text] == []
    kept = [*(ROOT / "grafana" / "dashboards").glob("*.json"), *(ROOT / "docs" / "runbooks").glob("*.md")]
    assert {str(path.relative_to(ROOT)) for path in kept} <= files.keys()


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, with those of folded rows and without the rows themselves."""
    found = [each for panel in board["panels"] for each in (panel, *panel.get("panels", ()))]
    return [panel for panel in found if panel["type"] != "row"]


def exposed() -> set[str]:
    names = set()
    for metric in Metrics().registry._collector_to_names:
        name, kind = metric._name, metric._type  # type: ignore[attr-defined]
        names |= {f"{name}_total"} if kind == "counter" else {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return names


def test_only_metrics_that_exist_are_asked_for(files: dict[str, str]) -> None:
    """No dashboard, rule or alert names a metric that spanpost does not expose."""
    expressions = [
        rule["expr"]
        for group in yaml.safe_load(files["grafana/rules/spanpost.yml"])["groups"]
        for rule in group["rules"]
    ]
    for name in ("fleet", "task", "spend", "pipeline"):
        board = json.loads(files[f"grafana/dashboards/{name}.json"])
        expressions += [t["expr"] for panel in panels_of(board) for t in panel["targets"] if "expr" in t]
        expressions += [
            str(v.get("query")) for v in board["templating"]["list"] if "label_values" in str(v.get("query"))
        ]
    assert len(expressions) > 50
    assert {name for expr in expressions for name in NAMES.findall(expr)} - exposed() == set()


def test_panels_are_whole(files: dict[str, str]) -> None:
    """Each panel has a description, a query and a size, and overlaps no other."""
    for name in ("fleet", "task", "spend", "pipeline"):
        board: dict[str, Any] = json.loads(files[f"grafana/dashboards/{name}.json"])
        assert board["uid"] == f"spanpost-{name}"
        # Of a fleet they would hide the curves; of one task they are the point.
        assert {each["enable"] for each in board["annotations"]["list"]} == {name == "task"}
        places = set()
        for panel in panels_of(board):
            assert panel["description"]
            assert panel["targets"]
            place = panel["gridPos"]
            places_of_panel = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24
            assert places_of_panel & places == set(), panel["title"]
            places |= places_of_panel


RANGES = re.compile(r"\b(rate|irate|increase)\(\s*\w+(?:\{[^}]*\})?\[([^\]]+)\]")
COUNTERS = re.compile(r"(\w+)\(\s*spanpost_\w+_total(?:\{[^}]*\})?(\[)?")


def test_dashboards_keep_the_rules_of_grafanas_linter(files: dict[str, str]) -> None:
    """Grafana's dashboard-linter would find nothing but what `grafana/dashboards/.lint` says of PostgreSQL.

    Datasources and the scrape job are variables, queries of variables follow the time range, rates use
    `$__rate_interval`, counters have a rate, panels have titles, descriptions, units and a word for no value, and
    the schema is one that Grafana 11 reads.
    """
    for name in ("fleet", "task", "spend", "pipeline"):
        board = json.loads(files[f"grafana/dashboards/{name}.json"])
        variables = {each["name"]: each for each in board["templating"]["list"]}
        sources = {f"${{{key}}}" for key, each in variables.items() if each["type"] == "datasource"}
        assert all(key.endswith("_datasource}") for key in sources)
        assert all(each["refresh"] == 2 for each in variables.values() if each["type"] == "query")
        assert board["editable"] is False
        assert board["schemaVersion"] == 39
        assert not any("placement" in link for link in board["links"])
        asked = [target["expr"] for panel in panels_of(board) for target in panel["targets"] if "expr" in target]
        if asked:
            assert variables["job"]["allValue"] == ".+"
            assert variables["job"]["multi"] is True
        for expr in asked:
            assert all('job=~"$job"' in found for found in re.findall(r"\bspanpost_\w+(?:\{[^}]*\})?", expr)), expr
            assert all(
                interval == "$__rate_interval" for call, interval in RANGES.findall(expr) if call != "increase"
            ), expr
            assert all(
                call in ("rate", "irate", "increase") and is_ranged for call, is_ranged in COUNTERS.findall(expr)
            ), expr
        for panel in panels_of(board):
            assert panel["title"]
            assert {panel["datasource"]["uid"]} | {
                each["datasource"]["uid"] for each in panel["targets"] if "datasource" in each
            } <= sources
            assert panel["fieldConfig"]["defaults"]["noValue"]
            has_words = panel["type"] == "traces" or panel["fieldConfig"]["defaults"].get("mappings")
            assert has_words or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.slow
@pytest.mark.needs("promtool")
def test_every_alert_fires_and_stays_quiet(files: dict[str, str]) -> None:
    """promtool accepts the rules, and each alert's two cases have the expected results."""
    tests = sorted(path.name for path in RULES.glob("*.test.yml"))
    cases = [case for name in tests for case in yaml.safe_load(files[f"grafana/rules/{name}"])["tests"]]
    alerts = {
        r["alert"]
        for g in yaml.safe_load(files["grafana/rules/spanpost.yml"])["groups"]
        for r in g["rules"]
        if "alert" in r
    }
    assert {case["name"] for case in cases} == {
        f"{alert} {what}" for alert in alerts for what in ("fires", "stays quiet")
    }
    for command in (["check", "rules", "spanpost.yml"], ["test", "rules", *tests]):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES, capture_output=True, text=True, check=False, timeout=110
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.needs("promtool")
def test_slack_actions_are_counted_by_type(tmp_path: Path) -> None:
    """The recording rule `slack_action_count` has one series for each verb of people in Slack, and no other source."""
    counted = 'spanpost_interventions_total{{verb="{}",result="{}",source="{}"}}'
    series = [("cancel", "done", "slack", 2), ("cancel", "refused", "slack", 1), ("approve", "done", "slack", 5)]
    cases = {
        "rule_files": [str(RULES / "spanpost.yml")],
        "tests": [
            {
                "input_series": [
                    {"series": counted.format(verb, result, source), "values": f"{n}x5"}
                    for verb, result, source, n in [*series, ("cancel", "done", "api", 9)]
                ],
                "promql_expr_test": [
                    {
                        "expr": "slack_action_count",
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": 'slack_action_count{type="approve"}', "value": 5},
                            {"labels": 'slack_action_count{type="cancel"}', "value": 3},
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "cases.yml"
    path.write_text(yaml.safe_dump(cases))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_alerts_are_the_same(files: dict[str, str]) -> None:
    """Grafana's alerts query the same as Prometheus' rules, with valid unique ids."""
    rules = [
        r for g in yaml.safe_load(files["grafana/rules/spanpost.yml"])["groups"] for r in g["rules"] if "alert" in r
    ]
    provisioned = yaml.safe_load(files["grafana/provisioning/alerting/spanpost.yml"])["groups"][0]["rules"]
    assert [(r["alert"], r["expr"]) for r in rules] == [
        (r["title"], r["data"][0]["model"]["expr"]) for r in provisioned
    ]
    uids = [r["uid"] for r in provisioned]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in uids)
    notes = [r["annotations"] for r in rules]
    assert all((ROOT / "docs" / said["runbook_url"].split("/docs/")[1]).is_file() for said in notes)
    assert {said["dashboard"] for said in notes} <= {
        f"/d/spanpost-{path.stem}" for path in (ROOT / "grafana/dashboards").glob("*.json")
    }
    assert all(
        said["summary"] and said["description"] and r["labels"]["severity"]
        for said, r in zip(notes, rules, strict=True)
    )


def test_every_datasource_that_is_named_is_provisioned(files: dict[str, str]) -> None:
    """Dashboards, their links, alerts and exemplars name the provisioned datasources, all of them and no others.

    A dashboard's variable stands for the one datasource of its type.
    """
    provisioned = yaml.safe_load(files["grafana/provisioning/datasources/spanpost.yml"])["datasources"]
    types = {one["type"]: one["uid"] for one in provisioned}
    named = set()
    for name, text in files.items():
        found = re.findall(r"(?:datasourceUid: |%22datasource%22:%22|%22uid%22:%22)([\w-]+|\$\{\w+\})", text)
        if name.endswith(".json"):
            listed = json.loads(text)["templating"]["list"]
            variables = {f"${{{one['name']}}}": types[one["query"]] for one in listed if one["type"] == "datasource"}
            found += re.findall(r'"datasource": {[^}]*"uid": "([^"]+)"', text)
            found = [variables.get(uid, uid) for uid in found]
        named |= set(found)
    assert named - {"__expr__", "grafana", "-- Grafana --"} == set(types.values())
    assert len(types) == len(provisioned) == 3


@pytest.mark.needs("amtool")
def test_alertmanagers_configuration_is_one() -> None:
    """Alertmanager's own tool accepts the shipped configuration, and its address is an endpoint of the
    gateway.
    """
    path = ROOT / "grafana" / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        [find("amtool"), "check-config", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [receiver] = yaml.safe_load(path.read_text())["receivers"]
    assert {urlsplit(hook["url"]).path for hook in receiver["webhook_configs"]} <= PATHS.keys()
