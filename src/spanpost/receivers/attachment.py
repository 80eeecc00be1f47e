"""Attaches the processors to existing providers, once, beside any other processors."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from spanpost.model.errors import ConfigError
from spanpost.receivers.protocols import Receive
from spanpost.receivers.queue import CAPACITY
from spanpost.receivers.sampling import UnsampledSpans, keep_unsampled
from spanpost.receivers.sdk import SdkLogProcessor, SdkSpanProcessor
from spanpost.receivers.worker import MAX_CLOSE, MAX_FLUSH, SCAN_INTERVAL, Feed

_log = logging.getLogger("spanpost.receivers")

#: Attribute set on a joined provider: a second attachment finds the first.
_MARK = "_spanpost_attachment"


class Attachment:
    """An attachment: flush it, shut it down, read what was dropped. Without a feed it does nothing."""

    def __init__(self, feed: Feed | None = None) -> None:
        self.feed = feed
        self.joined: list[tuple[Any, Any]] = []
        #: Undo the changes of the providers' samplers.
        self.undo_sampling: list[Callable[[], None]] = []

    @property
    def is_active(self) -> bool:
        """False: nothing is followed, because the SDK is disabled or the attachment is shut down."""
        return self.feed is not None and not self.feed.is_closed

    @property
    def dropped(self) -> dict[str, int]:
        """Dropped items so far, by reason (`spanpost.receivers.queue.Loss`)."""
        return {} if self.feed is None else self.feed.losses.totals()

    def flush(self, timeout: float = MAX_FLUSH) -> bool:
        """Wait until everything queued is passed on, at most 2 s; False: not done."""
        return self.feed is None or self.feed.flush(timeout)

    def shutdown(self, timeout: float = MAX_CLOSE) -> bool:
        """Mark open spans as interrupted, pass on the queued items, leave the providers; at most 3 s, safe to
        repeat.
        """
        if self.feed is None:
            return True
        is_done = self.feed.close(timeout)
        for provider, processor in self.joined:
            _leave(provider, processor)
        self.joined.clear()
        for undo in self.undo_sampling:
            undo()
        self.undo_sampling.clear()
        atexit.unregister(self.shutdown)
        return is_done

    detach = shutdown


def join(
    receive: Receive | Feed,
    *,
    tenant: str = "default",
    capacity: int = CAPACITY,
    scan_interval: float = SCAN_INTERVAL,
    tracer_provider: Any = None,
    logger_provider: Any = None,
    unsampled_spans: UnsampledSpans = UnsampledSpans.AGENTS,
) -> Attachment:
    """Add the processors to the tracer and logger providers (default: the current ones), once.

    An existing provider is joined, not replaced. If there is only the API's placeholder, an SDK provider is
    created and set. If the provider is joined already (by this or by hand), the existing attachment is
    returned and `receive` is not used. If ``OTEL_SDK_DISABLED`` is true or a no-op provider was set on
    purpose, nothing is followed, and one line is logged. `unsampled_spans` of those that the provider's sampler
    drops are followed too.

    Raises `ConfigError` for a tracer provider that accepts no processors.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        _log.info("OTEL_SDK_DISABLED is true: spanpost follows nothing")
        return Attachment()
    provider = tracer_provider if tracer_provider is not None else _current_tracer_provider()
    if isinstance(provider, trace.NoOpTracerProvider):
        _log.info("the tracer provider is a no-op: spanpost follows nothing")
        return Attachment()
    if not hasattr(provider, "add_span_processor"):
        raise ConfigError(
            f"tracer provider {type(provider).__module__}.{type(provider).__qualname__} takes no span processors; "
            "pass one that has add_span_processor, as opentelemetry.sdk.trace.TracerProvider does"
        )
    if (existing := _attachment_of(provider)) is not None:
        if existing.feed is not None and existing.feed is receive:  # our own feed: add the missing log processor
            _join_logs(existing, existing.feed, provider, logger_provider)
        return existing

    feed = (
        receive
        if isinstance(receive, Feed)
        else Feed(receive, tenant=tenant, capacity=capacity, scan_interval=scan_interval)
    )
    attachment = Attachment(feed)
    processor = SdkSpanProcessor(feed)
    provider.add_span_processor(processor)
    attachment.joined.append((provider, processor))
    attachment.undo_sampling.append(keep_unsampled(_real(provider), feed, unsampled_spans))
    _mark(provider, attachment)
    _join_logs(attachment, feed, provider, logger_provider)
    if getattr(_real(provider), "_atexit_handler", None) is None:
        # This provider has no exit handler. Handlers run last registered first, so this one runs before the
        # existing ones.
        atexit.register(attachment.shutdown)
    return attachment


def _current_tracer_provider() -> Any:
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider())
        provider = trace.get_tracer_provider()  # another thread may have set one first
    return provider


def _join_logs(attachment: Attachment, feed: Feed, tracer_provider: Any, logger_provider: Any) -> None:
    """Join the logger provider. Spans are followed without it, so a missing one is logged and no error."""
    try:
        from opentelemetry import _logs as logs
        from opentelemetry.sdk._logs import LoggerProvider
    except ImportError:
        _log.info("this opentelemetry has no logs: only spans are followed")
        return
    provider = logger_provider
    if provider is None:
        provider = logs.get_logger_provider()
        if type(provider).__name__ == "ProxyLoggerProvider" and not hasattr(provider, "add_log_record_processor"):
            resource = getattr(_real(tracer_provider), "resource", None)
            logs.set_logger_provider(LoggerProvider(resource=resource))
            provider = logs.get_logger_provider()
    if not hasattr(provider, "add_log_record_processor"):
        _log.info("logger provider %s takes no processors: only spans are followed", type(provider).__qualname__)
        return
    if _has_processor(provider, feed):
        return
    processor = SdkLogProcessor(feed)
    provider.add_log_record_processor(processor)
    attachment.joined.append((provider, processor))


def _has_processor(logger_provider: Any, feed: Feed) -> bool:
    """Whether a logger provider was joined, by this or by hand."""
    container = getattr(_real(logger_provider), "_multi_log_record_processor", None)
    existing = getattr(container, "_log_record_processors", ())
    return any(isinstance(p, SdkLogProcessor) and p.feed is feed for p in existing)


def _real(provider: Any) -> Any:
    """Return the SDK's provider behind a wrapper (Logfire's keeps it as `provider`)."""
    inner = getattr(provider, "provider", None)
    is_provider = hasattr(inner, "add_span_processor") or hasattr(inner, "add_log_record_processor")
    return inner if is_provider else provider


def _mark(provider: Any, attachment: Attachment) -> None:
    for one in {id(p): p for p in (provider, _real(provider))}.values():
        with suppress(AttributeError):  # a provider with __slots__ is found by its processors
            setattr(one, _MARK, attachment)


def _attachment_of(provider: Any) -> Attachment | None:
    """Return a provider's active attachment: the one it is marked with, or a new one around a processor
    added by hand.
    """
    for one in (provider, _real(provider)):
        marked = one.__dict__.get(_MARK) if hasattr(one, "__dict__") else None
        if isinstance(marked, Attachment) and marked.is_active:
            return marked
        container = getattr(one, "_active_span_processor", None)
        for processor in getattr(container, "_span_processors", ()):
            if isinstance(processor, SdkSpanProcessor) and not processor.feed.is_closed:
                _log.info("an AgentSpanProcessor is there already: it is used as it is")
                attachment = Attachment(processor.feed)
                _mark(provider, attachment)
                return attachment
    return None


def _leave(provider: Any, processor: Any) -> None:
    """Remove a processor from its provider, if the SDK's containers are known; a closed one left there does
    nothing.
    """
    for container_name, name in (
        ("_active_span_processor", "_span_processors"),
        ("_multi_log_record_processor", "_log_record_processors"),
    ):
        container = getattr(_real(provider), container_name, None)
        existing = getattr(container, name, None)
        lock = getattr(container, "_lock", None)
        if container is None or lock is None or not isinstance(existing, tuple):
            continue
        with lock:
            setattr(container, name, tuple(p for p in getattr(container, name) if p is not processor))
