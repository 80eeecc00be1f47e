"""A hook on a live span's own `_add_event`, which queues an event at the moment it is added.

The plain hook calls the original and then queues. If the SDK's `_add_event` is a known one, the hook does
the same work (append under the span's lock, unless the span has ended) instead of calling it: that saves two
calls, which pays for the queueing. "Known" is checked once, by the names that its code uses, for
opentelemetry-sdk 1.33 to 1.45; any other version is called unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Span

from spanpost.receivers.queue import Loss
from spanpost.receivers.spans import ring_of

if TYPE_CHECKING:
    from spanpost.receivers.worker import Feed

_KNOWN_WRAPPER = {"_lock", "_end_time", "logger", "warning", "__name__"}
_KNOWN_CORE = {"_events", "append"}

#: A hook before it is bound to its span.
Hook = Callable[[Any, Any], None]


def _known_add() -> Any:
    """Return the SDK's `_add_event` if its code is the one that `hook` copies; else None."""
    add: Any = getattr(Span, "_add_event", None)
    try:
        [core] = [
            cell.cell_contents for cell in add.__closure__
        ]  # the SDK's decorator keeps the wrapped function there
        if set(add.__code__.co_names) == _KNOWN_WRAPPER and set(core.__code__.co_names) == _KNOWN_CORE:
            return add
    except (AttributeError, TypeError, ValueError):
        pass
    return None


KNOWN_ADD = _known_add()


def hook(feed: Feed) -> Hook:
    """Return the function of (span, event) that queues a span's events to this feed."""
    items = feed.queue.items
    capacity = feed.queue.capacity
    append = items.append

    def on_event(span: Any, event: Any) -> None:
        with span._lock:
            is_open = span._end_time is None
            if is_open:
                span._events.append(event)
        if not is_open:
            KNOWN_ADD(span, event)  # logs the SDK's warning
            return
        try:
            if len(items) < capacity:
                append((span, event))
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put((span, event))
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def on_event_durably(span: Any, event: Any) -> None:
        index = -1
        with span._lock:
            is_open = span._end_time is None
            if is_open:
                events = span._events
                events.append(event)
                with suppress(
                    AttributeError
                ):  # the list of another SDK version: the event is written with its span's end
                    index = events.dropped + len(events._dq) - 1
        if not is_open:
            KNOWN_ADD(span, event)
            return
        try:
            put_event(feed, span, event, index)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    return on_event if feed.spool is None else on_event_durably


def put_event(feed: Feed, span: Any, event: Any, index: int) -> None:
    """Queue an event and write it to the spool; `index` below 0: unknown, so that it is only queued."""
    spool = feed.spool
    if spool is None or index < 0:
        feed.put((span, event))
    else:
        feed.put_durably((span, event), spool.write_event, span, event, index)


def _index_of(span: Any, event: Any) -> int:
    dropped, ring = ring_of(span)
    for position in range(len(ring) - 1, -1, -1):
        if ring[position] is event:
            return dropped + position
    return -1


def set_hook(span: Any, feed: Feed) -> None:
    """Hook any live span; without an `_add_event`, the worker's scan finds its events.

    `SdkSpanProcessor.on_start` handles the usual case itself: it binds `on_event` to the span, one object
    instead of a closure with its captured variables, which would be eight.
    """
    add = getattr(span, "_add_event", None)
    if add is None:
        return

    def on_event_after(event: Any) -> None:
        add(event)
        try:
            put_event(feed, span, event, -1 if feed.spool is None else _index_of(span, event))
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    span._add_event = on_event_after


def remove_hook(span: Any) -> None:
    """Remove the hook.

    It and its span form a reference cycle: left on, each span would wait for the garbage collector.
    """
    with suppress(AttributeError):
        del span._add_event
