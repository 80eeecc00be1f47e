"""Keeps spans of agents that an application's sampler drops: they are recorded, and stay unsampled.

A span that the sampler drops exists for no processor. So the sampler of a joined provider is changed: where
it would drop a span that may be an agent's, it answers RECORD_ONLY. The span then reaches span processors and
ours among them; its sampled flag stays unset, so that the SDK's exporting processors leave it out and the
flag that is propagated is the same as before.

The sampler is changed in place, because each tracer that exists already holds it. Of a `ParentBased` sampler
only the parts that may drop are changed: the way of a sampled span costs nothing more. Other providers that
share the sampler object record such spans too, and export no more either.

Which spans may be an agent's (`may_be_agent`): those below a recorded span, those with an attribute that a
dialect reads, and others unless their kind or attributes show a request, a query or a message. Instrumentations
give these attributes at the start, as the semantic conventions demand for sampling; agents often give theirs
later, so that in doubt a span is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, StaticSampler
from opentelemetry.trace import SpanKind

from spanpost.readers import is_silent
from spanpost.receivers.queue import Loss

if TYPE_CHECKING:
    from spanpost.receivers.worker import Feed

_log = logging.getLogger("spanpost.receivers")

_PARTS: Final = (
    "_root",
    "_remote_parent_sampled",
    "_remote_parent_not_sampled",
    "_local_parent_sampled",
    "_local_parent_not_sampled",
)
#: Kinds of a request that comes in and of messages: an agent's span below has another.
_FOREIGN_KINDS: Final = frozenset({SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER})
_FOREIGN_KEYS: Final = ("http.", "url.", "db.", "rpc.", "messaging.", "faas.", "net.", "asgi.", "wsgi.")


class UnsampledSpans(StrEnum):
    """Which spans that the application's sampler drops are recorded for spanpost."""

    AGENTS = "agents"
    ALL = "all"
    NONE = "none"


def may_be_agent(parent_context: Any, kind: SpanKind | None, attributes: Any) -> bool:
    """Whether a span that starts may be an agent's; in doubt it may."""
    if trace.get_current_span(parent_context).is_recording():
        return True
    keys = tuple(attributes) if attributes else ()
    if keys and not is_silent("", keys):
        return True
    return kind not in _FOREIGN_KINDS and not any(type(key) is str and key.startswith(_FOREIGN_KEYS) for key in keys)


class KeepingSampler(Sampler):
    """A sampler around another, which records spans that the other drops."""

    def __init__(self, inner: Any, feed: Feed, which: UnsampledSpans) -> None:
        self.inner = inner
        self._decide = inner.should_sample
        self.feed = feed
        self._which = which

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        *rest: Any,
        **named: Any,
    ) -> SamplingResult:
        """Return the other's result, with RECORD_ONLY instead of DROP where the span is kept.

        What the other raises is the application's: as without spanpost.
        """
        result: SamplingResult = self._decide(parent_context, trace_id, name, kind, attributes, *rest, **named)
        if result.decision is not Decision.DROP or self.feed.is_closed:
            return result
        try:
            if self._which is not UnsampledSpans.ALL and not may_be_agent(parent_context, kind, attributes):
                return result
            if self._which is UnsampledSpans.NONE:
                self.feed.losses.count(Loss.UNSAMPLED)
                return result
            own: Any = result.attributes or {}
            return SamplingResult(Decision.RECORD_ONLY, {**(attributes or {}), **own}, result.trace_state)
        except Exception:
            self.feed.losses.count(Loss.CALLBACK)
            return result

    def get_description(self) -> str:
        return str(self.inner.get_description())


def keep_unsampled(provider: Any, feed: Feed, which: UnsampledSpans) -> Callable[[], None]:
    """Change the sampler of an SDK provider, and log what it means; return what undoes it."""
    sampler = getattr(provider, "sampler", None)
    if sampler is None or _never_drops(sampler):
        return lambda: None
    if not _may_drop_only_by_parent(sampler):
        _report(sampler, which)
    if _is_parent_based(sampler):
        return _change_parts(sampler, feed, which)
    return _change(provider, sampler, feed, which)


def _change_parts(sampler: Any, feed: Feed, which: UnsampledSpans) -> Callable[[], None]:
    changed: dict[str, tuple[Any, Any]] = {}
    for name in _PARTS:
        part = getattr(sampler, name)
        if isinstance(part, KeepingSampler):  # of another feed
            if not part.feed.is_closed:
                continue
            part = part.inner
        if not _never_drops(part):
            changed[name] = (part, KeepingSampler(part, feed, which))
            setattr(sampler, name, changed[name][1])

    def undo() -> None:
        for name, (before, after) in changed.items():
            if getattr(sampler, name, None) is after:
                setattr(sampler, name, before)

    return undo


def _change(provider: Any, sampler: Any, feed: Feed, which: UnsampledSpans) -> Callable[[], None]:
    before = getattr(sampler, "__dict__", {}).get("should_sample")
    holder = getattr(before, "__self__", None)
    if isinstance(holder, KeepingSampler):
        if not holder.feed.is_closed:
            return lambda: None
        del sampler.should_sample
    keeping = KeepingSampler(sampler, feed, which)
    after = keeping.should_sample
    try:
        sampler.should_sample = after
    except AttributeError:  # a class with __slots__: tracers that exist keep it
        provider.sampler = keeping

        def undo() -> None:
            if provider.sampler is keeping:
                provider.sampler = sampler
    else:

        def undo() -> None:
            if sampler.__dict__.get("should_sample") is after:
                del sampler.should_sample

    return undo


def _never_drops(sampler: Any) -> bool:
    if type(sampler).__name__ == "AlwaysRecordSampler":
        return True
    decision = getattr(sampler, "_decision", None) if isinstance(sampler, StaticSampler) else None
    return decision is not None and decision is not Decision.DROP and "should_sample" not in sampler.__dict__


def _may_drop_only_by_parent(sampler: Any) -> bool:
    """Whether a sampler drops only what a caller in another process has not sampled: the default does."""
    root = getattr(sampler, "_root", None) if _is_parent_based(sampler) else None
    return root is not None and (_never_drops(root) or getattr(root, "rate", None) == 1.0)


def _is_parent_based(sampler: Any) -> bool:
    return type(sampler).should_sample is ParentBased.should_sample and all(hasattr(sampler, name) for name in _PARTS)


def _report(sampler: Any, which: UnsampledSpans) -> None:
    try:
        name = str(sampler.get_description())[:200]
    except Exception:
        name = type(sampler).__name__
    if which is UnsampledSpans.NONE:
        _log.warning(
            "the sampler %s may drop spans, and tasks with them: spanpost sees no span that it drops; "
            "set attach.unsampled_spans to agents",
            name,
        )
    else:
        _log.info(
            "the sampler %s may drop spans: %s are recorded for spanpost all the same, and not exported "
            "(attach.unsampled_spans)",
            name,
            "all of them" if which is UnsampledSpans.ALL else "those that may be an agent's",
        )
