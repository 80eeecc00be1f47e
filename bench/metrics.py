"""Scrape time and size at 50 agents × 20 task types × 10 models; the cap under hostile label values; the
cost of counting.

python bench/metrics.py
"""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from decimal import Decimal
from statistics import median
from uuid import UUID

from options import parse

from spanpost.metrics.recorder import Metrics
from spanpost.model.readings import Role
from spanpost.model.recorded import FinalizedUsage, Recorded, Timed
from spanpost.model.usage import Usage
from spanpost.testing.builders import a_task

USE = Usage(input=1000, output=50, cache_read=400, cache_write=10, reasoning=5, cost_usd=Decimal("0.01"))


def a_batch(number: int, agent: str, sort: str, model: str) -> Recorded:
    """Return the observations of one task with three calls."""
    task = a_task(
        uid=UUID(int=number + 1),
        task_id=str(number),
        agent_name=agent,
        type=sort,
        model=model,
        environment="prod",
        status="complete",
    )
    assert task.started_at is not None
    task = type(task)(
        **{**{f: getattr(task, f) for f in task.__struct_fields__}, "ended_at": task.started_at + timedelta(seconds=9)}
    )
    calls = [Timed(task.uid, role, 1.0, False, model, task.trace_id) for role in (Role.LLM, Role.TOOL, Role.STEP)]
    finalized = FinalizedUsage(agent_name=agent, model=model, environment="prod", tenant="default", calls=1, usage=USE)
    return Recorded(tasks=[task], started=[task.uid], ended=[task.uid], timed=calls, finalized=[finalized])


def scraped(metrics: Metrics) -> tuple[int, float, float, float]:
    """Return the series, the page's size in MB, and seconds for a page of text and of OpenMetrics."""
    took: dict[str, list[float]] = {"": [], "application/openmetrics-text; version=1.0.0": []}
    size = 0
    for accept, found in took.items():
        for _ in range(5):
            began = time.process_time()
            page = metrics.page(accept)[1]
            found.append(time.process_time() - began)
            size = max(size, len(page))
    # Processor time of this process: other work on the machine is not included.
    series = sum(len(metric.samples) for metric in metrics.registry.collect())
    return series, size / 1e6, *(median(found) for found in took.values())


def shown(what: str, metrics: Metrics, each: float) -> None:
    """Print a row."""
    series, size, text, openmetrics = scraped(metrics)
    print(f"| {what} | {series:,} | {size:.1f} | {text:.2f} | {openmetrics:.2f} | {each * 1e6:.0f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--sorts", type=int, default=20)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--hostile", type=int, default=50_000, help="tasks whose every name is new")
    asked = parse(parser, {"agents": 5, "sorts": 4, "models": 3, "hostile": 100})
    print(
        "| load | series | page, MB | text, s CPU | OpenMetrics, s CPU | counting a task, µs CPU "
        "|\n|---|---|---|---|---|---|"
    )
    combinations = [
        (f"agent-{a}", f"sort-{s}", f"model-{m}")
        for a in range(asked.agents)
        for s in range(asked.sorts)
        for m in range(asked.models)
    ]
    for what, names in (
        (f"{asked.agents} agents × {asked.sorts} sorts × {asked.models} models", combinations),
        (f"{asked.agents} agents, one combination of 25", combinations[::25]),
        (
            f"hostile: {asked.hostile:,} tasks, every name new",
            [(f"a{i}", f"s{i}", f"m{i}") for i in range(asked.hostile)],
        ),
    ):
        metrics, batches = Metrics(), [a_batch(i, *name) for i, name in enumerate(names)]
        began = time.process_time()
        for batch in batches:
            metrics.recorded(batch)
        shown(what, metrics, (time.process_time() - began) / len(batches))


if __name__ == "__main__":
    main()
