"""Metrics of one process: counts new records, deliveries and requests.

Counters count what this process recorded. Duplicates do not count again, because the store reports them as
duplicates. Label values come from agents and are limited by `series`. A count that concerns one task carries
its trace as an exemplar, and the checkpoint where there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from prometheus_client.exposition import choose_encoder

from spanpost.http.guard import Guard
from spanpost.metrics.bridge import Bridge
from spanpost.metrics.counting import RecordedCounter
from spanpost.metrics.families import MetricFamilies
from spanpost.metrics.labels import BYPASSED, CALLED, OTHER, SeriesLimits
from spanpost.metrics.series import Registry
from spanpost.metrics.serving import MetricsServer, shown
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.fleet import Fleet
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.model.recorded import Recorded
from spanpost.routing.rate_limiting import OpenCircuit


class Metrics(MetricFamilies):
    """The metrics of one process, in a registry of its own.

    Pass it to the dispatcher as `watch`, and subscribe `counting` to recorded batches. Safe to call from any
    thread.
    """

    def __init__(
        self,
        limits: SeriesLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        bridge: Bridge | None = None,
    ) -> None:
        super().__init__(Registry(limits or SeriesLimits(), clock))
        self._lock = self.registry.counting
        self._counter = RecordedCounter(self, bridge)
        self._server: MetricsServer | None = None
        #: Totals of other components at the last call, by component and reason.
        self._totals: dict[tuple[str, str], int] = {}

    # --- recording -----------------------------------------------------------------------------------------------

    def recorded(self, recorded: Recorded) -> None:
        """Count a batch."""
        for _ in self.counting(recorded):
            pass

    def counting(self, recorded: Recorded) -> Iterator[None]:
        """Count a batch in steps, one per iteration. See `RecordedCounter.counting`."""
        return self._counter.counting(recorded)

    def committed(self, seconds: float) -> None:
        """Count a committed batch and its duration."""
        self.commit_duration.observe(seconds)
        self.store_up.set(1)

    def not_committed(self) -> None:
        """Count a batch that could not be recorded."""
        self.commit_failures.inc()
        self.store_up.set(0)

    def produced(self, topic: str, messages: int) -> None:
        """Count messages that a topic has."""
        self.kafka_messages.labels(topic, "produced").inc(messages)
        self.kafka_up.labels(topic).set(1)

    def not_produced(self, topic: str) -> None:
        """Show that a topic does not take messages."""
        self.kafka_up.labels(topic).set(0)

    def consumed(self, topic: str, messages: int) -> None:
        """Count messages that are recorded."""
        self.kafka_messages.labels(topic, "consumed").inc(messages)

    def consuming(self, topics: Iterable[tuple[str, int, int, float]]) -> None:
        """Show for each topic: partitions of this process, unrecorded messages, age of the oldest in seconds."""
        for topic, partitions, messages, seconds in topics:
            self.kafka_partitions.labels(topic).set(partitions)
            self.kafka_lag_messages.labels(topic).set(messages)
            self.kafka_lag_seconds.labels(topic).set(seconds)

    # --- deliveries --------------------------------------------------------------------------------------------------

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None:
        """Count the outcome of an attempt."""
        with self._lock:
            sink = delivery.sink
            match outcome:
                case Receipt(skipped=""):
                    self.deliveries.labels(sink, "delivered").inc()
                    self.last_success.labels(sink).set_to_current_time()
                    if outcome.diverted:
                        self.diverted.labels(sink, outcome.diverted).inc()
                    self.delivery_age.labels(sink).observe(max(age.total_seconds(), 0.0))
                case Receipt():
                    self.deliveries.labels(sink, "skipped").inc()
                case RetryAt():
                    self.deliveries.labels(sink, "unknown" if outcome.reconcile else "retried").inc()
                    self.retried.labels(sink, _why(outcome)).inc()
                case Arrived():
                    self.deliveries.labels(sink, "found").inc()
                case NotArrived():
                    self.deliveries.labels(sink, "absent").inc()
                case GiveUp():
                    self.deliveries.labels(sink, "dead").inc()
                    self.add_dropped("sinks", "dead", 1)

    def closed(self, sink: str, closed: OpenCircuit) -> None:
        """Count a circuit that opened."""
        with self._lock:
            self.breaker_opened.labels(sink, closed.why).inc()

    def called(self, sink: str, method: str, outcome: str) -> None:
        """Count a call of a sink to its service. An outcome outside the closed list is ``other``."""
        self.sink_calls.labels(sink, method, outcome if outcome in CALLED else OTHER).inc()

    def intervened(self, verb: str, result: str, source: str) -> None:
        """Count an intervention and its result."""
        self.interventions.labels(verb, result, source).inc()

    def alerted(self, source: str, outcome: str, n: int = 1) -> None:
        """Count alerts. `source` and `outcome` (firing, resolved, repeat, unreadable) are closed lists."""
        self.alerts.labels(source, outcome).inc(n)

    def silenced(self, verb: str, outcome: str) -> None:
        """Count a request to Alertmanager. `outcome`: done, or a `SilenceFailure`."""
        self.silences.labels(verb, outcome).inc()

    def knocked(self, endpoint: str, answer: str) -> None:
        """Count a request for an interaction. Both labels are closed lists."""
        self.interactions_requests.labels(endpoint, answer).inc()

    # --- receivers ---------------------------------------------------------------------------------------------------

    def requested(self, endpoint: str, signal: str, answer: str) -> None:
        """Count a request to a receiver (`http`, `grpc`) and its answer."""
        self.requests.labels(endpoint, signal, answer).inc()

    def refused_tenant(self, tenant: str, limit: str) -> None:
        """Count a request that a limit of its tenant refused. `limit` is of a closed list."""
        self.tenant_refused.of(limit, tenant).inc()

    def routed(self, cell: str, outcome: str, seconds: float | None = None) -> None:
        """Count a request to a cell, and the seconds until its answer began. `outcome` is of a closed list."""
        self.cell_requests.labels(cell, outcome).inc()
        if seconds is not None:
            self.cell_answer_duration.labels(cell).observe(seconds)

    def show_cell(self, cell: str, is_up: bool) -> None:
        """Show whether a gateway of a cell is ready."""
        self.cell_up.labels(cell).set(is_up)

    def count_ignored_points(self, n: int) -> None:
        """Count data points that were accepted and not read."""
        self.metric_points.inc(n)

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Return the content type and the page of all metrics, in the format that the scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(shown(self.registry))

    def samples(self, names: Collection[str]) -> dict[str, dict[str, float]]:
        """Return the samples of these names by the value of their first label; several with the same are added."""
        found: dict[str, dict[str, float]] = {}
        for sample in (sample for metric in shown(self.registry).collect() for sample in metric.samples):
            if sample.name in names:
                values = found.setdefault(sample.name, {})
                first = next(iter(sample.labels.values()), "")
                values[first] = values.get(first, 0.0) + sample.value
        return found

    def count_dropped(self, component: str, reason: str, n: int = 1) -> None:
        """Count dropped items. A reason outside the closed list is ``other``."""
        with self._lock:
            self.add_dropped(component, reason, n)

    def count_dropped_so_far(self, component: str, totals: Mapping[str, int]) -> None:
        """Count the items dropped since the last call; `totals` are since the start, by reason."""
        with self._lock:
            for reason, n in totals.items():
                more = n - self._totals.get((component, reason), 0)
                if more > 0:
                    self._totals[component, reason] = n
                    self.add_dropped(component, reason, more)

    def spooled(self, bypassed: Mapping[str, int], size: int) -> None:
        """Count the records that bypassed the spool (totals since the start, by reason), and show the size of its
        directory in bytes.
        """
        with self._lock:
            self.spool_bytes.set(size)
            for reason, n in bypassed.items():
                more = n - self._totals.get(("bypassed", reason), 0)
                if more > 0:
                    self._totals["bypassed", reason] = n
                    self.spool_bypassed.labels(reason if reason in BYPASSED else OTHER).inc(more)

    def fleet(self, fleet: Fleet | None) -> None:
        """Show the figures of all open work. None: clear the gauges, because another process shows them."""
        with self._lock:
            self.fleet_gauges.show(fleet)

    # --- serving ------------------------------------------------------------------------------------------------
    def serve(
        self, address: str = "127.0.0.1", port: int = 9464, *, guard: Guard | None = None, tokens: Sequence[bytes] = ()
    ) -> int:
        """Serve ``/metrics`` from a thread; return the port, which the system chooses if `port` is 0.

        `tokens` are hashes (SHA-256); a scraper must send one of the tokens. Empty: no token is required.
        9464 is the port that OpenTelemetry gives to its Prometheus exporter. Raises `ConfigError` when the
        port is not available.
        """
        if self._server is not None:
            return self._server.port
        self._server = MetricsServer(self.registry, address, port, guard, tokens)
        return self._server.port

    def close(self) -> None:
        """Stop serving. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


def _why(outcome: RetryAt) -> str:
    """Return why a delivery is retried, from a closed list.

    The sinks' own reasons are in `deliveries.reason`.
    """
    if outcome.is_unsent:
        return "late"
    if outcome.has_looked:
        return "not_seen"
    if outcome.reconcile:
        return "unknown"
    if outcome.is_refusal:
        return "refused"
    return "failed" if outcome.is_failure else "throttled"
