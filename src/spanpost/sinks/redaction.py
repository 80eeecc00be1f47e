"""Rules of redaction for what leaves spanpost: to a sink, by a route, by a launcher, by the API.

One walk through a delivery replaces every text that the rules select; where `scans` is set it also replaces
what the built-in scan finds. The rows do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from pydantic import Field, model_validator

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError
from spanpost.model.launch_orders import LAUNCH, Order
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import Task
from spanpost.plugins import PluginSettings
from spanpost.readers.cleaner import Cleaner, clean_bytes
from spanpost.routing.routes import Route, came_by
from spanpost.routing.summaries import came_from
from spanpost.text.patterns import MOST_LENGTH
from spanpost.text.rules import UNNAMED, RedactionAction, RedactionRule, RuleSet, TelemetryPart, fault
from spanpost.text.secrets import ALL_KINDS

#: Fields without agents' text, by the type of the structure: ids, statuses, spanpost's own words.
_SPARED: dict[type, frozenset[str]] = {
    Task: frozenset({"uid", "tenant", "parent_uid", "root_uid", "message_uid", "trace_id", "span_id", "status"})
    | {"end_reason", "rule"},
    Checkpoint: frozenset({"id", "tenant", "task_uid", "trace_id", "span_id", "subtree", "kind", "status"}),
    Alert: frozenset({"id", "tenant", "source", "fingerprint", "trace_id", "span_id", "external_url"}),
    Approval: frozenset({"id", "key", "digest", "decision", "source", "reported_by", "escalated_by"}),
}
#: Parts of telemetry that can be distinguished in what leaves.
SINK_PARTS = (TelemetryPart.ERROR, TelemetryPart.ALERT)
_SCAN_OFF = RedactionRule(action=RedactionAction.KEEP, kinds=ALL_KINDS)
T = TypeVar("T")


class SinkRule(PluginSettings, RedactionRule):
    """A rule for what a sink shows. A text alone is a pattern: `redact = ["PROJ-[0-9]{1,6}"]`."""

    action: RedactionAction = Field(
        default=RedactionAction.REDACT,
        description="`redact`: a marker stands in place of the text, `[redacted:rule]`. `drop`: the whole text is "
        "hidden, also if the pattern matches only a part of it; of labels, results and links the entry is left out.",
    )
    attributes: tuple[Annotated[str, Field(max_length=MOST_LENGTH)], ...] = Field(
        default=(),
        max_length=50,
        description="Names of labels, results, links and attributes, and of fields as the API's JSON has them "
        "(`requested_by`); `*` is any text.",
    )
    parts: tuple[TelemetryPart, ...] = Field(default=(), description="`error`, `alert`. Not given: everything.")
    pattern: str = Field(
        default="",
        max_length=MOST_LENGTH,
        description="Regular expression of the text, with bounds as in `redaction.rules`; `(?i)` before it ignores "
        "capitals.",
    )
    name: str = Field(
        default=UNNAMED, pattern=r"^[a-z][a-z0-9-]{1,39}$", description="Word of the marker: `[redacted:project]`."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_pattern(cls, given: object) -> object:
        return {"pattern": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _hides(self) -> SinkRule:
        if self.action not in (RedactionAction.REDACT, RedactionAction.DROP):
            raise ValueError(f"action: {self.action} is for redaction.rules; what leaves is hidden by redact or drop")
        if self.kinds:
            raise ValueError("kinds: every kind is hidden in what leaves; leave them out")
        if other := [part for part in self.parts if part not in SINK_PARTS]:
            raise ValueError(f"parts: {other[0]} is for redaction.rules; here are {', '.join(SINK_PARTS)}")
        if wrong := fault(self):
            raise ValueError(wrong)
        return self


class OutgoingRules:
    """Compiled rules for what leaves. Several threads may share one."""

    def __init__(self, rules: Sequence[RedactionRule], *, scans: bool) -> None:
        self._cleaner = Cleaner(b"", RuleSet(rules if scans else (*rules, _SCAN_OFF)), frozenset())

    def of(self, value: T) -> T:
        """Return a task, a checkpoint, an alert, a question or a plain value as it may leave."""
        found: T = self._value(value, None, "", frozenset())
        return found

    def order(self, order: Order) -> Order:
        """Return an order as a launcher may see it."""
        part = TelemetryPart.WEBHOOK
        return msgspec.structs.replace(
            order,
            text=self._value(order.text, None, "text", frozenset()),
            parameters=self._cleaner.map(dict(order.parameters)),
            body=clean_bytes(self._cleaner, order.body, part),
        )

    def delivery(self, delivery: Delivery) -> Delivery:
        """Return a delivery as its sink may show it."""
        return msgspec.structs.replace(
            delivery,
            task=self.of(delivery.task),
            children=self.of(delivery.children),
            checkpoint=self.of(delivery.checkpoint),
            alert=self.of(delivery.alert),
            summary=self.of(delivery.summary),
            order=self.order(delivery.order) if delivery.order is not None else None,
        )

    def _value(self, value: Any, part: TelemetryPart | None, path: str, spared: frozenset[str]) -> Any:
        if isinstance(value, str):
            return self._cleaner.field(path, value, part) if path else self._cleaner.text(value, part)
        if isinstance(value, LocaleMessage):
            return LocaleMessage(value.key, {n: self._value(v, part, "", spared) for n, v in value.values.items()})
        if isinstance(value, msgspec.Struct):
            spared, part = _SPARED.get(type(value), spared), _part_of(value, part)
            names = [name for name in value.__struct_fields__ if name not in spared]
            changed = {name: self._value(getattr(value, name), part, name, spared) for name in names}
            return msgspec.structs.replace(value, **changed)
        if isinstance(value, tuple | list):
            return type(value)(self._value(one, part, path, spared) for one in value)
        if isinstance(value, dict):
            if any(isinstance(one, msgspec.Struct | LocaleMessage) for one in value.values()):
                return {name: self._value(one, part, name, spared) for name, one in value.items()}
            return self._cleaner.map(value, part, is_top=True)
        return value


def _part_of(value: msgspec.Struct, part: TelemetryPart | None) -> TelemetryPart | None:
    if isinstance(value, Failure) or (isinstance(value, Checkpoint) and value.kind is Kind.ERROR):
        return TelemetryPart.ERROR
    return TelemetryPart.ALERT if isinstance(value, Alert) else part


@lru_cache(maxsize=256)
def compiled(rules: tuple[RedactionRule, ...], *, scans: bool) -> OutgoingRules:
    """Return compiled rules; the same object for equal rules."""
    return OutgoingRules(rules, scans=scans)


class DeliveryCarrier(Protocol):
    """**Protocol:** the part of a sink that the dispatcher needs; `spanpost.sinks.base.Sink` is one."""

    async def deliver(self, delivery: Delivery) -> Receipt: ...

    async def reconcile(self, deliveries: list[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]: ...

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]: ...


class RedactingCarrier:
    """Carries deliveries to a sink or a launcher by its rules and those of the delivery's route."""

    def __init__(
        self, carrier: DeliveryCarrier, rules: tuple[RedactionRule, ...], routes: Callable[[], Sequence[Route]]
    ) -> None:
        self._carrier = carrier
        self._rules = rules
        self._routes = routes

    async def deliver(self, delivery: Delivery) -> Receipt:
        return await self._carrier.deliver(self._clean(delivery))

    async def reconcile(self, deliveries: list[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        return await self._carrier.reconcile([self._clean(one) for one in deliveries])

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        return self._carrier.rate_limits(address, call)

    def _clean(self, delivery: Delivery) -> Delivery:
        here = [route for route in self._routes() if route.sink == delivery.sink]
        route = came_from(delivery.summary.content, here) if delivery.summary is not None else None
        route = route or came_by(here, delivery.address, delivery.task)
        rules = (*self._rules, *(route.redact if route is not None else ()))
        # A launcher's parameters may hold what it needs to work.
        is_launch = delivery.sink.startswith(LAUNCH)
        return compiled(rules, scans=not is_launch).delivery(delivery) if rules or not is_launch else delivery
