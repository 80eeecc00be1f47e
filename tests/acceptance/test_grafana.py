"""Dashboards, rules and annotations against a Prometheus and a PostgreSQL that hold what the pipeline made of a day."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost.gateway import Gateway
from spanpost.settings import load
from tests.acceptance.day import Day
from tests.acceptance.prometheus import Prometheus, lines_of, run_prometheus
from tests.conftest import ROOT, find, fresh_database, made_server

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "prometheus", "promtool"),
    pytest.mark.timeout(300),
]
HOURS, STEP = 24, 1800


@dataclass
class Observed:
    """The day, as it can be asked for."""

    prometheus: Prometheus
    dsn: str
    began: float
    ended: float

    def sql(self, statement: str, *given: Any) -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return list(await connection.fetch(statement, *given))
            finally:
                await connection.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with observed(tmp_path_factory.mktemp("day")) as made:
        yield made


@contextmanager
def observed(directory: Path) -> Iterator[Observed]:
    """A day of some 100 tasks through a gateway, its metrics as of each half hour, then scraped live. Takes about 30 s."""
    with made_server(Path(find("postgres"))) as server, fresh_database(server) as dsn:
        settings = load(
            database={"url": dsn}, metrics={"port": 0}, gateway={"http_port": 0, "grpc_port": -1},
            slack={"preview_file": str(directory / "slack.jsonl")}, news={"max_age": 3 * 86400},
            cost={"prices": {model: {"input": 2, "output": 8} for model in ("gpt-4o", "gpt-4o-mini")}},
        )  # fmt: skip
        gateway = Gateway(settings)
        gateway.start()
        try:
            pipeline, metrics = gateway.pipeline, gateway.pipeline.metrics
            assert metrics is not None
            assert pipeline.metrics_url is not None
            target = pipeline.metrics_url.split("/")[2]
            ended = time.time() - 60
            made, past, began = Day(ended), list[str](), ended - HOURS * 3600
            steps = HOURS * 3600 // STEP
            for n in range(steps + 1):
                at = began + n * STEP
                batch = list(made.step(at - 600, 2, stays_open=False))
                if n > steps - 6:
                    batch += made.step(at - 600, 1, stays_open=True)
                for part in (batch[::2], batch[1::2]):
                    pipeline.ask(pipeline.record(part))
                urllib.request.urlopen(
                    urllib.request.Request(f"{gateway.http_url}/v1/traces", b"", {"Content-Type": "application/x-protobuf"}),
                    timeout=10,
                ).close()
                metrics.fleet(pipeline.ask(pipeline.ledger.fleet()))
                past += lines_of(metrics.registry, at, {"job": "spanpost", "instance": target})
            with run_prometheus(directory, target, past, ROOT / "grafana" / "rules" / "spanpost.yml") as prometheus:
                yield Observed(prometheus, dsn, began, time.time())
        finally:
            gateway.stop()


def of_dashboards() -> list[Any]:
    found = []
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                found.append(pytest.param(panel, target, id=f"{path.stem}-{panel['title']}-{target['refId']}"))
    return found


def rich_task(day: Observed) -> str:
    """Return a task that has all that a task can have."""
    (row,) = day.sql(
        "SELECT t.task_id FROM agent_tasks t WHERE jsonb_array_length(t.approvals) > 0 AND jsonb_array_length(t.artifacts) > 0"
        " AND EXISTS (SELECT FROM deliveries d WHERE d.task_uid = t.uid AND d.mode = 'state') ORDER BY t.started_at LIMIT 1"
    )
    return str(row[0])


def expanded(sql: str, day: Observed) -> str:
    """Return SQL as Grafana sends it."""
    begins, ends = (f"to_timestamp({at})" for at in (day.began - 3600, day.ended + 3600))
    sql = re.sub(r"\$__timeFilter\(((?:[^()]|\([^()]*\))*)\)", rf"\1 BETWEEN {begins} AND {ends}", sql)
    sql = sql.replace("$__timeFrom()", begins).replace("$__timeTo()", ends)
    return sql.replace("${agent:sqlstring}", "'coder','reviewer','deployer'").replace("${task:sqlstring}", f"'{rich_task(day)}'")


def asked(expr: str, interval: str = "2h") -> str:
    """Return PromQL as Grafana sends it."""
    expr = expr.replace("$__rate_interval", interval).replace("$__range", f"{HOURS}h")
    return re.sub(r"\$(agent|environment|tenant)\b", ".*", expr)


@pytest.mark.parametrize(("panel", "target"), of_dashboards())
def test_every_panel_shows_something(day: Observed, panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Its query is answered without an error, and not by nothing: rows, or a number that is one."""
    if "rawSql" in target:
        found = day.sql(expanded(target["rawSql"], day))
        assert found
        if target["format"] == "time_series":
            assert {"time", "metric", "value"} == set(found[0].keys())
            assert any(row["value"] is not None for row in found)
        return
    if target.get("instant"):
        values = [each["value"] for each in day.prometheus.instant(asked(target["expr"]))]
    else:
        answer = day.prometheus.get("query_range", query=asked(target["expr"]), start=day.began, end=time.time(), step=STEP)
        values = [value for each in answer["result"] for value in each["values"]]
    assert any(math.isfinite(float(value)) for _, value in values), asked(target["expr"])


def test_the_figures_are_those_of_the_audit(day: Observed) -> None:
    """Tokens, cost, calls and ends that Prometheus scraped are what the tables come to, once all calls have settled."""
    day.sql("UPDATE timers SET at = now() WHERE at > now()")
    for kind, column in (("input", "input_tokens"), ("output", "output_tokens"), ("cache_read", "cache_read_tokens")):
        ((expected,),) = day.sql(f"SELECT sum({column})::float8 FROM agent_tasks")
        assert expected > 0
        day.prometheus.until(f'sum(spanpost_tokens_total{{kind="{kind}"}})', expected)
    ((cost, calls),) = day.sql("SELECT sum(cost_usd)::float8, sum(llm_calls)::float8 FROM agent_tasks")
    day.prometheus.until("sum(spanpost_cost_usd_total)", cost)
    day.prometheus.until("sum(spanpost_model_calls_total)", calls)
    day.prometheus.until("sum(spanpost_model_call_duration_seconds_count)", calls)
    for agent, status, count in day.sql(
        "SELECT agent_name, status, count(*)::float8 FROM agent_tasks WHERE ended_at IS NOT NULL GROUP BY 1, 2"
    ):
        day.prometheus.until(f'sum(spanpost_tasks_ended_total{{agent="{agent}",status="{status}"}})', count)
    for tenant, tokens in day.sql("SELECT tenant, sum(input_tokens)::float8 FROM agent_tasks GROUP BY 1"):
        day.prometheus.until(f'sum(spanpost_tokens_total{{kind="input",tenant="{tenant}"}})', tokens)
    ((tools,),) = day.sql("SELECT sum(tool_calls)::float8 FROM agent_tasks")
    day.prometheus.until("sum(spanpost_tool_call_duration_seconds_count)", tools)


def test_exemplars_lead_to_tasks(day: Observed) -> None:
    """The exemplars that Prometheus keeps name traces of tasks that are there."""
    day.prometheus.until("count(up == 1)", 1)
    found = day.prometheus.get(
        "query_exemplars", query="spanpost_task_duration_seconds_bucket", start=day.began, end=time.time() + 60
    )
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces
    known = {row[0] for row in day.sql("SELECT encode(trace_id, 'hex') FROM agent_tasks")}
    assert traces <= known


def test_annotations_are_regions_and_points(day: Observed) -> None:
    """What dashboards overlay: each task a region, questions and warnings points, all with tags; each query answers."""
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for each in json.loads(path.read_text())["annotations"]["list"]:
            found = day.sql(expanded(each["target"]["rawSql"], day))
            assert path.stem == "pipeline" or found
    rows = day.sql("SELECT * FROM grafana_annotations")
    tasks = [row for row in rows if row["kind"] == "task"]
    assert len(tasks) == day.sql("SELECT count(*) FROM agent_tasks WHERE announced")[0][0]
    assert all(row["timeend"] >= row["time"] and "https://example.org/pr/" in row["text"] for row in tasks)
    assert {"approval_requested", "approval_resolved", "error"} <= {row["kind"] for row in rows}
    assert all(row["tags"].startswith("spanpost,") and "env:prod" in row["tags"].split(",") for row in rows)


def test_every_rule_is_evaluated(day: Observed) -> None:
    """Prometheus takes the rules, and each is evaluated over real data without an error."""
    day.prometheus.until("count(spanpost:replicas)", 1)
    rules = [rule for group in day.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
