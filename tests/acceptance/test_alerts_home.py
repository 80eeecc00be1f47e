"""A rule fires on metrics of an agent's telemetry, and its alert reaches the task's thread in Slack.

Prometheus, Alertmanager and the gateway are real and use the shipped rules and configuration with shorter times;
only Slack is a fake. About 10 s.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanpost.http.tokens import hash_of, new_token
from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.observed import ended, started
from tests.acceptance.prometheus import Prometheus, run_alertmanager, run_prometheus
from tests.conftest import ROOT
from tests.eventually import eventually_async

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "prometheus", "alertmanager"),
]
TOKEN = new_token()
ROOT_SPAN: dict[str, Any] = {
    "agent.task.name": "Refactor",
    "agent.name": "coder",
    "gen_ai.operation.name": "invoke_agent",
}


def shipped(url: str, directory: Path) -> str:
    """Return the shipped Alertmanager configuration, for here and with shorter times."""
    config = yaml.safe_load((ROOT / "grafana" / "alertmanager" / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "0s", "group_interval": "200ms"}
    [[hook]] = [receiver["webhook_configs"] for receiver in config["receivers"]]
    secret = directory / "token"
    secret.write_text(TOKEN)
    hook["url"] = f"{url}/alerts/alertmanager"
    hook["http_config"]["authorization"]["credentials_file"] = str(secret)
    return yaml.safe_dump(config)


def rules_of(directory: Path) -> Path:
    """Return the shipped rules, whose alerts are kept for a shorter time."""
    rules = yaml.safe_load((ROOT / "grafana" / "rules" / "spanpost.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule):
        assert rule["keep_firing_for"] == "1m"
        rule["keep_firing_for"] = "10s"
    written = directory / "rules.yml"
    written.write_text(yaml.safe_dump(rules))
    return written


class Street:
    """Everything between an agent and Slack's channel."""

    def __init__(self, gateway: Gateway, slack: FakeSlack, prometheus: Prometheus, directory: Path) -> None:
        self.gateway, self.slack, self.prometheus, self.directory = gateway, slack, prometheus, directory

    async def record(self, *batch: Any) -> None:
        """Let the pipeline record, and update its gauges at once."""
        pipeline = self.gateway.pipeline

        def work() -> None:
            pipeline.ask(pipeline.record(batch))
            assert pipeline.metrics is not None
            pipeline.metrics.fleet(pipeline.ask(pipeline.store.fleet()))

        await asyncio.to_thread(work)

    def top(self) -> list[dict[str, Any]]:
        return self.slack.workspace.channel("agents").top()

    def thread(self) -> list[str]:
        """Return the thread of the channel's first message."""
        root = self.top()[0]
        return [m["text"] for m in self.slack.workspace.channel("agents").replies(root["ts"])]


@asynccontextmanager
async def street(dsn: str, directory: Path) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(FakeSlack())
        token = {"tenant": "default", "sha256": [hash_of(TOKEN)]}
        settings = load(
            database={"url": dsn}, metrics={"port": 0},
            slack={"token": slack.token, "base_url": slack.url, "channel": "#agents"},
            gateway={"http_port": 0, "grpc_port": -1, "tokens": [token]},
        )  # fmt: skip
        gateway = Gateway(settings)
        await asyncio.to_thread(gateway.start)
        try:
            assert gateway.pipeline.metrics_url is not None
            target = gateway.pipeline.metrics_url.split("/")[2]
            alertmanager = stack.enter_context(run_alertmanager(directory, shipped(gateway.http_url, directory)))
            prometheus = stack.enter_context(
                run_prometheus(directory, target, (), rules_of(directory), alertmanager, "250ms")
            )
            yield Street(gateway, slack, prometheus, directory)
        finally:
            await asyncio.to_thread(gateway.stop)


async def test_an_alert_fires_into_the_thread_of_its_task_and_resolves_there(dsn: str, tmp_path: Path) -> None:
    """The shipped context alert appears in its task's thread and is resolved there when the task ends.

    It appears once although scrapes fail in between. An alert about no task is one message in the channel; it is
    edited when it is over.
    """
    async with street(dsn, tmp_path) as there:
        full = ROOT_SPAN | {"agent.context.used_tokens": 190_000, "agent.context.window_tokens": 200_000}
        await there.record(started(trace=1, span=1, name="agent", attributes=full))
        rule = "Warning · SpanpostContextNearlyFull: The context window of coder is more than 85 % full"
        await eventually_async(lambda: there.top() and any(rule in text for text in there.thread()))
        metrics = there.gateway.pipeline.metrics
        assert metrics is not None
        with metrics.registry.counting:  # scrapes take longer than the rule's limit
            await eventually_async(lambda: there.prometheus.value("sum_over_time(up[1s])") == 0)
        await eventually_async(lambda: there.prometheus.value("up") == 1)
        await there.record(ended(trace=1, span=1, name="agent", attributes=full))
        await eventually_async(lambda: any("Resolved · SpanpostContextNearlyFull" in text for text in there.thread()))
        assert len(there.top()) == 1, there.top()

        now = datetime.now(UTC)
        alert = {
            "startsAt": (now - timedelta(minutes=1)).isoformat(),
            "labels": {"alertname": "DiskFull", "severity": "critical"},
            "annotations": {"summary": "db1 is full"},
        }
        alertmanager = (await asyncio.to_thread(there.prometheus.get, "alertmanagers"))["activeAlertmanagers"][0]["url"]
        for ends, said in (
            ({}, "Critical · DiskFull: db1 is full"),
            ({"endsAt": now.isoformat()}, "Resolved · DiskFull"),
        ):
            request = urllib.request.Request(
                alertmanager, json.dumps([alert | ends]).encode(), {"Content-Type": "application/json"}, method="POST"
            )
            await asyncio.to_thread(lambda sent=request: urllib.request.urlopen(sent, timeout=60).close())
            await eventually_async(lambda said=said: said in there.top()[-1]["text"])
        assert len(there.top()) == 2
        assert there.slack.workspace.channel("agents").replies(there.top()[-1]["ts"]) == []
        assert sum("SpanpostContextNearlyFull" in text for text in there.thread()) == 1
