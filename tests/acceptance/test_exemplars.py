"""Exemplars in a real Prometheus."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from spanpost.metrics.recorder import Metrics
from spanpost.model.observations import Status
from spanpost.store.memory import MemoryStore
from spanpost.testing.observed import ended
from tests.acceptance.prometheus import run_prometheus
from tests.eventually import eventually

AGENT = {"agent.task.name": "deploy", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "deployer"}
FAILS = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep", "error.type": "TimeoutError"}

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("prometheus")]


def test_prometheus_keeps_trace_and_checkpoint(tmp_path: Path) -> None:
    """Exemplars of a task's end and of a failure in Prometheus hold the recorded trace and checkpoint ids."""
    store, metrics = MemoryStore(), Metrics()
    task = ended(trace=1, span=1, name="agent", attributes=AGENT, seconds=60.0)
    tool = ended(trace=1, span=2, parent=1, name="tool", attributes=FAILS, seconds=2.0, status=Status.ERROR)
    recorded = asyncio.run(store.record([tool, task], is_whole=True))
    expected = {str(checkpoint.kind): str(checkpoint.id) for checkpoint in recorded.checkpoints}
    port = metrics.serve(port=0)
    try:
        with run_prometheus(tmp_path, f"127.0.0.1:{port}", []) as prometheus:
            metrics.recorded(recorded)
            found: dict[str, dict[str, str]] = {}

            def exemplars() -> dict[str, dict[str, str]]:
                for name in ("spanpost_task_duration_seconds_bucket", "spanpost_errors_total"):
                    for series in prometheus.get(
                        "query_exemplars", query=name, start=time.time() - 60, end=time.time() + 60
                    ):
                        found[name] = series["exemplars"][-1]["labels"]
                return found

            eventually(exemplars, lambda found: len(found) == 2)
    finally:
        metrics.close()
    trace = (1).to_bytes(16, "big").hex()
    assert found == {
        "spanpost_task_duration_seconds_bucket": {"trace_id": trace, "checkpoint_id": expected["end"]},
        "spanpost_errors_total": {"trace_id": trace, "checkpoint_id": expected["error"]},
    }
