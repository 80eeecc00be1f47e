"""What five budgets that act cost in the recording path, beside none, in the same run.

    python bench/budgets.py [--spans 20000] [--batch 512] [--system] [--rounds 5]

The load is that of `bench/store.py`: traces of an agent with model and tool calls, whole in a batch and spread
over several, recorded one batch at a time and four at once. The budgets are of the tenant, of each agent and of
each task, in calls, tokens and wall time, one of them rolling; none is used up. Rounds with and without them
alternate; each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from datetime import timedelta

from options import parse, postgres

from spanpost.routing.routes import Routes
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.tasks.budgets import Budget
from spanpost.tasks.folded import FoldRules
from store import IN_TRACE, split, through, traces, whole

_MUCH = 10**12
FIVE = (
    Budget(name="day", limit_calls=_MUCH, at_limit="pause"),
    Budget(name="agents", limit_tokens=_MUCH, per=("agent.name",), at_limit="cancel"),
    Budget(name="rolling", limit_calls=_MUCH, rolling=timedelta(hours=24), at_limit="ask"),
    Budget(name="task", limit_tool_calls=_MUCH, period="task", at_limit="pause"),
    Budget(name="time", limit_time=timedelta(days=36_000), period="month", at_limit="cancel"),
)


async def main(dsn: str, spans: int, size: int, rounds: int) -> None:
    """Measure and print a table."""
    await upgrade(dsn)
    routes = Routes(sinks=("console",))
    rules = {"none": FoldRules(routes=routes), "five": FoldRules(routes=routes, budgets=FIVE)}
    store = PostgresStore(dsn, rules=rules["none"])
    await store.open()
    count, number = max(spans // IN_TRACE, 1), 1
    took: dict[tuple[str, int, str], list[float]] = {}
    processor: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(rounds):
        for shape, at_once in ((whole, 1), (whole, 4), (split, 1), (split, 4)):
            for name, given in rules.items():
                store.rules = given
                batches = shape(traces(number, count), size)
                number += count
                key, began = (shape.__name__, at_once, name), time.process_time()
                took.setdefault(key, []).append(await through(store, batches, at_once) / (count * IN_TRACE) * 1e6)
                processor.setdefault(key, []).append((time.process_time() - began) / (count * IN_TRACE) * 1e6)
    await store.close()
    print("| traces | batches at once | none, µs a span | five, µs a span | ratio | ratio of processor time |")
    print("|---|---|---|---|---|---|")
    for shape_name, at_once in dict.fromkeys((key[0], key[1]) for key in took):
        none, five = (statistics.median(took[shape_name, at_once, name]) for name in rules)
        cpu = [statistics.median(processor[shape_name, at_once, name]) for name in rules]
        print(f"| {shape_name} | {at_once} | {none:.0f} | {five:.0f} | {five / none:.2f} | {cpu[1] / cpu[0]:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--system", action="store_true")
    asked = parse(parser, {"spans": 640, "batch": 128, "rounds": 1})
    with postgres(asked) as dsn:
        asyncio.run(main(dsn, asked.spans, asked.batch, asked.rounds))
