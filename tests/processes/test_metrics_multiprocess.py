"""Metrics of a server of several processes, through prometheus_client's common directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.eventually import free_port
from tests.processes.conftest import PRELUDE, Start, needs_package

pytestmark = pytest.mark.slow

WORKER = """
import sys
from spanpost.model.fleet import Fleet, OpenTasks
from spanpost.model.recorded import Recorded
from spanpost.metrics.recorder import Metrics
from spanpost.testing.builders import a_task

metrics, task = Metrics(), a_task(agent_name="coder")
metrics.recorded(Recorded(tasks=[task], started=[task.uid]))
def tasks(status, count):
    return OpenTasks(status=status, agent_name="coder", task_type=None, environment=None, tenant="t", count=count,
                     stall=1.0)
if sys.argv[1] == "first":
    metrics.fleet(Fleet(tasks=[tasks("working", 3), tasks("stalled", 1)]))
    metrics.fleet(Fleet(tasks=[tasks("working", 5)]))
else:
    metrics.fleet(None)
print(metrics.page("application/openmetrics-text; version=1.0.0")[1].decode())
"""


@pytest.mark.slow
def test_workers_show_the_sum_of_all(tmp_path: Path) -> None:
    """Each worker's page has the sum of all counters and the newest fleet figures, without exceptions."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    page = ""
    for which in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", WORKER, which],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        page = done.stdout
    shown = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page.splitlines() if line and line[0] != "#"
    }
    started = [n for name, n in shown.items() if name.startswith("spanpost_tasks_started_total{")]
    assert started == [2]
    working = {
        name: n for name, n in shown.items() if name.startswith("spanpost_tasks_open{") and 'agent="coder"' in name
    }
    assert sorted(working.values()) == [0, 5]


WEB = (
    PRELUDE
    + """
import spanpost, time
app = spanpost.attach()
def app(environ, start_response):
    # Three requests at once meet three workers: none answers before all have come.
    if environ["PATH_INFO"] == "/meet":
        open(f"met-{os.getpid()}", "w").close()
        while sum(name.startswith("met-") for name in os.listdir()) < 3:
            time.sleep(0.02)
    agent("request").end()
    spanpost.flush(20)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
)
#: As in the how-to.
CONFIG = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as response:
        return str(response.read().decode())


def shown(address: str, name: str) -> list[float]:
    return [
        float(line.rpartition(" ")[2])
        for line in get(address).splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
    ]


@pytest.mark.slow
@pytest.mark.acceptance
def test_gunicorn_with_three_workers(start: Start, tmp_path: Path, database: Database) -> None:
    """One worker serves the port with all three counts, and a killed worker's counts stay."""
    needs_package("gunicorn")
    (tmp_path / "web.py").write_text(WEB)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    common = tmp_path / "metrics"
    common.mkdir()
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--workers",
        "3",
        "--bind",
        "127.0.0.1:0",
        "--no-control-socket",
        "web:app",
    ]
    environment = {
        "DATABASE_URL": database.dsn,
        "SPANPOST_METRICS__PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(common),
    }
    server = start(command, **environment)
    assert server.process.stderr is not None
    address = next(line for line in server.process.stderr if "Listening at" in line).split("at: ")[1].split(" ")[0]
    page = f"http://127.0.0.1:{port}/metrics"
    with ThreadPoolExecutor(3) as pool:
        workers = set(pool.map(get, [f"{address}/meet"] * 3))
    assert len(workers) == 3
    assert sum(shown(page, "spanpost_tasks_started_total")) == 3
    assert shown(page, "spanpost_store_up") == [1]
    holder = next(pid for pid in workers if _listens(int(pid), port))
    killed = int(next(pid for pid in workers if pid != holder))
    os.kill(killed, signal.SIGKILL)
    next(line for line in server.process.stderr if "Booting worker" in line)
    get(f"{address}/")
    assert sum(shown(page, "spanpost_tasks_started_total")) == 4
    server.send(signal.SIGTERM)
    server.end()
    assert database.tasks == [("request", "complete")] * 4


def _listens(pid: int, port: int) -> bool:
    """Return whether a process has the socket that listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    return any(f"socket:[{inode}]" in held for inode in inodes)
