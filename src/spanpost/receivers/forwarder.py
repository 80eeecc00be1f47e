"""The forwarder: sends observations over OTLP with the stock exporters, instead of recording them.

It runs in the feed's worker thread, so that the agent never waits for it. A batch that cannot be sent is
retried for `RETRY_TIME` seconds while the feed's queue fills. After that, or at once if the other side will
never accept it, the batch is dropped, and counted by the feed.

Which finished spans are sent (`ForwardedSpans`): *auto* leaves out those that an OTLP exporter of the
application sends to the same place. It sends the others: spans that the sampler keeps from exporters, and
spans that a cancellation ended, because only this process knows that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from spanpost import semconv as c
from spanpost.model.errors import SpanpostError
from spanpost.model.observations import Observation, Part
from spanpost.readers.redaction import Redaction
from spanpost.receivers.forward_target import ExporterLog, Target
from spanpost.receivers.other_exporters import endpoints_of, is_same_place
from spanpost.receivers.otlp_encoder import Encoder

_log = logging.getLogger("spanpost.receivers")

#: Seconds for which a batch is retried: the time of a Collector's restart.
RETRY_TIME = 60.0
#: First and longest pause between two attempts, seconds.
_PAUSE = (0.5, 5.0)
#: Seconds between two searches for the application's exporters, which may be attached after us.
_SEARCH_EVERY = 5.0


class ForwardedSpans(StrEnum):
    """Which finished spans are sent in addition to live records."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class NotSent(SpanpostError):
    """A batch was not sent in time, or was refused."""


class Forwarder:
    """Implements `Receive` and takes ended spans. Belongs to one feed, whose worker thread calls both
    methods.

    `providers` are searched for the application's own exporters. After a fork the child opens its own
    exporters.
    """

    def __init__(
        self,
        target: Target,
        *,
        spans: ForwardedSpans = ForwardedSpans.AUTO,
        providers: Callable[[], Iterable[Any]] = tuple,
        retry_time: float = RETRY_TIME,
        redaction: Redaction | None = None,
    ) -> None:
        self.target = target
        self._redaction = redaction
        self.spans = spans
        self._providers = providers
        self._retry_time = retry_time
        self._parents: list[Any] = []
        target.check()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._exporters: dict[str, Any] = {}
        self._exporter_log: ExporterLog | None = None
        self._encoder = Encoder(self._redaction)
        self._ended: list[Any] = []
        self._stop = threading.Event()
        self._is_covered_now = False
        self._search_at = 0.0
        #: Signals that failed last time, and whether the failure is final.
        self._failing: dict[str, bool] = {}

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # Kept alive after fork, so that the child does not close the parent's connections.
            self._parents.append((self._exporters, self._encoder, self._stop))
            self._begin()

    def tell_end(self, readable: Any, o: Observation) -> None:
        """Take an ended span, to send it with the next batch."""
        self._check_process()
        if self._sends(readable, o):
            self._ended.append(self._encoder.span(readable, o))

    def __call__(self, batch: Sequence[Observation], /) -> None:
        """Send a batch; return when the other side has accepted it.

        Raises `NotSent` after `RETRY_TIME`, at shutdown at once.
        """
        self._check_process()
        spans, self._ended = self._ended, []
        items_by_signal = {
            "logs": [self._encoder.record(o) for o in batch if o.part is not Part.ENDED and o.name],
            "traces": spans,
        }
        waiting = {signal: items for signal, items in items_by_signal.items() if items}
        refused: list[str] = []
        until = time.monotonic() + self._retry_time
        pause = _PAUSE[0]
        while waiting:
            # The signals are independent: a Collector without a logs pipeline may have one for traces.
            for signal in list(waiting):
                is_taken, is_final = self._try(signal, waiting[signal])
                if is_taken or is_final:
                    del waiting[signal]
                    refused += [signal] if is_final else []
            if waiting:
                if time.monotonic() + pause >= until or self._stop.wait(pause):
                    refused += waiting
                    break
                pause = min(pause * 2, _PAUSE[1])
        if refused:
            raise NotSent(f"{' and '.join(refused)} could not be sent to {self.target.endpoint}")

    def close(self) -> None:
        """Shut the exporters down; batches that are still retried are dropped."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        for exporter in list(self._exporters.values()):
            exporter.shutdown()

    def give_up(self) -> None:
        """Retry nothing from now on: the process ends."""
        if self._pid == os.getpid():
            self._stop.set()

    # --- sending ----------------------------------------------------------------------------------------------------

    def _try(self, signal: str, items: Sequence[Any]) -> tuple[bool, bool]:
        """Send once; return (accepted, finally refused)."""
        log = self._exporter_log
        if log is None:
            log = self._exporter_log = ExporterLog()
        log.begin()
        try:
            exporter = self._exporters.get(signal)
            if exporter is None:
                exporter = self._exporters[signal] = self.target.open(signal, log)
            if exporter.export(items).name == "SUCCESS":
                if self._failing.pop(signal, None) is not None:
                    _log.info("forwarding %s to %s goes on", signal, self.target.endpoint)
                return True, False
            why, is_final = log.why(), log.is_final
        except Exception as error:
            # Older exporters raise for a refused connection. Any other error (it cannot be encoded) would
            # come again.
            why, is_final = f"{type(error).__name__}: {error}", log.is_final or not isinstance(error, OSError)
        if self._failing.get(signal) is not is_final:
            self._failing[signal] = is_final
            outcome = "they are lost, and counted" if is_final else "trying again; new telemetry waits in memory"
            _log.warning("forwarding %s to %s fails: %s (%s)", signal, self.target.endpoint, why, outcome)
        return False, is_final

    # --- which spans ------------------------------------------------------------------------------------------------

    def _sends(self, readable: Any, o: Observation) -> bool:
        if self.spans is not ForwardedSpans.AUTO:
            return self.spans is ForwardedSpans.ALWAYS
        context = readable.get_span_context()
        return not context.trace_flags.sampled or c.SPAN_CANCELLED in o.attributes or not self._is_covered()

    def _is_covered(self) -> bool:
        """Whether the application's exporters send the finished spans of every provider to the same place."""
        now = time.monotonic()
        if now >= self._search_at or not self._search_at:
            self._search_at = now + _SEARCH_EVERY
            endpoints_by_provider = [endpoints_of(provider) for provider in self._providers()]
            self._is_covered_now = bool(endpoints_by_provider) and all(
                any(is_same_place(self.target.endpoint, e) for e in endpoints) for endpoints in endpoints_by_provider
            )
        return self._is_covered_now
