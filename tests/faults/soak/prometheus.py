"""A genuine Prometheus, which scrapes the gateways, and the comparison of what it counted with the rows."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from spanpost.model.observations import Part
from tests.acceptance.prometheus import Prometheus
from tests.conftest import find
from tests.eventually import eventually, free_port
from tests.faults.soak.actors import Actor
from tests.faults.soak.world import PEOPLE, PORTS, Gateway, World

#: Counters, the labels by which they are compared, and the rows that they count.
#: Not by agent: a call is counted when it is final, and its task's agent may become known later.
COUNTED: dict[str, tuple[tuple[str, ...], str]] = {
    "spanpost_events_total": (("part",), "SELECT part, count(*) FROM agent_events GROUP BY 1"),
    "spanpost_checkpoints_total": (("kind",), "SELECT kind, count(*) FROM agent_checkpoints GROUP BY 1"),
    "spanpost_tasks_started_total": ((), "SELECT count(*) FROM agent_tasks"),
    "spanpost_tasks_ended_total": ((), "SELECT count(*) FROM agent_tasks WHERE ended_at IS NOT NULL"),
    "spanpost_model_calls_total": ((), "SELECT sum(calls) FROM model_usage"),
    "spanpost_tokens_total": (
        ("kind",),
        "SELECT 'input', sum(input_tokens) FROM model_usage UNION ALL "
        "SELECT 'output', sum(output_tokens) FROM model_usage",
    ),
}
#: What is no row any more when a task has joined another.
JOINED = ("spanpost_checkpoints_total", "spanpost_tasks_started_total", "spanpost_tasks_ended_total")
#: Tasks of the senders: gateways alone record them, and each of these begins and ends once.
OF_GATEWAYS = {
    "spanpost_tasks_started_total": "SELECT count(*) FROM agent_tasks WHERE agent_name = 'soaked'",
    "spanpost_tasks_ended_total": "SELECT count(*) FROM agent_tasks "
    "WHERE agent_name = 'soaked' AND ended_at IS NOT NULL",
}
#: What says that a counter may lack something: a batch that was repeated, a worker that was started again.
INCOMPLETE = ("spanpost_commit_failures_total", "spanpost_worker_restarts_total")

#: Samples of a series: labels, and the values by time.
Series = tuple[dict[str, str], list[tuple[float, float]]]


class Scraper(Actor):
    """Prometheus, which scrapes each gateway once a second."""

    name = "prometheus"
    needs: ClassVar[Sequence[str]] = ("prometheus",)
    _said = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.directory = world.directory / self.name
        self.directory.mkdir()
        self._scraped = dict[str, Gateway]()

    def start(self) -> None:
        for actor in self.world.actors.values():  # Kafka's and the tenants' record, too
            self._scraped |= {each.url.removeprefix("http://"): each for each in getattr(actor, "gateways", ())}
        self._scraped |= {each.url.removeprefix("http://"): each for each in self.world.gateways}
        self._began = time.time()
        job = {
            "job_name": "spanpost",
            "static_configs": [{"targets": list(self._scraped)}],
            "authorization": {"credentials": next(iter(PEOPLE.values()))},
        }
        config, port = self.directory / "prometheus.yml", free_port(PORTS)
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        command = [
            find("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={self.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        self.process = self.world.launch(command, self.directory / "prometheus.log")
        self._prometheus = Prometheus(port)

    def close(self) -> None:
        """Let it scrape on: deliveries are counted until the end."""

    def notes(self) -> Sequence[str]:
        return [self._said] * bool(self._said)

    def findings(self) -> Sequence[str]:
        """No counter fell but by a start of its gateway, and none counted what is no row.

        Where no gateway ended, and no batch was repeated, none counted less either.
        """
        since = time.time()
        fresh = f"min(timestamp(up) * up) > {since}"
        eventually(lambda: self._prometheus.value(fresh))
        counters = list(self._series('{__name__=~"spanpost_.+_total"}'))
        counted: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        fell = list[str]()
        for labels, samples in counters:
            times, increase = falls(samples)
            counted[labels["__name__"]].append((labels, increase))
            started = self._scraped[labels["instance"]].started
            fell += [f"{labels}: {at}" for at in times if not any(at[0] <= start <= at[1] for start in started)]
        wrong = [f"{len(fell)} falls of counters without a start of their gateway: {fell[:3]}"] * bool(fell)
        has_corrections = _sum(counted["spanpost_usage_corrections_total"]) > 0
        for name, (by, sql) in COUNTED.items():
            if has_corrections and "model_usage" in sql:
                continue  # the tables were corrected downwards, and counters are not
            rows = {
                tuple(_word(name, word) for word in row[:-1]): float(row[-1] or 0)
                for row in self.world.database.rows(sql)
            }
            for key, value in _summed(self._of_rows(name, counted[name]), by).items():
                if value > rows.get(key, 0.0):
                    wrong.append(f"{name} {key} counted {value:g}, and the database has {rows.get(key, 0.0):g}")
        is_whole = all(len(gateway.started) == 1 for gateway in self._scraped.values()) and not any(
            _sum(counted[name]) for name in INCOMPLETE
        )
        for name, sql in OF_GATEWAYS.items() if is_whole else ():
            [(rows_of_them,)] = self.world.database.rows(sql)
            value = _summed(counted[name], ("agent",)).get(("soaked",), 0.0)
            if value != rows_of_them:
                wrong.append(f"{name} counted {value:g} of the senders' tasks, and the database has {rows_of_them}")
        events = _sum(counted["spanpost_events_total"])
        equal = "equal to the rows" if is_whole else "at most the rows: gateways ended or batches were repeated"
        self._said = f"Prometheus: {len(counters)} counters, {events:g} rows counted, {equal}"
        return wrong

    def _of_rows(self, name: str, series: list[tuple[dict[str, str], float]]) -> list[tuple[dict[str, str], float]]:
        """Leave out the tasks of the attacked gateway: its traces join one another later."""
        attacked = self.world.actors["tenants"].gateway.url.removeprefix("http://")
        return [each for each in series if name not in JOINED or each[0]["instance"] != attacked]

    def _series(self, selector: str) -> Iterator[Series]:
        """Yield all samples since the start of the run."""
        seconds = int(time.time() - self._began) + 60
        for each in self._prometheus.instant(f"{selector}[{seconds}s]"):
            yield each["metric"], [(at, float(value)) for at, value in each["values"]]


def falls(samples: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], float]:
    """Return between which times a counter fell, and its whole increase from 0, as Prometheus' resets have it."""
    fell, increase = [], samples[0][1] if samples else 0.0
    for (before, was), (after, value) in pairwise(samples):
        if value < was:
            fell.append((before, after))
        increase += value if value < was else value - was
    return fell, increase


def _sum(series: Iterable[tuple[dict[str, str], float]]) -> float:
    return sum(value for _, value in series)


def _summed(series: Iterable[tuple[dict[str, str], float]], by: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Return the sums by the values of these labels."""
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for labels, value in series:
        found[tuple(labels.get(label, "") for label in by)] += value
    return dict(found)


def _word(name: str, value: Any) -> str:
    """Return a column's value as the label has it."""
    return Part(value).name.lower() if name == "spanpost_events_total" else "unknown" if value is None else str(value)
