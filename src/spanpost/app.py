"""The one pipeline of this process. An agent calls `attach`."""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING, Any

from spanpost.agent import control
from spanpost.model.errors import ConfigError
from spanpost.runtime.pipeline import Pipeline
from spanpost.runtime.prices import import_ahead
from spanpost.runtime.process import at_child_end
from spanpost.settings import Settings, foreign_database, is_sdk_disabled, load

if TYPE_CHECKING:
    from spanpost.receivers.attachment import Attachment

log = logging.getLogger("spanpost")

_current: Pipeline | None = None
_attaching = threading.Lock()


def attach(
    settings: Settings | None = None,
    *,
    endpoint: str | None = None,
    tracer_provider: Any = None,
    logger_provider: Any = None,
    flush_on_sigterm: bool | None = None,
    **sections: Any,
) -> Pipeline:
    """Follow this process's agents: add spanpost to the current tracer and logger providers, beside
    existing processors.

    Settings come from the environment and ``spanpost.toml``; `sections` override them::

        spanpost.attach(database={"url": "postgresql://..."}, console={})

    With an `endpoint` (``http://collector:4318``) telemetry is sent there over OTLP, live, and nothing is
    recorded in this process: `spanpost.runtime.forwarding`. `flush_on_sigterm` overrides the setting of
    that name.

    If it is attached already, the existing pipeline is returned. Without a database the tasks are followed
    in memory and audit rows are not kept, which is logged once. Raises `ConfigError` if the settings are
    wrong; nothing raises later. The providers' shutdown and the interpreter's exit flush and close it. With
    ``OTEL_SDK_DISABLED`` or ``SPANPOST_ATTACH__ENABLED=false`` nothing is opened or followed, and the
    returned pipeline does nothing.
    """
    global _current
    with _attaching:
        there = _living()
        if there is not None:
            more = _joined(there, tracer_provider, logger_provider)  # there may be another provider
            if there.attachment is not None and more is not there.attachment:
                there.attachment.joined += [pair for pair in more.joined if pair not in there.attachment.joined]
                there.attachment.undo_sampling += more.undo_sampling
            return there
        if endpoint is not None:
            if settings is not None:
                raise ConfigError(
                    "attach: settings and an endpoint were given; give one of them (settings have a section `forward`)"
                )
            sections["forward"] = {**sections.get("forward", {}), "endpoint": endpoint}
        pipeline = _started(settings if settings is not None else load(**sections))
        if pipeline.is_off:
            return pipeline
        try:
            pipeline.attachment = _joined(pipeline, tracer_provider, logger_provider)
        except BaseException:
            pipeline.shutdown()
            raise
        if flush_on_sigterm if flush_on_sigterm is not None else pipeline.settings.attach.flush_on_sigterm:
            pipeline.flush_on_sigterm()
        _current = pipeline
        control.install(pipeline.control())
        return pipeline


def _joined(pipeline: Pipeline, tracer_provider: Any, logger_provider: Any) -> Attachment:
    from spanpost.receivers.attachment import join
    from spanpost.receivers.sampling import UnsampledSpans

    return join(
        pipeline.feed,
        tracer_provider=tracer_provider,
        logger_provider=logger_provider,
        unsampled_spans=UnsampledSpans(pipeline.settings.attach.unsampled_spans),
    )


def current(**sections: Any) -> Pipeline:
    """Return this process's pipeline, started from the settings if there is none yet."""
    global _current
    with _attaching:
        there = _living()
        if there is None:
            there = _current = _started(load(**sections))
        return there


def flush(timeout: float = 2.0) -> bool:
    """Wait until earlier observations are recorded and due deliveries are delivered.

    A serverless platform freezes a process between two requests: call this at the end of each. False if it
    took longer than `timeout` seconds or an observation was dropped; True, at once, if nothing is attached.
    """
    there = _living()
    return there is None or there.force_flush(timeout)


def _living() -> Pipeline | None:
    there = _current
    return there if there is not None and not there.is_shut else None


def _started(settings: Settings) -> Pipeline:
    if settings.forward is not None:
        from spanpost.runtime.forwarding import Forwarding

        pipeline: Pipeline = Forwarding(settings)
    else:
        pipeline = Pipeline(settings)
    if is_sdk_disabled() or not settings.attach.enabled:
        log.info(
            "%s: spanpost follows nothing",
            "OTEL_SDK_DISABLED is true" if is_sdk_disabled() else "attach.enabled is false",
        )
        pipeline.is_off = True
        return pipeline
    if settings.forward is None:
        if not settings.has_database:
            log.warning("%s", _no_database(foreign_database()))
        if settings.cost.enabled:
            import_ahead()
    pipeline.when_shut = _forget
    pipeline.start()
    atexit.register(pipeline.shutdown)
    at_child_end(pipeline, pipeline.shutdown)
    return pipeline


def _no_database(other: str) -> str:
    """Return the warning that no audit rows are kept, why, and what to set. spanpost does not refuse an
    application's own database.
    """
    why, what = (
        (f"DATABASE_URL names {other}", "SPANPOST_DATABASE__URL") if other else ("no database is set", "DATABASE_URL")
    )
    return (
        f"{why}: tasks are followed in memory and audit rows are not kept; set {what} to a PostgreSQL, "
        "or SPANPOST_DATABASE__EMBEDDED=true for the embedded one"
    )


def _forget(pipeline: Pipeline) -> None:
    global _current
    if _current is pipeline:
        _current = None
        control.install(None)
