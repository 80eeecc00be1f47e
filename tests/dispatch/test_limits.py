"""What sinks say of their rate limits."""

from __future__ import annotations

from typing import Any

from spanpost.dispatch.limits import SinkLimits
from spanpost.dispatch.reports import DispatcherReports
from spanpost.model.deliveries import RateLimit, SinkCall


class _Sink:
    """A sink that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        self.asked += 1
        return (RateLimit(key=f"sink:{self.asked}", is_breaker=True),)


async def test_a_sink_is_asked_once_for_many_rounds_and_again_after_a_while() -> None:
    """The limits of a call are asked for once, and anew when they have lasted long enough or the sink was replaced."""
    sink: Any = _Sink()
    limits = SinkLimits({"sink": sink}, DispatcherReports(None), 3600.0)
    assert {limits.of("sink", "C1", SinkCall.POST)[0].key for _ in range(1_000)} == {"sink:1"}
    assert limits.of("sink", "C2", SinkCall.POST)[0].key == "sink:2"
    limits.forget()
    assert limits.of("sink", "C1", SinkCall.POST)[0].key == "sink:3"
    impatient = SinkLimits({"sink": sink}, DispatcherReports(None), 0.0)
    assert impatient.of("sink", "C1", SinkCall.POST) != impatient.of("sink", "C1", SinkCall.POST)
