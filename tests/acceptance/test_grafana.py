"""Dashboards, rules and annotations with a Prometheus and a PostgreSQL that hold a recorded day."""

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

from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.store.embedded_roles import READER
from spanpost.testing.postgres import as_role
from tests.acceptance.day import Day
from tests.acceptance.prometheus import Prometheus, lines_of, run_prometheus
from tests.conftest import ROOT, WRITER, fresh_database
from tests.test_grafana_files import panels_of

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "prometheus", "promtool"),
]
HOURS, STEP = 24, 1800


@dataclass
class Observed:
    """The day, for queries."""

    prometheus: Prometheus
    dsn: str
    #: As Grafana's role reads it.
    reading: str
    began: float
    ended: float

    def hurry(self) -> None:
        """Make all waiting timers due now."""
        self.sql("UPDATE timers SET at = now() WHERE at > now()", dsn=self.dsn)

    def sql(self, statement: str, *given: Any, dsn: str = "") -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(dsn or self.reading)
            try:
                return list(await connection.fetch(statement, *given))
            finally:
                await connection.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def day(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with fresh_database(server) as dsn, observed(tmp_path_factory.mktemp("day"), dsn) as made:
        yield made


@contextmanager
def observed(directory: Path, dsn: str) -> Iterator[Observed]:
    """A day of some 100 tasks through a gateway, its metrics as of each half hour, then scraped live. Takes about 30 s.

    The gateway has a writer's rights in the database, and the queries have Grafana's."""
    settings = load(
        database={"url": as_role(dsn, WRITER), "data_dir": directory / "data"}, metrics={"port": 0},
        gateway={"http_port": 0, "grpc_port": -1}, slack={"preview_file": str(directory / "slack.jsonl")},
        notifications={"max_age": 3 * 86400},
        cost={"prices": {"gpt-4o": {"input": 2, "output": 8}, "gpt-4o-mini": {"input": 0.5, "output": 2}}},
        budgets=[
            {"name": "all", "period": "month", "limit_usd": 80},
            {"name": "teams", "period": "year", "limit_usd": 50, "per": ["team"]},
            {"name": "agents", "limit_tokens": 20_000_000, "per": ["agent"]},
        ],
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
            if n == steps:
                batch += made.step(at - 600, 1, retries=True)
            for part in (batch[::2], batch[1::2]):
                pipeline.ask(pipeline.record(part))
            urllib.request.urlopen(
                urllib.request.Request(
                    f"{gateway.http_url}/v1/traces", b"", {"Content-Type": "application/x-protobuf"}
                ),
                timeout=60,
            ).close()
            metrics.fleet(pipeline.ask(pipeline.store.fleet()))
            if n == steps // 2:
                pipeline.force_flush(60)
                assert metrics.registry.get_sample_value("spanpost_deliveries_age_seconds_count", {"sink": "slack"}), (
                    "nothing was delivered"
                )
            past += lines_of(metrics.registry, at, {"job": "spanpost", "instance": target})
        with run_prometheus(directory, target, past, ROOT / "grafana" / "rules" / "spanpost.yml") as prometheus:
            yield Observed(prometheus, dsn, as_role(dsn, READER), began, time.time())
    finally:
        gateway.stop()


def of_dashboards() -> list[Any]:
    found = []
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for panel in panels_of(json.loads(path.read_text())):
            for target in panel.get("targets", ()):
                found.append(pytest.param(panel, target, id=f"{path.stem}-{panel['title']}-{target['refId']}"))
    return found


def rich_task(day: Observed) -> str:
    """Return a task with all optional parts."""
    (row,) = day.sql(
        "SELECT t.task_id FROM agent_tasks t WHERE jsonb_array_length(t.approvals) > 0"
        " AND jsonb_array_length(t.artifacts) > 0"
        " AND EXISTS (SELECT FROM deliveries d WHERE d.task_uid = t.uid AND d.mode = 'state') "
        "ORDER BY t.started_at LIMIT 1"
    )
    return str(row[0])


def expanded(sql: str, day: Observed) -> str:
    """Return SQL as Grafana sends it."""
    begins, ends = (f"to_timestamp({at})" for at in (day.began - 3600, day.ended + 3600))
    sql = re.sub(r"\$__timeFilter\(((?:[^()]|\([^()]*\))*)\)", rf"\1 BETWEEN {begins} AND {ends}", sql)
    sql = sql.replace("$__timeFrom()", begins).replace("$__timeTo()", ends)
    sql = sql.replace("${environment:sqlstring}", "'prod'").replace("${tenant:sqlstring}", "'acme','globex'")
    return (
        sql.replace("${agent:sqlstring}", "'coder','reviewer','deployer'")
        .replace("${task:sqlstring}", f"'{rich_task(day)}'")
        .replace("${slack}", "https://acme.slack.com")
        .replace("$objective", "95")
    )


def asked(expr: str, interval: str = "2h") -> str:
    """Return PromQL as Grafana sends it."""
    expr = expr.replace("$__rate_interval", interval).replace("$__range", f"{HOURS}h").replace("$objective", "95")
    return re.sub(r"\$(job|instance|agent|environment|tenant)\b", ".+", expr)


@pytest.mark.parametrize(("panel", "target"), of_dashboards())
def test_every_panel_has_data(day: Observed, panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Each panel's query returns without an error rows, or a valid number; those about Kafka, which the day has not,
    no error alone: tests/faults/test_kafka.py reads their metrics.
    """
    if panel["type"] == "traces":
        [hidden] = [each["query"] for each in variables_of("task") if each["name"] == "trace"]
        [[trace_id]] = day.sql(expanded(hidden, day))
        assert target["query"] == "${trace}"
        assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
        return
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
        answer = day.prometheus.get(
            "query_range", query=asked(target["expr"]), start=day.began, end=time.time(), step=STEP
        )
        values = [value for each in answer["result"] for value in each["values"]]
    has_figures = any(math.isfinite(float(value)) for _, value in values)
    assert has_figures is ("spanpost_kafka_" not in target["expr"]), asked(target["expr"])


def test_the_figures_are_those_of_the_audit(day: Observed) -> None:
    """Tokens, cost, calls and ends that Prometheus scraped equal the tables, once all calls are finalized."""
    day.hurry()
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


def variables_of(name: str) -> list[dict[str, Any]]:
    """Return the variables of a dashboard."""
    found: list[dict[str, Any]] = json.loads((ROOT / "grafana" / "dashboards" / f"{name}.json").read_text())[
        "templating"
    ]["list"]
    return found


def panel_of(name: str, title: str) -> str:
    """Return the SQL of a dashboard's panel."""
    panels = panels_of(json.loads((ROOT / "grafana" / "dashboards" / f"{name}.json").read_text()))
    [found] = [panel["targets"][0]["rawSql"] for panel in panels if panel["title"] == title]
    return str(found)


def test_panels_show_what_the_spans_say(day: Observed) -> None:
    """Dashboards and counters show the sums of the spans' attributes: each call once, under its model.

    The expected sums are taken from the attributes as sent, without spanpost's own columns.
    """
    day.hurry()
    prices = {"gpt-4o": (2, 8), "gpt-4o-mini": (0.5, 2)}
    said = day.sql(
        "SELECT e.attributes->>'gen_ai.request.model' AS model, e.resource->>'service.name' AS agent, "
        "e.resource->>'agent.team' AS team,"
        " count(*) AS calls, sum((e.attributes->>'gen_ai.usage.input_tokens')::bigint)::bigint AS input,"
        " sum((e.attributes->>'gen_ai.usage.output_tokens')::bigint)::bigint AS output"
        " FROM agent_events e WHERE e.part = 0 AND e.attributes->>'gen_ai.operation.name' = 'chat' GROUP BY 1, 2, 3"
    )

    def cost(row: Any) -> float:
        return float(row["input"] * prices[row["model"]][0] + row["output"] * prices[row["model"]][1]) / 1e6

    for model in prices:
        rows = [row for row in said if row["model"] == model]
        day.prometheus.until(f'sum(spanpost_model_calls_total{{model="{model}"}})', sum(row["calls"] for row in rows))
        day.prometheus.until(
            f'sum(spanpost_tokens_total{{kind="input",model="{model}"}})', sum(row["input"] for row in rows)
        )
        day.prometheus.until(f'sum(spanpost_cost_usd_total{{model="{model}"}})', sum(map(cost, rows)))
    assert {row[0]: (row[1], row[2], row[3]) for row in day.sql(expanded(panel_of("spend", "By model"), day))} == {
        model: tuple(sum(row[field] for row in said if row["model"] == model) for field in ("calls", "input", "output"))
        for model in prices
    }
    assert {row[0]: (row[2], row[3]) for row in day.sql(expanded(panel_of("spend", "By agent"), day))} == {
        agent: tuple(sum(row[field] for row in said if row["agent"] == agent) for field in ("calls", "input"))
        for agent in {row["agent"] for row in said}
    }
    [[shown]] = day.sql(expanded(panel_of("spend", "Cost in this range"), day))
    assert shown == pytest.approx(sum(map(cost, said)))
    [[shown]] = day.sql(expanded(panel_of("spend", "Tokens in this range"), day))
    assert shown == sum(row["input"] + row["output"] for row in said)
    budgets = day.sql(expanded(panel_of("spend", "Budgets"), day))
    teams: dict[str, float] = {}
    for row in budgets:
        if row["Budget"] == "teams":
            teams[row["Of"]] = teams.get(row["Of"], 0) + row["Spent"]
    assert teams == pytest.approx(
        {team: sum(cost(row) for row in said if row["team"] == team) for team in ("red", "blue")}
    )
    ended = day.sql(
        "SELECT count(*) AS all, count(*) FILTER (WHERE attributes->>'error.type' = 'BuildFailed') AS failed "
        "FROM agent_events WHERE part = 0 AND attributes->>'gen_ai.operation.name' = 'invoke_agent'"
    )[0]
    assert day.sql(expanded(panel_of("fleet", "Ended in this range"), day))[0][0] == ended["all"]
    assert day.sql(expanded(panel_of("fleet", "Failed"), day))[0][0] == pytest.approx(ended["failed"] / ended["all"])


def test_links_lead_where_they_say(day: Observed) -> None:
    """A task in a table links to its dashboard and time, its trace to its spans, its thread to Slack."""
    row = day.sql(expanded(panel_of("fleet", "Newest tasks"), day))[-1]
    [(started, ended)] = day.sql(
        "SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM ended_at)::float8 FROM agent_tasks "
        "WHERE task_id = $1",
        row["id"],
    )
    assert row["from"] / 1000 < started <= ended < row["to"] / 1000
    links = {row["Where"]: row["Link"] for row in day.sql(expanded(panel_of("task", "Threads and links"), day))}
    assert re.fullmatch(r"https://acme\.slack\.com/archives/[^/]+/p[0-9]+", links["slack"])
    assert links["pr"].startswith("https://example.org/pr/")
    assert all(len(row["Trace"]) == 32 for row in day.sql(expanded(panel_of("task", "Task"), day)))


def test_exemplars_lead_to_tasks(day: Observed) -> None:
    """The exemplars in Prometheus name traces of existing tasks."""
    day.prometheus.until("count(up == 1)", 1)
    found = day.prometheus.get(
        "query_exemplars", query="spanpost_task_duration_seconds_bucket", start=day.began, end=time.time() + 60
    )
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces
    known = {row[0] for row in day.sql("SELECT encode(trace_id, 'hex') FROM agent_tasks")}
    assert traces <= known


def test_annotations_are_regions_and_points(day: Observed) -> None:
    """Dashboards overlay each task as a region, questions and warnings as points, all with tags; each query
    works.
    """
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for each in json.loads(path.read_text())["annotations"]["list"]:
            found = day.sql(expanded(each["target"]["rawSql"], day))
            assert path.stem == "pipeline" or found  # nothing stalls on this day
    rows = day.sql("SELECT * FROM grafana_annotations")
    tasks = [row for row in rows if row["kind"] == "task"]
    assert len(tasks) == day.sql("SELECT count(*) FROM agent_tasks WHERE announced")[0][0]
    assert all(row["timeend"] >= row["time"] and "https://example.org/pr/" in row["text"] for row in tasks)
    assert {"approval_requested", "approval_resolved", "error"} <= {row["kind"] for row in rows}
    assert all(row["tags"].startswith("spanpost,") and "env:prod" in row["tags"].split(",") for row in rows)


def test_every_rule_is_evaluated(day: Observed) -> None:
    """Prometheus accepts the rules, and evaluates each over real data without an error."""
    day.prometheus.until("count(spanpost:replicas)", 1)
    rules = [rule for group in day.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
