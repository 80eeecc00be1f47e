"""Metrics of a server of many processes, through prometheus_client's common directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = """
import sys
from spanpost.domain.fleet import Fleet, OpenTasks
from spanpost.domain.records import Recorded
from spanpost.metrics import Metrics
from spanpost.testing.builders import a_task

metrics, task = Metrics(), a_task(agent_name="coder")
metrics.recorded(Recorded(tasks=[task], started=[task.uid]))
def tasks(status, count):
    return OpenTasks(status=status, agent_name="coder", task_type=None, environment=None, tenant="t", count=count, silence=1.0)
if sys.argv[1] == "first":
    metrics.fleet(Fleet(tasks=[tasks("working", 3), tasks("stalled", 1)]))
    metrics.fleet(Fleet(tasks=[tasks("working", 5)]))
else:
    metrics.fleet(None)
print(metrics.page("application/openmetrics-text; version=1.0.0")[1].decode())
"""


@pytest.mark.slow
def test_workers_show_the_sum_of_all(tmp_path: Path) -> None:
    """Each worker's page counts what all counted; the fleet is what the one whose turn it is said last, and nothing raises."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    page = ""
    for which in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", WORKER, which], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        page = done.stdout
    shown = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page.splitlines() if line and line[0] != "#"}
    started = [n for name, n in shown.items() if name.startswith("spanpost_tasks_started_total{")]
    assert started == [2]
    working = {name: n for name, n in shown.items() if name.startswith("spanpost_tasks_open{") and 'agent="coder"' in name}
    assert sorted(working.values()) == [0, 5]
