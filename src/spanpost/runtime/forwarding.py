"""A pipeline that records nothing and sends telemetry to a gateway over OTLP, live.

It has a queue, a worker and a sender; no store, dispatcher, sinks or metrics. Those belong to the
gateway (``spanpost run``), which may stand behind any Collector.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from spanpost.agent.gateway import ControlUnavailable, GatewayClient
from spanpost.model.observations import Observation
from spanpost.receivers.forward_target import Target
from spanpost.receivers.forwarder import ForwardedSpans, Forwarder
from spanpost.runtime.assembly import enabled_sinks, redaction_of
from spanpost.runtime.pipeline import Pipeline, log
from spanpost.settings import ForwardSettings, Settings

if TYPE_CHECKING:
    from spanpost.agent.control import Control


def target_of(section: ForwardSettings) -> Target:
    """Return the endpoint of the settings."""
    headers = {name: value.get_secret_value() for name, value in section.headers.items()}
    if section.token is not None:
        headers["authorization"] = f"Bearer {section.token.get_secret_value()}"
    return Target(
        section.endpoint,
        protocol=section.protocol or "",
        headers=headers,
        timeout=section.timeout.total_seconds(),
        certificate=_text(section.certificate),
        client_certificate=_text(section.client_certificate),
        client_key=_text(section.client_key),
    )


def _text(path: Any) -> str | None:
    return str(path.expanduser()) if path is not None else None


def gateway_client(settings: Settings) -> GatewayClient | None:
    """Return a client of the gateway that the section `control` names, or of the one that receives telemetry;
    None if that is reached by gRPC alone.
    """
    section, control = settings.forward, settings.control
    assert section is not None
    target = target_of(section)
    if control.endpoint is None and (target.protocol == "grpc" or not section.endpoint.startswith("http")):
        return None
    headers = dict(target.headers)
    if control.token is not None:
        headers["authorization"] = f"Bearer {control.token.get_secret_value()}"
    with suppress(ControlUnavailable):
        return GatewayClient(
            control.endpoint or section.endpoint.removesuffix("/v1/logs"),
            headers=headers,
            certificate=_text(control.certificate) or target.certificate,
        )
    return None


class Forwarding(Pipeline):
    """The pipeline that `attach` returns if an endpoint is set. `start` raises `ConfigError` if a library
    is missing.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.forward is not None
        super().__init__(settings)
        self._forwarder: Forwarder | None = None

    def start(self) -> None:
        """Make the forwarder; the first batch opens the connections."""
        section = self.settings.forward
        assert section is not None
        if self.is_off or self._forwarder is not None:
            return
        redaction = redaction_of(self.settings)
        if redaction is not None:
            redaction.keyed(token_bytes(32))
        self._forwarder = Forwarder(
            target_of(section),
            spans=ForwardedSpans(section.spans),
            providers=self._providers,
            redaction=redaction.sparing_questions() if redaction is not None else None,
            max_request=section.max_request_bytes,
            max_waiting=section.max_waiting_bytes,
            retry_time=section.retry_timeout.total_seconds(),
        )
        self._tell_end = self._forwarder.tell_end
        self._forwarder.bind(self.feed)
        if sinks := enabled_sinks(self.settings):
            log.warning("forward: settings of %s are not used here: sinks belong to the gateway", ", ".join(sinks))

    def control(self) -> Control | None:
        """Return a client of the gateway (`gateway_client`)."""
        return gateway_client(self.settings)

    def receive(self, batch: Sequence[Observation]) -> None:
        """Send a batch, from a worker thread."""
        if self._forwarder is not None and not self.is_off:
            self._forwarder(batch)

    def _providers(self) -> list[Any]:
        joined = [provider for provider, _ in self.attachment.joined] if self.attachment is not None else []
        # Processors that were added by hand do not know their provider.
        return [p for p in joined if hasattr(p, "add_span_processor")] or [trace.get_tracer_provider()]

    def shutdown(self, timeout: float = 3.0) -> bool:
        """Send what is left and close everything, within about `timeout` seconds. Safe to repeat."""
        if self.is_shut:
            return True
        if self._forwarder is not None:
            self._forwarder.give_up()
        is_done = super().shutdown(timeout)
        if self._forwarder is not None:
            self._forwarder.close()
        return is_done
