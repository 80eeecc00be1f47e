"""Write grafana/, docs/runbooks and Kubernetes' rules from `scripts/observing`: rules, their tests, Grafana's alerts,
dashboards.

``python scripts/write_grafana.py``. A test fails when a file is outdated. ``--docs URL`` has runbook links
lead to pages of your own: those of docs/ below that address, in place of pyproject.toml's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from observing import datasources, rule_files, rules  # noqa: E402
from observing.dashboards import dashboards  # noqa: E402


def as_yaml(document: dict[str, Any]) -> str:
    """Return YAML with a header that names its source."""
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made from scripts/observing by scripts/write_grafana.py.\n{text}"


def prometheus_rule(rules: dict[str, Any]) -> dict[str, Any]:
    """Return the rules as an object of the Prometheus Operator."""
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}
    return kind | {"metadata": {"name": "spanpost"}, "spec": rules}


def files() -> dict[str, str]:
    """Return all files by their path in the project."""
    found = {
        "grafana/rules/spanpost.yml": as_yaml(rule_files.prometheus_rules()),
        "grafana/rules/spanpost.test.yml": as_yaml(rule_files.promtool_tests(of_hours=False)),
        "grafana/rules/spanpost.hours.test.yml": as_yaml(rule_files.promtool_tests(of_hours=True)),
        "grafana/provisioning/datasources/spanpost.yml": as_yaml(datasources.provisioned()),
        "grafana/provisioning/alerting/spanpost.yml": as_yaml(rule_files.grafana_alerts()),
    }
    operated = as_yaml(prometheus_rule(rule_files.prometheus_rules()))
    found["deploy/kubernetes/components/monitoring/rules.yaml"] = operated
    found["docs/runbooks/index.md"] = rule_files.runbook_index()
    found |= {f"docs/runbooks/{a.page}.md": rule_files.runbook(a) for a in rules.ALERTS}
    return found | {f"grafana/dashboards/{name}.json": text for name, text in dashboards().items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--docs", default=rule_files.DOCS, metavar="URL", help="where pages of docs/ are read (%(default)s)"
    )
    rule_files.DOCS = parser.parse_args().docs.rstrip("/")
    for name, text in files().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
