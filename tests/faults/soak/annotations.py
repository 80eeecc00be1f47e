"""A Grafana whose annotations are compared with the tasks at the end, and its faults."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from spanpost.testing.fake_grafana import FakeGrafana, GrafanaFault
from tests.faults.soak.actors import Actor
from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.world import PREPARED, World


class GrafanaThread:
    """The fake Grafana in a thread of its own, until the end of the run."""

    def __init__(self, seed: int) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.fake = FakeGrafana(seed=seed)
        asyncio.run_coroutine_threadsafe(self.fake.__aenter__(), self._loop).result(30)

    def close(self) -> None:
        """Stop it."""
        asyncio.run_coroutine_threadsafe(self.fake.__aexit__(None, None, None), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)


@PREPARED.append
def _prepared(world: World) -> tuple[dict[str, str], str]:
    thread = world.shared["grafana"] = GrafanaThread(world.seed)
    world.on_end(thread.close)
    return {
        "SPANPOST_GRAFANA__URL": thread.fake.url,
        "SPANPOST_GRAFANA__TOKEN": thread.fake.token,
        "SPANPOST_GRAFANA__PER_MINUTE": "6000",
        "SPANPOST_GRAFANA__TIMEOUT": "1",
        "SPANPOST_GRAFANA__RECONCILE_TIMEOUT": "3",
    }, ""


class Annotations(Actor):
    """Grafana itself: each task is one region at the end, and no annotation is there twice."""

    name = "annotations"

    @property
    def grafana(self) -> FakeGrafana:
        """The fake."""
        fake: FakeGrafana = self.world.shared["grafana"].fake
        return fake

    def start(self) -> None:
        """It runs already: the gateways know it from their start."""

    def close(self) -> None:
        """The deliveries that wait still arrive."""
        self.grafana.odds = {}

    def findings(self) -> Sequence[str]:
        """Return the doubled annotations, and the tasks without a region of their own."""
        shown = list(self.grafana.annotations.values())
        (self.world.directory / "annotations.json").write_text(json.dumps(shown))
        regions = Counter(
            name for one in shown if one["timeEnd"] != one["time"] for name in [_name_of(one["text"])] if name
        )
        tasks = [sent.name for sent in self.world.sent.tasks.values()]
        wrong = [name for name in tasks if regions[name] != 1]
        doubled = self.grafana.doubles()
        return [
            *([f"{len(doubled)} annotations are there twice: {doubled[:3]}"] if doubled else []),
            *([f"{len(wrong)} of {len(tasks)} tasks are not one region in Grafana: {wrong[:3]}"] if wrong else []),
        ]


def _name_of(text: str) -> str:
    """Return the name of the job that an annotation's text begins with."""
    at = text.find("Job ")
    return text[at:].split("\n")[0].split(":")[0].split(" ·")[0].split("<")[0].strip() if at >= 0 else ""


class OfGrafana(Fault):
    """A share of Grafana's calls that fail; no gateway's answers are touched."""

    part, lasts = "grafana", (3.0, 12.0)
    odds: dict[GrafanaFault, float]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = []

    def strike(self, world: World) -> None:
        grafana: FakeGrafana = world.actors["annotations"].grafana
        grafana.odds = dict.fromkeys(("POST", "PATCH", "PUT", "GET"), self.odds)

    def lift(self, world: World) -> None:
        world.actors["annotations"].grafana.odds = {}


@dealt
class GrafanaAnswersLost(OfGrafana):
    """Annotations are written, and the answer is a reset, a 500 or none at all."""

    name, tries = "Grafana loses answers", ("in-doubt", "slack-answer-lost")
    odds = {GrafanaFault.RESET_AFTER: 0.2, GrafanaFault.ERROR_AFTER: 0.2, GrafanaFault.HANG_AFTER: 0.1}  # noqa: RUF012


@dealt
class GrafanaDown(OfGrafana):
    """Each call is answered 502 or reset before it acts."""

    name, tries = "Grafana down", ("delivered", "slack-down")
    odds = {GrafanaFault.AWAY: 0.5, GrafanaFault.RESET_BEFORE: 0.5}  # noqa: RUF012
