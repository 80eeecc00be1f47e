"""The number of series, kept in bounds: label values that come from agents are few, and go when nobody uses them.

A metric's labels are *closed* (a list of ours: status, kind, outcome) or *open* (the agent's word: agent, task_type, model,
environment, tenant, error_type). Of each open label so many values are known at most, the same in all metrics; of each metric so
many combinations of them. What is beyond is ``other``: sums stay right, only who it was is lost. A combination that nothing
was counted under for `expire` seconds goes, and makes room; when it comes again it begins at 0, as after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from spanpost.metrics.labels import OTHER, UNKNOWN
from spanpost.text.sanitise import line

M = TypeVar("M", bound=MetricWrapperBase)
#: In the order in which metrics show them.
OPEN = ("agent", "task_type", "model", "environment", "tenant", "error_type")
#: Set where a server of many processes collects from files: there nothing can be taken back.
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
#: Characters of a label value.
_LONGEST = 100


class Values:
    """The values of one open label, the same for all metrics."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: As agents write them, to what is shown; and what is shown, to when it was used last.
        self._shown: dict[str, str] = {}
        self._used: dict[str, float] = {}

    def shown(self, value: str | None, now: float) -> str:
        """Return what is shown for a value."""
        if not value:
            return UNKNOWN
        shown = self._shown.get(value)
        if shown is None:
            shown = line(value, _LONGEST) or UNKNOWN
            if shown not in self._used and len(self._used) >= self._most:
                return OTHER
            if len(self._shown) >= 4 * self._most:  # many spellings of one value: known anew when they come again
                self._shown.clear()
            self._shown[value] = shown
        self._used[shown] = now
        return shown

    def touch(self, shown: str, used: float) -> None:
        """Hear that a value was used then."""
        if used > self._used.get(shown, used):
            self._used[shown] = used

    def forget(self, before: float) -> None:
        """Let go of values that were not used since then."""
        gone = {shown for shown, used in self._used.items() if used < before}
        if gone:
            self._used = {shown: used for shown, used in self._used.items() if shown not in gone}
            self._shown = {value: shown for value, shown in self._shown.items() if shown not in gone}


class MetricFamily(Generic[M]):
    """A metric with open labels among its labels."""

    def __init__(self, metric: M, labels: Sequence[str], values: dict[str, Values], most: int, clock: Callable[[], float]) -> None:
        self.metric = metric
        self._clock = clock
        self._most = most
        self._values = [values.get(label) for label in labels]
        #: Combinations of the open labels, with when they were used last and the children that they have.
        self._known: dict[tuple[str, ...], float] = {}
        self._children: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
        #: What was given before, for speed: the child, when it was used last, its combination and its label values.
        self._met: dict[tuple[str | None, ...], list[Any]] = {}

    def of(self, *given: str | None) -> M:
        """Return the child of these label values, in the order of the labels."""
        entry = self._met.get(given)
        if entry is not None:
            entry[1] = self._clock()
            return cast("M", entry[0])
        return self._meet(given)

    def _meet(self, given: tuple[str | None, ...]) -> M:
        now = self._clock()
        shown = [str(v) if known is None else known.shown(v, now) for v, known in zip(given, self._values, strict=True)]
        combination = tuple(v for v, known in zip(shown, self._values, strict=True) if known is not None)
        if combination not in self._known and len(self._known) >= self._most:
            shown = [v if known is None else OTHER for v, known in zip(shown, self._values, strict=True)]
            combination = tuple(v for v, known in zip(shown, self._values, strict=True) if known is not None)
        self._known[combination] = now
        labels = tuple(shown)
        self._children.setdefault(combination, {})[labels] = None
        child: M = self.metric.labels(*labels)
        if len(self._met) < 2 * self._most and OTHER not in shown:  # who is other now may be told apart later
            self._met[given] = [child, now, combination, shown]
        return child

    def tell_uses(self) -> None:
        """Say when what was met was used last, to those who let go."""
        for _, used, combination, shown in self._met.values():
            if used > self._known.get(combination, used):
                self._known[combination] = used
            for value, known in zip(shown, self._values, strict=True):
                if known is not None:
                    known.touch(value, used)

    def forget(self, before: float) -> None:
        """Let go of combinations that were not used since then."""
        for combination in [c for c, used in self._known.items() if used < before and set(c) != {OTHER}]:
            del self._known[combination]
            for labels in self._children.pop(combination, ()):
                self.metric.remove(*labels)
        self._met = {given: entry for given, entry in self._met.items() if entry[1] >= before}


class ShownSeries(Gauge):
    """A gauge whose series are shown all at once: who collects sees those of before or those of now, never half of them.

    A rule that sees none for a moment takes its alert back, and tells it anew.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.showing = Lock()
        super().__init__(*args, **kwargs)

    def collect(self) -> list[Metric]:
        """Return the series as they were shown last."""
        with self.showing:
            return list(super().collect())


class Gauges(MetricFamily[ShownSeries]):
    """A gauge that is told as a whole."""

    def show(
        self,
        rows: Iterable[tuple[Sequence[str | None], float]],
        together: Callable[[float, float], float],
        zeros: Iterable[Sequence[str]] = (),
    ) -> None:
        """Show these values and no others; `together` makes one of two that are known by the same labels.

        `zeros` are label values, as they are, of series that are 0.
        """
        with self.metric.showing:
            gone: set[ShownSeries] = set()
            if MULTIPROCESS in os.environ:  # nothing can be taken back there
                gone = {self.metric.labels(*labels) for children in self._children.values() for labels in children}
            else:
                self.metric.clear()
                self._known.clear()
                self._children.clear()
                self._met.clear()
            found: dict[ShownSeries, float] = {self.metric.labels(*labels): 0.0 for labels in zeros}
            for given, value in rows:
                child = self.of(*given)
                found[child] = together(found[child], value) if child in found else value
            for child, value in found.items():
                child.set(value)
            for child in gone.difference(found):
                child.set(0)


class Registry(CollectorRegistry):
    """A registry whose open labels are kept in bounds; what is old goes when it is next looked at."""

    def __init__(self, *, most_values: int, most_series: int, expire: float, clock: Callable[[], float]) -> None:
        super().__init__(auto_describe=True)
        self._clock = clock
        self._expire = expire
        self._most_series = most_series
        self._open = {label: Values(most_values) for label in OPEN}
        self._families: list[MetricFamily[Any]] = []
        #: Held by whoever counts, and while old series go.
        self.counting = Lock()

    def family(self, kind: type[M], name: str, says: str, labels: Sequence[str], **more: Any) -> MetricFamily[M]:
        """Make a metric with open labels."""
        metric = kind(name, says, labels, registry=self, **more)
        made = MetricFamily(metric, labels, self._open, self._most_series, self._clock)
        self._families.append(made)
        return made

    def gauges(self, name: str, says: str, labels: Sequence[str]) -> Gauges:
        """Make a gauge that is told as a whole."""
        # Of many processes of a server one has the turn: what it said last is the truth.
        metric = ShownSeries(name, says, labels, registry=self, multiprocess_mode="mostrecent")
        made = Gauges(metric, labels, self._open, self._most_series, self._clock)
        self._families.append(made)
        return made

    def collect(self) -> Iterator[Metric]:
        """Collect what is left when what is old has gone."""
        self.forget()
        yield from super().collect()

    def forget(self) -> None:
        """Let go of what was not used for too long."""
        if MULTIPROCESS in os.environ:
            return
        before = self._clock() - self._expire
        with self.counting:
            for family in self._families:
                family.tell_uses()
            for family in self._families:
                family.forget(before)
            for values in self._open.values():
                values.forget(before)
