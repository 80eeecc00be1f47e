"""The forwarder: sends observations over OTLP, instead of recording them.

The feed's worker thread encodes them, and a sender thread (`forward_sender`) sends them, so that neither the
agent nor the worker waits for the endpoint. What waits is bounded in bytes (`forward_queue`); what is dropped
is counted by the feed, by its reason (`Loss`).

Which finished spans are sent (`ForwardedSpans`): *auto* leaves out those that an OTLP exporter of the
application sends to the same place. It sends the others: spans that the sampler keeps from exporters, and
spans that a cancellation ended, because only this process knows that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part
from spanpost.readers.redaction import Redaction
from spanpost.receivers.forward_queue import ForwardQueue
from spanpost.receivers.forward_sender import ForwardSender
from spanpost.receivers.forward_target import Target
from spanpost.receivers.other_exporters import endpoints_of, is_same_place
from spanpost.receivers.otlp_encoder import Encoder
from spanpost.receivers.queue import Loss
from spanpost.receivers.waiter import Waiter

if TYPE_CHECKING:
    from spanpost.receivers.worker import Feed

#: Bytes of one request, before compression: below the 4 MiB that gRPC receivers take by default.
MAX_REQUEST = 3 * 1024 * 1024
#: Bytes that wait in memory.
MAX_WAITING = 64 * 1024 * 1024
#: Seconds for which a request is tried.
RETRY_TIME = 600.0
#: Seconds between two searches for the application's exporters, which may be attached after us.
_SEARCH_EVERY = 5.0


class ForwardedSpans(StrEnum):
    """Which finished spans are sent in addition to live records."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Forwarder:
    """Implements `Receive` and takes ended spans. Belongs to one feed (`bind`), whose worker thread calls it.

    `providers` are searched for the application's own exporters. After a fork the child opens its own
    connections, and what waited is the parent's.
    """

    def __init__(
        self,
        target: Target,
        *,
        spans: ForwardedSpans = ForwardedSpans.AUTO,
        providers: Callable[[], Iterable[Any]] = tuple,
        redaction: Redaction | None = None,
        max_request: int = MAX_REQUEST,
        max_waiting: int = MAX_WAITING,
        retry_time: float = RETRY_TIME,
    ) -> None:
        self.target = target
        self._redaction = redaction
        self.spans = spans
        self._providers = providers
        self._limits = (max_waiting, max_request, retry_time)
        self._feed: Feed | None = None
        self._parents: list[Any] = []
        target.check()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._encoder = Encoder(self._redaction)
        self._ended: list[Any] = []
        self._sender = ForwardSender(ForwardQueue(*self._limits), self.target.open, self, self.target.endpoint)
        self._is_covered_now = False
        self._search_at = 0.0

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # Kept alive after fork, so that the child does not close the parent's connections.
            self._parents.append((self._sender, self._encoder))
            self._begin()

    def bind(self, feed: Feed) -> None:
        """Count drops in this feed, and let it wait for what is sent when it is flushed."""
        self._feed = feed
        feed.finish_later(self.finish)

    # --- in the worker's thread -------------------------------------------------------------------------------------

    def tell_end(self, readable: Any, o: Observation) -> None:
        """Take an ended span, to send it with the next batch."""
        self._check_process()
        if self._sends(readable, o):
            self._ended.append(self._encoder.span(readable, o))

    def __call__(self, batch: Sequence[Observation], /) -> None:
        """Encode a batch and queue it to be sent. Never waits for the endpoint."""
        self._check_process()
        spans, self._ended = self._ended, []
        self._put("logs", [self._encoder.record(o) for o in batch if o.part is not Part.ENDED and o.name])
        self._put("traces", spans)

    def finish(self, waiter: Waiter, is_ok: bool) -> None:
        """Finish a flush when everything so far is sent or dropped."""
        self._check_process()
        self._sender.finish(waiter, is_ok)

    def _put(self, signal: str, items: Sequence[Any]) -> None:
        if not items:
            return
        try:
            body = self._encoder.encode(signal, items)
        except Exception:  # one that cannot be encoded spoils the batch
            if len(items) == 1:
                self.count_loss(Loss.CONVERT, 1)
                return
            middle = len(items) // 2
            self._put(signal, items[:middle])
            self._put(signal, items[middle:])
            return
        self._sender.put(signal, body, len(items))

    # --- for the sender ---------------------------------------------------------------------------------------------

    def count_loss(self, reason: Loss, number: int) -> None:
        """Count dropped spans and records."""
        if self._feed is not None:
            self._feed.losses.count(reason, number)

    def disown_thread(self) -> None:
        """Mark the calling thread as spanpost's own."""
        if self._feed is not None:
            self._feed.disown_thread()

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections; what still waits is dropped."""
        if self._pid == os.getpid():
            self._sender.close()

    def give_up(self) -> None:
        """Try each request only once more from now on: the process ends."""
        if self._pid == os.getpid():
            self._sender.end()

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
