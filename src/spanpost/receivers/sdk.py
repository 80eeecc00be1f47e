"""The in-process receiver: the live span processor and the log processor. (Exporters:
`spanpost.receivers.export`.)

Everything here runs in the agent's thread, and the SDK catches nothing: an exception in a processor is
raised in the agent's code, and a wait in a processor delays the agent. So a callback does three things: it
remembers the span, appends one item to a bounded queue, and wakes the worker if it sleeps. The worker does
everything else (`spanpost.receivers.worker`).

A hook on the span's own `_add_event` reports a span event when it is added. Every way of adding events goes
through that method (`record_exception` too; in each SDK from 1.20 to 1.45). If an SDK no longer has it, the
worker's scan, once a second, finds the events.

Callbacks catch `Exception` and count it. Any other exception (Ctrl-C, a time-out raised by a signal) is the
agent's and only passes through here: catching it would lose it.
"""

from __future__ import annotations

from sys import exception
from threading import get_ident
from types import MethodType
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from spanpost.receivers.follower import is_plumbing
from spanpost.receivers.protocols import Receive
from spanpost.receivers.queue import Loss, QueuedKind
from spanpost.receivers.span_hook import KNOWN_ADD, set_hook
from spanpost.receivers.spans import event_name_of
from spanpost.receivers.worker import Feed

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LogRecordProcessor as _LogRecordProcessor
    from opentelemetry.sdk.trace import Span
else:
    try:
        from opentelemetry.sdk._logs import LogRecordProcessor as _LogRecordProcessor
    except ImportError:  # an SDK that was built without logs
        _LogRecordProcessor = object

# Plain ints: an enum member costs the agent an attribute look-up.
_END = int(QueuedKind.END)
_LOG = int(QueuedKind.LOG)


def put_log(feed: Feed, data: Any) -> bool:
    """Queue a log event, and spool it if there is a spool; False: it was dropped (and counted)."""
    if (spool := feed.spool) is None:
        return feed.put((_LOG, data, None))
    return feed.put_durably((_LOG, data, None), spool.write_log, data)


class FeedEndpoint:
    """Base of the processors and exporters: a feed, which several may share."""

    def __init__(self, sink: Receive | Feed, *, tenant: str = "default") -> None:
        self.feed = sink if isinstance(sink, Feed) else Feed(sink, tenant=tenant)
        self.feed.open_endpoint()
        self._is_shut = False

    def shutdown(self) -> None:
        """Mark open spans as interrupted and pass on what is queued; at most 3 s, safe to repeat."""
        try:
            if not self._is_shut:
                self._is_shut = True
                self.feed.close_endpoint()
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything reported so far is passed on, at most 2 s; False: not done."""
        try:
            return self.feed.flush(timeout_millis / 1000)
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return False


class SdkSpanProcessor(FeedEndpoint, SpanProcessor):
    """Follows live spans: their starts, added events, attribute changes and ends.

    ``provider.add_span_processor(SdkSpanProcessor(receive))``. `sink` receives the observations in a worker
    thread (see `Receive`); pass one `Feed` to share it with an `SdkLogProcessor`. No callback raises, blocks
    or does I/O.

    No ``__slots__``: Traceloop assigns ``on_start`` on the instance.
    """

    def __init__(self, sink: Receive | Feed, *, tenant: str = "default") -> None:
        super().__init__(sink, tenant=tenant)
        self.feed.follows = True
        #: Spans that started while a non-`Exception` was in flight (its id): that exception does not cancel
        #: them.
        self._in_flight: dict[int, int] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Start following a span. `span` is the live object that the agent holds."""
        feed = self.feed
        try:
            if feed.is_closed or get_ident() in feed.own_threads:
                return
            span_id: int = span._context[1]  # type: ignore[index]  # SpanContext is a tuple; its properties cost three times as much
            feed.live[span_id] = span
            in_flight = exception()
            if in_flight is not None and not isinstance(in_flight, Exception):
                self._in_flight[span_id] = id(in_flight)
            queue = feed.queue
            if (spool := feed.spool) is not None:
                feed.put_durably(span, spool.write_start, span)
            elif len(queue.items) < queue.capacity:
                queue.items.append(span)
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put(span)
            if KNOWN_ADD is not None and getattr(span._add_event, "__func__", None) is KNOWN_ADD:
                span._add_event = MethodType(feed.on_event, span)
            else:
                set_hook(span, feed)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the end of a span. `span` is a new object; the live one is found by its id."""
        feed = self.feed
        try:
            span_id: int = span._context[1]  # type: ignore[index]
            live = feed.live.pop(span_id, None)
            if live is None:
                self._on_unknown_end(span, span_id)
                return
            try:  # noqa: SIM105  (`suppress` costs half a microsecond)
                del live._add_event  # as `remove_hook` does
            except AttributeError:
                pass
            in_flight = exception()
            item: Any = span
            if in_flight is not None and self._take_cancellation(span_id, in_flight):
                item = (_END, span, True)
            queue = feed.queue
            if feed.spool is not None:
                self._end_durably(item, span, item is not span)
            elif len(queue.items) < queue.capacity:
                queue.items.append(item)
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put(item)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def _on_unknown_end(self, span: ReadableSpan, span_id: int) -> None:
        """Queue the end of a span that started before the processor was added; not of our own or a parent
        process's spans.
        """
        feed = self.feed
        if get_ident() in feed.own_threads or span_id in feed.inherited:
            return
        in_flight = exception()
        is_cancelled = in_flight is not None and self._take_cancellation(span_id, in_flight)
        self._end_durably((_END, span, is_cancelled), span, is_cancelled)

    def _end_durably(self, item: Any, span: ReadableSpan, is_cancelled: bool) -> None:
        """Queue an end, and spool it if there is a spool."""
        feed = self.feed
        if (spool := feed.spool) is None:
            feed.put(item)
        else:
            feed.put_durably(item, spool.write_end, span, is_cancelled)

    def _take_cancellation(self, span_id: int, in_flight: BaseException) -> bool:
        """Whether a cancellation ended the span: no error, no generator or program exit, nothing in flight
        since its start.
        """
        began_in = self._in_flight.pop(span_id, None) if self._in_flight else None
        return not isinstance(in_flight, (Exception, GeneratorExit, SystemExit)) and began_in != id(in_flight)


class SdkLogProcessor(FeedEndpoint, _LogRecordProcessor):
    """Queues log records that are events (they have an event name) or belong to a followed span.

    Records of the loggers of spanpost and of the SDK are ignored, or they would feed back.
    """

    def on_emit(self, log_record: Any) -> None:
        """Queue a record if it is relevant.

        `log_record` is the SDK's wrapper, with `log_record` and a scope.
        """
        feed = self.feed
        try:
            record = log_record.log_record
            scope = log_record.instrumentation_scope
            if (scope is not None and is_plumbing(scope.name)) or get_ident() in feed.own_threads:
                return
            if event_name_of(record):
                put_log(feed, log_record)
            elif record.span_id in feed.live:
                feed.put_chatter((_LOG, log_record, None))
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def emit(self, log_data: Any) -> None:
        """The name of `on_emit` in older SDKs (1.33)."""
        self.on_emit(log_data)
