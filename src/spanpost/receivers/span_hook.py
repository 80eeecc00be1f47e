"""The tap on a living span: a hook on its own `_add_event`, so that an event is heard when it is added.

The plain hook calls what was there and then queues. Where the SDK's `_add_event` is the one we know, the hook does what that
does (append under the span's lock, unless the span has ended) in place of calling it: that saves two calls, which pays for
the queueing. "The one we know" is checked once, by the names that its code uses, against opentelemetry-sdk 1.33 to 1.45; any
other is called as it stands.
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
    """Return the SDK's `_add_event` when its code is the one that `hook` repeats; else None."""
    add: Any = getattr(Span, "_add_event", None)
    try:
        [core] = [cell.cell_contents for cell in add.__closure__]  # the SDK's decorator keeps what it wraps there
        if set(add.__code__.co_names) == _KNOWN_WRAPPER and set(core.__code__.co_names) == _KNOWN_CORE:
            return add
    except (AttributeError, TypeError, ValueError):
        pass
    return None


KNOWN_ADD = _known_add()


def hook(feed: Feed) -> Hook:
    """Return what hears a span's events for this feed, as a function of (span, event)."""
    news = feed.queue.news
    capacity = feed.queue.capacity
    append = news.append

    def hear(span: Any, event: Any) -> None:
        with span._lock:
            is_open = span._end_time is None
            if is_open:
                span._events.append(event)
        if not is_open:
            KNOWN_ADD(span, event)  # warns, as it always did
            return
        try:
            if len(news) < capacity:
                append((span, event))
                if feed.is_asleep:
                    feed.wake()
            else:
                feed.put((span, event))
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    def hear_durably(span: Any, event: Any) -> None:
        index = -1
        with span._lock:
            is_open = span._end_time is None
            if is_open:
                events = span._events
                events.append(event)
                with suppress(AttributeError):  # a list of another SDK: the event is written with its span's end
                    index = events.dropped + len(events._dq) - 1
        if not is_open:
            KNOWN_ADD(span, event)
            return
        try:
            tell_durably(feed, span, event, index)
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    return hear if feed.spool is None else hear_durably


def tell_durably(feed: Feed, span: Any, event: Any, index: int) -> None:
    """Queue an event and write it to the spool; `index` below 0: it cannot be told, so that it is only queued."""
    spool = feed.spool
    if spool is None or index < 0:
        feed.put((span, event))
    else:
        feed.put_durably((span, event), spool.told_event, span, event, index)


def _index_of(span: Any, event: Any) -> int:
    dropped, ring = ring_of(span)
    for position in range(len(ring) - 1, -1, -1):
        if ring[position] is event:
            return dropped + position
    return -1


def set_hook(span: Any, feed: Feed) -> None:
    """Let a living span tell its events, whatever its `_add_event` is; without one, the worker's look finds them.

    The usual case is in `AgentSpanProcessor.on_start` itself: `hear` bound to the span, one object where a closure and its
    cells would be eight.
    """
    add = getattr(span, "_add_event", None)
    if add is None:
        return

    def hear_beside(event: Any) -> None:
        add(event)
        try:
            tell_durably(feed, span, event, -1 if feed.spool is None else _index_of(span, event))
        except Exception:
            feed.losses.count(Loss.CALLBACK)

    span._add_event = hear_beside


def remove_hook(span: Any) -> None:
    """Take the hook off. It and its span hold each other: left on, every span would wait for the garbage collector."""
    with suppress(AttributeError):
        del span._add_event
