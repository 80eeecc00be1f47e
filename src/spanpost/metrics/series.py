"""Registry that limits the number of series.

A metric's labels are *closed* (a list of spanpost's: status, kind, outcome) or *open* (the agent's word:
agent, task_type, model, environment, tenant, error_type). Each open label has a maximum number of values,
which all metrics share, and each metric a maximum number of combinations. Values beyond them are counted
as ``other``: sums stay right, only the label value is lost. A combination that was not used for a while
is removed and makes room. When it comes again it starts at 0, as after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, Generic, Self, TypeVar, cast

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from spanpost.metrics.labels import OTHER, UNKNOWN, SeriesLimits
from spanpost.text.sanitise import line

M = TypeVar("M", bound=MetricWrapperBase)
#: Open labels, in the order in which metrics show them.
OPEN = ("agent", "task_type", "model", "environment", "tenant", "error_type")
#: Set where a server of several processes collects metrics from files. There no series can be removed.
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
#: Maximum length of a label value, characters.
_LONGEST = 100


class Values:
    """Values of one open label, shared by all metrics."""

    def __init__(self, most: int) -> None:
        self._maximum = most
        #: Shown value by the agent's spelling, and the last use by shown value.
        self._shown: dict[str, str] = {}
        self._used: dict[str, float] = {}

    def shown(self, value: str | None, now: float) -> str:
        """Return the shown form of a value; ``other`` when there are too many."""
        if not value:
            return UNKNOWN
        shown = self._shown.get(value)
        if shown is None:
            shown = line(value, _LONGEST) or UNKNOWN
            if shown not in self._used and len(self._used) >= self._maximum:
                return OTHER
            if len(self._shown) >= 4 * self._maximum:  # too many spellings of one value: they are learned again
                self._shown.clear()
            self._shown[value] = shown
        self._used[shown] = now
        return shown

    def touch(self, shown: str, used: float) -> None:
        """Note when a value was last used."""
        if used > self._used.get(shown, used):
            self._used[shown] = used

    def forget(self, before: float) -> None:
        """Drop values whose last use is before that moment."""
        gone = {shown for shown, used in self._used.items() if used < before}
        if gone:
            self._used = {shown: used for shown, used in self._used.items() if shown not in gone}
            self._shown = {value: shown for value, shown in self._shown.items() if shown not in gone}


class MetricFamily(Generic[M]):
    """A metric that has open labels."""

    def __init__(
        self, metric: M, labels: Sequence[str], values: dict[str, Values], most: int, clock: Callable[[], float]
    ) -> None:
        self.metric = metric
        self._clock = clock
        self._maximum = most
        self._values = [values.get(label) for label in labels]
        #: Combinations of the open labels: when each was last used, and its children.
        self._known: dict[tuple[str, ...], float] = {}
        self._children: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
        #: A cache by given labels: the child, its last use, its combination and its label values.
        self._cache: dict[tuple[str | None, ...], list[Any]] = {}

    def of(self, *given: str | None) -> M:
        """Return the child of these label values, in the order of the labels."""
        entry = self._cache.get(given)
        if entry is not None:
            entry[1] = self._clock()
            return cast("M", entry[0])
        return self._create(given)

    def _create(self, given: tuple[str | None, ...]) -> M:
        now = self._clock()
        shown = [str(v) if known is None else known.shown(v, now) for v, known in zip(given, self._values, strict=True)]
        combination = tuple(v for v, known in zip(shown, self._values, strict=True) if known is not None)
        if combination not in self._known and len(self._known) >= self._maximum:
            shown = [v if known is None else OTHER for v, known in zip(shown, self._values, strict=True)]
            combination = tuple(v for v, known in zip(shown, self._values, strict=True) if known is not None)
        self._known[combination] = now
        labels = tuple(shown)
        self._children.setdefault(combination, {})[labels] = None
        child: M = self.metric.labels(*labels)
        if (
            len(self._cache) < 2 * self._maximum and OTHER not in shown
        ):  # a value counted as other may have its own series later
            self._cache[given] = [child, now, combination, shown]
        return child

    def copy_uses(self) -> None:
        """Copy the last uses from the cache to the combinations and values."""
        for _, used, combination, shown in self._cache.values():
            if used > self._known.get(combination, used):
                self._known[combination] = used
            for value, known in zip(shown, self._values, strict=True):
                if known is not None:
                    known.touch(value, used)

    def forget(self, before: float) -> None:
        """Remove combinations whose last use is before that moment."""
        for combination in [c for c, used in self._known.items() if used < before and set(c) != {OTHER}]:
            del self._known[combination]
            for labels in self._children.pop(combination, ()):
                self.metric.remove(*labels)
        self._cache = {given: entry for given, entry in self._cache.items() if entry[1] >= before}


class ShownSeries(Gauge):
    """A gauge whose series are replaced at once: a scrape sees the old ones or the new ones, never half of
    each.

    An alert rule that sees no series for a moment would resolve its alert and fire again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.showing = Lock()
        super().__init__(*args, **kwargs)

    def labels(self, *values: Any, **named: Any) -> Self:
        """Return the series of these values; of a gauge without labels, itself."""
        return super().labels(*values, **named) if self._labelnames else self

    def clear(self) -> None:
        """Remove all series. The one without labels cannot be removed: it is no number until it is shown again."""
        super().clear()
        if not self._labelnames:
            self.set(float("nan"))

    def collect(self) -> list[Metric]:
        """Return the series that were last shown."""
        with self.showing:
            return list(super().collect())


class Gauges(MetricFamily[ShownSeries]):
    """A gauge whose series are replaced as a whole."""

    def show(
        self,
        rows: Iterable[tuple[Sequence[str | None], float]],
        together: Callable[[float, float], float],
        zeros: Iterable[Sequence[str]] = (),
    ) -> None:
        """Show these values and no others; `together` merges two values with the same labels.

        `zeros` are label values of series that are 0.
        """
        with self.metric.showing:
            gone: set[ShownSeries] = set()
            if MULTIPROCESS in os.environ:  # series cannot be removed there
                gone = {self.metric.labels(*labels) for children in self._children.values() for labels in children}
            else:
                self.metric.clear()
                self._known.clear()
                self._children.clear()
                self._cache.clear()
            found: dict[ShownSeries, float] = {self.metric.labels(*labels): 0.0 for labels in zeros}
            for given, value in rows:
                child = self.of(*given)
                found[child] = together(found[child], value) if child in found else value
            for child, value in found.items():
                child.set(value)
            for child in gone.difference(found):
                child.set(0)


class Registry(CollectorRegistry):
    """A registry that limits open labels. Old series are removed when it is next collected."""

    def __init__(self, limits: SeriesLimits, clock: Callable[[], float]) -> None:
        super().__init__(auto_describe=True)
        self._limits = limits
        self._clock = clock
        self._open = {label: Values(limits.max_values) for label in OPEN}
        self._families: list[MetricFamily[Any]] = []
        #: Held while something is counted, and while old series are removed.
        self.counting = Lock()

    def family(self, kind: type[M], name: str, help_text: str, labels: Sequence[str], **more: Any) -> MetricFamily[M]:
        """Create a metric with open labels."""
        metric = kind(name, help_text, labels, registry=self, **more)
        made = MetricFamily(metric, labels, self._open, self._limits.max_series, self._clock)
        self._families.append(made)
        return made

    def gauges(self, name: str, help_text: str, labels: Sequence[str]) -> Gauges:
        """Create a gauge whose series are replaced as a whole."""
        # One of a server's processes shows the figures at a time: the most recent value is right.
        metric = ShownSeries(name, help_text, labels, registry=self, multiprocess_mode="mostrecent")
        made = Gauges(metric, labels, self._open, self._limits.max_series, self._clock)
        self._families.append(made)
        return made

    def collect(self) -> Iterator[Metric]:
        """Collect the series, without expired ones."""
        self.forget()
        yield from super().collect()

    def forget(self) -> None:
        """Remove expired series."""
        if MULTIPROCESS in os.environ:
            return
        before = self._clock() - self._limits.expire_after.total_seconds()
        with self.counting:
            for family in self._families:
                family.copy_uses()
            for family in self._families:
                family.forget(before)
            for values in self._open.values():
                values.forget(before)
