"""Files made from the rules: for Prometheus, promtool and Grafana, the runbooks and their index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from observing.alert import Alert
from observing.datasources import PROMETHEUS
from observing.rules import ALERTS, RECORDED

#: How long an alert stays after its cause has gone: a failed scrape neither ends nor restarts it.
KEPT = "1m"
#: Where pages of docs/ are read: as pyproject.toml says, until `scripts/write_grafana.py --docs` says
#: otherwise.
DOCS: str = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["urls"][
    "Documentation"
]


def prometheus_rules() -> dict[str, Any]:
    """Return the rule file."""
    return {
        "groups": [
            {"name": "spanpost-recorded", "rules": [{"record": name, "expr": expr} for name, expr in RECORDED.items()]},
            {
                "name": "spanpost",
                "rules": [
                    {
                        "alert": a.name,
                        "expr": a.expr,
                        **({"for": a.hold} if a.hold != "0m" else {}),
                        "keep_firing_for": KEPT,
                        "labels": {"severity": a.severity},
                        "annotations": annotations(a),
                    }
                    for a in ALERTS
                ],
            },
        ]
    }


def annotations(a: Alert) -> dict[str, str]:
    """Return an alert's annotations."""
    about = {"task_status": a.about} if a.about else {}
    return about | {
        "summary": a.summary,
        "description": f"{a.means} {a.todo[0]}",
        "dashboard": f"/d/spanpost-{a.dashboard}",
        "runbook_url": f"{DOCS}/runbooks/{a.page}.md",
    }


def promtool_tests(*, of_hours: bool) -> dict[str, Any]:
    """Return cases for `promtool test rules`: each alert firing, and staying quiet; those of many hours in
    their own files.

    Rules are evaluated each minute, rules over hours each third minute: a day of minutes costs most of the
    run.
    """
    tests = []
    for a in ALERTS:
        if (a.at != "1h") is not of_hours:
            continue
        said = annotations(a)
        for name, value in a.labels.items():
            said = {key: text.replace("{{ $labels." + name + " }}", value) for key, text in said.items()}
        firing = {"exp_labels": {"severity": a.severity, **a.labels}, "exp_annotations": said}
        for series, expected in ((a.fires, [firing]), (a.quiet, [])):
            tests.append(
                {
                    "name": f"{a.name} {'fires' if expected else 'stays quiet'}",
                    "interval": "1m",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "alert_rule_test": [{"eval_time": a.at, "alertname": a.name, "exp_alerts": expected}],
                }
            )
    return {"rule_files": ["spanpost.yml"], "evaluation_interval": "3m" if of_hours else "1m", "tests": tests}


def grafana_alerts() -> dict[str, Any]:
    """Return the same alerts as Grafana provisions them. The recorded rules stay Prometheus'."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": "spanpost",
                "folder": "spanpost",
                "interval": "1m",
                "rules": [
                    {
                        "uid": f"spanpost-{a.page}"[:40],
                        "title": a.name,
                        "condition": "B",
                        "data": [
                            {
                                "refId": "A",
                                "relativeTimeRange": {"from": 600, "to": 0},
                                "datasourceUid": PROMETHEUS,
                                "model": {"refId": "A", "expr": a.expr, "instant": True},
                            },
                            {
                                "refId": "B",
                                "datasourceUid": "__expr__",
                                # The comparison is in the query, which returns nothing while all is well;
                                # its values are never negative.
                                "model": {
                                    "refId": "B",
                                    "type": "threshold",
                                    "expression": "A",
                                    "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
                                },
                            },
                        ],
                        "noDataState": "OK",
                        "execErrState": "Error",
                        "for": a.hold,
                        "keepFiringFor": KEPT,
                        "labels": {"severity": a.severity},
                        "annotations": annotations(a),
                    }
                    for a in ALERTS
                ],
            }
        ],
    }


def runbook(a: Alert) -> str:
    """Return the page of an alert."""
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(a.todo, 1))
    held = f", for {a.hold}" if a.hold != "0m" else ""
    return (
        f"# {a.name}\n\n*Made from `scripts/observing/`.*\n\n{_said(a)}. Severity: {a.severity}.\n\n{a.means}\n\n## "
        f"What to do\n\n{steps}\n\n"
        f"## Expression{held}\n\n```promql\n{a.expr}\n```\n\nDashboard: *{a.dashboard}*. "
        "[All alerts](index.md)\n"
    )


def runbook_index() -> str:
    """Return the page that lists all alerts with their runbooks."""
    rows = [f"| [{a.name}]({a.page}.md) | {a.severity} | {_said(a)} |" for a in ALERTS]
    return (
        "# Alerts and runbooks\n\n*Made from `scripts/observing/`.*\n\n"
        "Each alert of [the rules](../how-to/grafana.md#provision) has a runbook: "
        "what it means, what to do, and its expression.\n\n"
        + "\n".join(["| alert | severity | says |", "|---|---|---|", *rows])
        + "\n"
    )


def _said(a: Alert) -> str:
    """Return the summary of an alert, with the names of its labels in place of their values."""
    return re.sub(r"{{ [$]labels[.]([a-z]+) }}", r"*\1*", a.summary)
