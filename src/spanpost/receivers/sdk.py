"""The in-process door: the live span processor and the log processor. (The exporters: `spanpost.receivers.export`.)

Everything here runs in the agent's thread, where the SDK guards nothing: what a processor raises is raised in the agent's
code, what it waits for the agent waits for. So a callback does three things: remember the span, leave one tuple in a bounded
queue, wake the worker if it sleeps. All else is the worker's (`spanpost.receivers.worker`).

A span event is heard when it is added through a hook on the span's own `_add_event`, which every way of adding events
passes (`record_exception` too; in each SDK from 1.20 to 1.45). Where an SDK has it no longer, the worker's look, once a
second, finds the events.

Callbacks catch `Exception` and count it. What is none (a Ctrl-C, a time-out that a signal raises) cannot come from here, only
through here, and is the agent's: swallowing it would lose it.
"""

from __future__ import annotations

from sys import exception
from threading import get_ident
from types import MethodType
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from spanpost.receivers.follower import is_plumbing
from spanpost.receivers.queue import Loss, QueuedKind
from spanpost.receivers.span_hook import KNOWN_ADD, set_hook
from spanpost.receivers.spans import event_name_of
from spanpost.receivers.worker import Feed, Receive

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LogRecordProcessor as _LogRecordProcessor
    from opentelemetry.sdk.trace import Span
else:
    try:
        from opentelemetry.sdk._logs import LogRecordProcessor as _LogRecordProcessor
    except ImportError:  # an SDK that was built without logs
        _LogRecordProcessor = object

# As plain ints: an enum member costs the agent a look-up that a constant does not.
_END = int(QueuedKind.END)
_LOG = int(QueuedKind.LOG)


def put_log(feed: Feed, data: Any) -> bool:
    """Queue a log event, and write it to the spool where there is one; False when it was lost (and counted)."""
    if (spool := feed.spool) is None:
        return feed.put((_LOG, data, None))
    return feed.put_durably((_LOG, data, None), spool.told_log, data)


def _feed(sink: Receive | Feed, tenant: str) -> Feed:
    return sink if isinstance(sink, Feed) else Feed(sink, tenant=tenant)


class SdkSpanProcessor(SpanProcessor):
    """Follows spans live: told when they start, when an event is added, when their attributes change, when they end.

    ``provider.add_span_processor(AgentSpanProcessor(receive))``. `sink` takes the observations in a worker thread (see
    `Receive`); pass one `Feed` to share it with an `SdkLogProcessor`. No callback raises, blocks or does I/O.

    No ``__slots__``: Traceloop assigns ``on_start`` on the instance.
    """

    def __init__(self, sink: Receive | Feed, *, tenant: str = "default") -> None:
        self.feed = _feed(sink, tenant)
        self.feed.open_endpoint()
        self.feed.follows = True
        #: Spans that started while something other than an `Exception` was in flight (its id): that did not end them.
        self._in_flight: dict[int, int] = {}
        self._is_shut = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Follow a span from now on. `span` is the live one, the same object that the agent holds."""
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
                feed.put_durably(span, spool.told_start, span)
            elif len(queue.news) < queue.capacity:
                queue.news.append(span)
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put(span)
            if KNOWN_ADD is not None and getattr(span._add_event, "__func__", None) is KNOWN_ADD:
                span._add_event = MethodType(feed.hear, span)
            else:
                set_hook(span, feed)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def on_end(self, span: ReadableSpan) -> None:
        """Tell that a span has ended. `span` is a new object; the live one is found by its id."""
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
            if in_flight is not None and self._is_cancellation(span_id, in_flight):
                item = (_END, span, True)
            queue = feed.queue
            if feed.spool is not None:
                self._end_durably(item, span, item is not span)
            elif len(queue.news) < queue.capacity:
                queue.news.append(item)
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put(item)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def _on_unknown_end(self, span: ReadableSpan, span_id: int) -> None:
        """An end without a start: before the processor was added it is told; our own and a parent process's are not."""
        feed = self.feed
        if get_ident() in feed.own_threads or span_id in feed.inherited:
            return
        in_flight = exception()
        is_cancelled = in_flight is not None and self._is_cancellation(span_id, in_flight)
        self._end_durably((_END, span, is_cancelled), span, is_cancelled)

    def _end_durably(self, item: Any, span: ReadableSpan, is_cancelled: bool) -> None:
        """Queue an end, and write it to the spool where there is one."""
        feed = self.feed
        if (spool := feed.spool) is None:
            feed.put(item)
        else:
            feed.put_durably(item, spool.told_end, span, is_cancelled)

    def _is_cancellation(self, span_id: int, in_flight: BaseException) -> bool:
        """True when a cancellation ends the span: not an error, not a generator or program that ends, not there at its start."""
        began_in = self._in_flight.pop(span_id, None) if self._in_flight else None
        return not isinstance(in_flight, (Exception, GeneratorExit, SystemExit)) and began_in != id(in_flight)

    def shutdown(self) -> None:
        """Mark open spans interrupted, hand on what is queued; at most 3 s, safe to repeat."""
        try:
            if not self._is_shut:
                self._is_shut = True
                self.feed.close_endpoint()
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all that ended before is handed on: at most 2 s; False when it is not."""
        try:
            return self.feed.flush(timeout_millis / 1000)
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return False


class SdkLogProcessor(_LogRecordProcessor):
    """Hears log records that are events (they have an event name) or belong to a span that is followed.

    Records of spanpost's own loggers and the SDK's are never heard, or they would feed back.
    """

    def __init__(self, sink: Receive | Feed, *, tenant: str = "default") -> None:
        self.feed = _feed(sink, tenant)
        self.feed.open_endpoint()
        self._is_shut = False

    def on_emit(self, log_record: Any) -> None:
        """Queue a record that is worth it. `log_record` is whatever this SDK hands over: it has `log_record` and a scope."""
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
        """Do what `on_emit` does, by the name it has in older SDKs (1.33)."""
        self.on_emit(log_data)

    def shutdown(self) -> None:
        try:
            if not self._is_shut:
                self._is_shut = True
                self.feed.close_endpoint()
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all that was emitted before is handed on: at most 2 s; False when it is not."""
        try:
            return self.feed.flush(timeout_millis / 1000)
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return False
