"""Prometheus, fed by what a ledger newly recorded and by what the pump carried; by nothing else.

Counters count what this process saw happen; repeats do not count again, because a ledger tells of them as repeats. Label
values come from agents and are capped: after `most` distinct values of a label, the rest is ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder, make_wsgi_app

from spanpost.conventions import FINAL_STATUSES, STATUSES
from spanpost.domain.checkpoints import Kind
from spanpost.domain.deliveries import Delivery, Receipt
from spanpost.domain.errors import ConfigError
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.records import Recorded
from spanpost.fold.paces import Closed
from spanpost.fold.redact import line

OTHER = "other"
UNKNOWN = "unknown"
ROOMS = ("intake", "spool", "fold", "ledger", "sinks", "desk")
#: The closed list of reasons of `spanpost_lost_total`; anything else is counted as ``other``.
LOST = (
    # intake: the queue of the in-process door
    "queue_full",
    "superseded",
    "closed",
    "callback",
    "convert",
    "receive",
    "no_worker",
    # intake: what was received or read
    "undecodable",
    "too_large",
    "too_deep",
    "bad_span",
    "bad_event",
    "bad_record",
    "bad_point",
    "bad_shape",
    "bad_line",
    "too_many_events",
    # spool: what was imported of a dead process
    "damaged",
    "refused",
    "gap",
    # fold and ledger
    "no_task",
    "memory",
    "unfoldable",
    "memory",
    "ledger_unavailable",
    # sinks
    "buried",
    "bug",
    OTHER,
)
#: The closed list of reasons of `spanpost_spool_bypassed_total`.
BYPASSED = ("stalled", "full", "no_space", "failed", "too_large", "unpackable", OTHER)
#: Seconds. Runs last from moments to days.
_RUNS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_LETTERS = (0.01, 0.05, 0.25, 1, 5, 30, 120, 900, 3600)


class _Capped:
    """Label values, at most so many distinct ones; text from agents made fit to be shown."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str, str] = {}

    def __call__(self, value: str | None) -> str:
        if not value:
            return UNKNOWN
        known = self._seen.get(value)
        if known is None:
            if len(self._seen) >= self._most:
                return OTHER
            known = self._seen[value] = line(value, 100) or UNKNOWN
        return known


class Metrics:
    """The metrics of one house, in a registry of its own. Give it to the pump as `watch`; call `recorded` after each batch.

    Safe to call from any thread.
    """

    def __init__(self, *, most: int = 200) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        self._lock = Lock()
        self._agent, self._model, self._sink, self._part = _Capped(most), _Capped(most), _Capped(most), _Capped(16)
        self._reasons = _Capped(30)
        self._server: Server | None = None

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"spanpost_{name}", says, labels, registry=registry)

        self.tasks_started = counter("tasks_started", "Tasks that came into being.", "agent")
        self.tasks_ended = counter(
            "tasks_ended", "Runs of tasks that ended, each once, by the status that it ended in first.", "agent", "status"
        )
        self.tasks_open = Gauge(
            "spanpost_tasks_open",
            "Tasks under way, of all processes on one database; one of them publishes it.",
            ["status"],
            registry=registry,
        )
        self.task_duration = Histogram(
            "spanpost_task_duration_seconds",
            "Time from a task's start to its end.",
            ["agent", "status"],
            buckets=_RUNS,
            registry=registry,
        )
        self.tokens = counter("tokens", "Tokens of model calls, each call once. Input includes cache.", "kind", "agent", "model")
        self.cost = counter("cost_usd", "Cost of model calls in US dollars.", "agent", "model")
        self.unpriced = counter(
            "unpriced_calls", "Model calls of which no cost is known; the cost is that of the others.", "agent", "model"
        )
        self.model_calls = counter("model_calls", "Model calls that settled.", "agent", "model")
        self.corrections = counter(
            "usage_corrections", "Times that figures added to counters proved too high; the tables are right."
        )
        self.checkpoints = counter("checkpoints", "Checkpoints told, by kind.", "kind")
        self.events = counter("events", "Audit rows that were new, by part of a span.", "part")
        self.repeats = counter("repeats", "Observations that had been recorded before.")
        self.passed_over = counter("passed_over", "Spans that are not an agent's.")
        self.requests = counter("requests", "Requests of the gateway's doors, by what was answered.", "door", "signal", "answer")
        self.interventions = counter(
            "interventions",
            "What people asked of tasks (`view`: to see more), by what became of it; `repeat`: the same act, heard again.",
            "verb",
            "result",
            "source",
        )
        self.desk_requests = counter(
            "desk_requests", "What came in at the desk, by door and what it was taken for.", "door", "answer"
        )
        self.metric_points = counter("metric_points", "Data points of OTLP metrics that were accepted and not read.")
        self.in_flight = Gauge("spanpost_in_flight_bytes", "Bytes of requests that the gateway holds.", registry=registry)
        self.reloads = counter("reloads", "Times that settings were read again, by what came of it.", "outcome")
        self.lost_total = counter("lost", "Observations or letters lost, by room and reason.", "room", "reason")
        self.spool_bypassed = counter("spool_bypassed", "Spans and events that went past the spool, to memory alone.", "reason")
        self.spool_bytes = Gauge("spanpost_spool_bytes", "Size of the spool's directory.", registry=registry)
        self.deliveries = counter("deliveries", "Attempts to deliver, by outcome.", "sink", "outcome")
        self.delivery_age = Histogram(
            "spanpost_delivery_age_seconds",
            "Age of letters when they were delivered.",
            ["sink"],
            buckets=_LETTERS,
            registry=registry,
        )
        self.diverted = counter(
            "deliveries_diverted", "Letters that a fallback took in place of their address, by reason.", "sink", "reason"
        )
        self.put_off = counter("deliveries_put_off", "Attempts after which a letter waits again, by reason.", "sink", "reason")
        self.budget_closed = counter("budget_closed", "Times that a budget of calls was closed, by reason.", "sink", "reason")
        build = Gauge("spanpost_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
        build.labels(_version()).set(1)
        self._told: dict[tuple[str, str], int] = {}
        # Series that exist from the first moment have a rate from the first moment.
        for kind in Kind:
            self.checkpoints.labels(str(kind))

    def recorded(self, recorded: Recorded) -> None:
        """Count what a batch brought."""
        with self._lock:
            parts = recorded.parts or ({OTHER: recorded.events} if recorded.events else {})
            for part, n in parts.items():
                self.events.labels(self._part(part)).inc(n)
            self.repeats.inc(recorded.repeats)
            self.passed_over.inc(recorded.passed_over)
            for reason, n in recorded.lost.items():
                self._lost("fold", reason, n)
            for checkpoint in recorded.checkpoints:
                self.checkpoints.labels(str(checkpoint.kind)).inc()
            tasks = {task.uid: task for task in recorded.tasks}
            for uid in recorded.started:
                self.tasks_started.labels(self._agent(tasks[uid].agent_name if uid in tasks else None)).inc()
            for uid in recorded.ended:
                if (task := tasks.get(uid)) is None:
                    self.tasks_ended.labels(UNKNOWN, UNKNOWN).inc()
                    continue
                labels = self._agent(task.agent_name), task.status if task.status in STATUSES else OTHER
                self.tasks_ended.labels(*labels).inc()
                if task.started_at is not None and task.ended_at is not None:
                    self.task_duration.labels(*labels).observe(max((task.ended_at - task.started_at).total_seconds(), 0.0))
            self.corrections.inc(recorded.corrections)
            for call in recorded.settled:
                labels = self._agent(call.agent_name), self._model(call.model)
                self.model_calls.labels(*labels).inc(call.calls)
                if call.unpriced:
                    self.unpriced.labels(*labels).inc(call.unpriced)
                usage = call.usage
                for kind, n_tokens in (
                    ("input", usage.input),
                    ("output", usage.output),
                    ("cache_read", usage.cache_read),
                    ("cache_write", usage.cache_write),
                    ("reasoning", usage.reasoning),
                ):
                    if n_tokens is not None and n_tokens > 0:
                        self.tokens.labels(kind, *labels).inc(n_tokens)
                if usage.cost_usd is not None and usage.cost_usd.is_finite() and usage.cost_usd > 0:
                    self.cost.labels(*labels).inc(float(usage.cost_usd))

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None:
        """Count what became of an attempt."""
        with self._lock:
            sink = self._sink(delivery.sink)
            match outcome:
                case Receipt(skipped=""):
                    self.deliveries.labels(sink, "delivered").inc()
                    if outcome.diverted:
                        self.diverted.labels(sink, self._reasons(outcome.diverted)).inc()
                    self.delivery_age.labels(sink).observe(max(age.total_seconds(), 0.0))
                case Receipt():
                    self.deliveries.labels(sink, "skipped").inc()
                case RetryAt():
                    self.deliveries.labels(sink, "unknown" if outcome.reconcile else "retried").inc()
                    self.put_off.labels(sink, _why(outcome)).inc()
                case Found():
                    self.deliveries.labels(sink, "found").inc()
                case Absent():
                    self.deliveries.labels(sink, "absent").inc()
                case GiveUp():
                    self.deliveries.labels(sink, "buried").inc()
                    self._lost("sinks", "buried", 1)

    def closed(self, sink: str, closed: Closed) -> None:
        """Count a budget that closed."""
        with self._lock:
            self.budget_closed.labels(self._sink(sink), closed.why).inc()

    def requested(self, door: str, signal: str, answer: str) -> None:
        """Count a request to a door (`http`, `grpc`) and what was answered."""
        self.requests.labels(door, signal, answer).inc()

    def intervened(self, verb: str, result: str, source: str) -> None:
        """Count what somebody asked, and what became of it."""
        self.interventions.labels(verb, result, source).inc()

    def knocked(self, door: str, answer: str) -> None:
        """Count what came in at the desk. Both are words of ours."""
        self.desk_requests.labels(door, answer).inc()

    def passed_points(self, n: int) -> None:
        """Count data points that were accepted and not read."""
        self.metric_points.inc(n)

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Return the content type and the page of all metrics, in the format that a scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def lost(self, room: str, reason: str, n: int = 1) -> None:
        """Count losses. A reason outside the closed list is ``other``."""
        with self._lock:
            self._lost(room, reason, n)

    def lost_so_far(self, room: str, totals: Mapping[str, int]) -> None:
        """Count what was lost since this was told last; `totals` are since the start, by reason."""
        with self._lock:
            for reason, n in totals.items():
                more = n - self._told.get((room, reason), 0)
                if more > 0:
                    self._told[room, reason] = n
                    self._lost(room, reason, more)

    def spooled(self, bypassed: Mapping[str, int], size: int) -> None:
        """Count what went past the spool (totals since the start, by reason), and show how large its directory is."""
        with self._lock:
            self.spool_bytes.set(size)
            for reason, n in bypassed.items():
                more = n - self._told.get(("bypassed", reason), 0)
                if more > 0:
                    self._told["bypassed", reason] = n
                    self.spool_bypassed.labels(reason if reason in BYPASSED else OTHER).inc(more)

    def _lost(self, room: str, reason: str, n: int) -> None:
        self.lost_total.labels(room if room in ROOMS else OTHER, reason if reason in LOST else OTHER).inc(n)

    def fleet(self, counts: Mapping[str, int] | None) -> None:
        """Show how many tasks are open, by status; None: nothing, because another process shows it."""
        with self._lock:
            self.tasks_open.clear()
            if counts is not None:
                for status in STATUSES:
                    if status not in FINAL_STATUSES:
                        self.tasks_open.labels(status).set(counts.get(status, 0))

    # --- serving ------------------------------------------------------------------------------------------------
    def serve(self, address: str = "127.0.0.1", port: int = 9464) -> int:
        """Serve ``/metrics`` from a thread; return the port, which is the system's choice when 0 was asked for.

        9464 is the port that OpenTelemetry gives to its Prometheus exporter. Raises `ConfigError` when it cannot be had.
        """
        if self._server is not None:
            return self._server.port
        self._server = Server(self.registry, address, port)
        return self._server.port

    def close(self) -> None:
        """Stop serving. Safe to repeat."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    #: A scraper that says nothing must not hold a thread for ever.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


class Server:
    """A small HTTP server of a registry, in a daemon thread."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        try:
            self._http = make_server(address, port, make_wsgi_app(registry), _Threading, handler_class=_Quiet)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics: cannot listen on {address} port {port}: {error}. "
                "Set SPANPOST_METRICS__PORT to a free port, or to 0 to have one chosen."
            ) from error
        self.port: int = self._http.server_port
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.5}, name="spanpost-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop and free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)


def _why(outcome: RetryAt) -> str:
    """Return why a letter waits again, from a closed list; the sinks' own reasons are in `deliveries.reason`."""
    if outcome.is_unsent:
        return "late"
    if outcome.has_looked:
        return "not_seen"
    if outcome.reconcile:
        return "unknown"
    if outcome.is_refusal:
        return "refused"
    return "failed" if outcome.is_failure else "throttled"


def _version() -> str:
    try:
        return version("spanpost")
    except PackageNotFoundError:
        return UNKNOWN
