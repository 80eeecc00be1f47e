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


def test_files_are_current(files: dict[str, str]) -> None:
    """Each file is what `python scripts/write_grafana.py` would write, and no other file exists."""
    assert [name for name, text in files.items() if (ROOT / name).read_text() != text] == []
    kept = [*(ROOT / "grafana" / "dashboards").glob("*.json"), *(ROOT / "docs" / "runbooks").glob("*.md")]
    assert {str(path.relative_to(ROOT)) for path in kept} <= files.keys()


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
        expressions += [t["expr"] for panel in board["panels"] for t in panel["targets"] if "expr" in t]
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
        assert board["annotations"]["list"][0]["enable"] is True
        places = set()
        for panel in board["panels"]:
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
        found = re.findall(r"(?:datasourceUid: |%22datasource%22:%22|%22uid%22:%22)([\w-]+)", text)
        if name.endswith(".json"):
            listed = json.loads(text)["templating"]["list"]
            variables = {f"${{{one['name']}}}": types[one["query"]] for one in listed if one["type"] == "datasource"}
            found += [variables.get(uid, uid) for uid in re.findall(r'"datasource": {[^}]*"uid": "([^"]+)"', text)]
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
