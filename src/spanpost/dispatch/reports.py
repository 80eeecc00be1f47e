"""What the dispatcher reports: counts for the metrics, and each problem once in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import DeliveryRefused
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome
from spanpost.routing import rate_limiting
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.dispatcher")


class DispatcherMetrics(Protocol):
    """**Protocol:** receives what the dispatcher did; `spanpost.metrics.Metrics` is one."""

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None: ...

    def closed(self, sink: str, closed: OpenCircuit) -> None: ...


class DispatcherReports:
    """The log and the metrics of one dispatcher."""

    def __init__(self, watch: DispatcherMetrics | None) -> None:
        self._watch = watch
        #: Refusals that were logged: (rate limit, reason), until a call under that rate limit succeeds.
        self._refusals: set[tuple[str, str]] = set()
        self._bugs: set[tuple[str, str]] = set()

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None:
        """Count the outcome of a call, and log a delivery that is given up."""
        self._count(lambda watch: watch.delivered(delivery, outcome, age))
        if isinstance(outcome, (Receipt, Arrived, NotArrived)) and not rate_limiting.is_uncalled(outcome):
            self._refusals = {(key, reason) for key, reason in self._refusals if key not in delivery.drawn}
        if isinstance(outcome, GiveUp):
            about = {"tenant": delivery.tenant, "task_id": delivery.task.task_id, "reason": outcome.reason}
            said = delivery.id, delivery.sink, outcome.reason, outcome.error
            log.warning("delivery %d to %s is dead: %s: %s", *said, extra=about)

    def refused(self, sink: str, key: str, error: DeliveryRefused) -> None:
        """Log a refusal that an operator must fix, once per rate limit and reason."""
        if (key, error.reason) not in self._refusals:
            self._refusals.add((key, error.reason))
            log.error("%s refuses (%s): %s. %s", sink, error.reason, line(str(error), 300), line(error.cure, 500))

    def opened(self, sink: str, closed: OpenCircuit, now: datetime) -> None:
        """Log and count a rate limit or circuit breaker that stops calls."""
        seconds = (closed.until - now).total_seconds()
        level = logging.INFO if closed.why == "throttled" else logging.WARNING
        log.log(level, "%s: %s is closed for %.0f s: %s, %s", sink, closed.key, seconds, closed.why, closed.reason)
        self._count(lambda watch: watch.closed(sink, closed))

    def _count(self, report: Callable[[DispatcherMetrics], None]) -> None:
        if self._watch is None:
            return
        try:
            report(self._watch)
        except Exception as error:  # a failure to count must not stop the deliveries
            self.bug("watch", error)

    def bug(self, name: str, error: BaseException) -> None:
        """Log an exception that is a fault of the program, once per kind."""
        kind = (name, type(error).__name__)
        if kind not in self._bugs:
            self._bugs.add(kind)
            log.error(
                "%s raised %s, logged once: %s", name, kind[1], line(str(error), 300), extra={"where": _where(error)}
            )


def _where(error: BaseException) -> str:
    """Return file and line of the innermost frame. A whole traceback could show secrets in arguments."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
