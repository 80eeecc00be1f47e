"""A launch order: work that a person, a program or a rule asked for. It is stored first, then delivered."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

#: Prefixes of `Order.carrier`; the launcher's or the provider's own name follows.
LAUNCH: Final = "launch:"
HOOK: Final = "hook:"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Work that was asked for. Its texts come from people and agents: untrusted.

    `id` lets a receiver recognise duplicates: an order is delivered at least once. It is derived from the
    request, so that a repeated request has the same id.
    """

    id: UUID
    tenant: str
    #: Who handles it: ``launch:<launcher>``, ``hook:<provider>`` for an incoming request that must be
    #: parsed, or ``summary:<sink>`` for a digest or a board (`spanpost.model.summaries`).
    carrier: str
    #: The work to do.
    text: str = ""
    parameters: dict[str, str] = {}
    #: Public id of the task to repeat, and of the task whose end caused this order.
    retry_of: str = ""
    caused_by: str = ""
    #: That task's uid, and the number of its run.
    task_uid: UUID | None = None
    run: int = 0
    #: Number of rule-made orders that led to this one; 0 when a person or a program asked.
    depth: int = 0
    #: slack, api, app, cli, rule, schedule, hook.
    source: str = ""
    #: Who asked: a name for people, an id for programs (provider, team and user id).
    by: str = ""
    by_id: str = ""
    #: Name of the rule or schedule that asked; empty: none.
    rule: str = ""
    #: The body of an incoming request, as received.
    body: bytes = b""
    at: datetime

    @property
    def name(self) -> str:
        """The launcher's or the provider's own name."""
        return self.carrier.partition(":")[2]


class Taken(StrEnum):
    """The outcome of handing in an order."""

    NEW = "new"
    #: The same order was handed in before.
    KNOWN = "known"
    #: The same request was received within the hour.
    REPLAYED = "replayed"


def order_json(order: Order) -> dict[str, Any]:
    """Return an order as JSON for its receivers: texts, without spanpost's internal fields. Public."""
    document = {
        "id": str(order.id),
        "launcher": order.name,
        "tenant": order.tenant,
        "text": order.text,
        "parameters": order.parameters,
        "retry_of": order.retry_of or None,
        "caused_by": order.caused_by or None,
        "requested_by": order.by or None,
        "source": order.source,
        "depth": order.depth,
        "at": order.at.isoformat(),
    }
    return document


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of launch orders for `LaunchOrders.listed`."""

    tenant: str | None = None
    #: ``launch:<launcher>`` or ``hook:<provider>``.
    carrier: str | None = None
    #: The task that the orders are about.
    task_uid: UUID | None = None
    id: UUID | None = None
    limit: int = 50


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """A launch order and the state of its delivery."""

    order: Order
    #: waiting, sending, delivered or dead; empty when the delivery was archived.
    state: str = ""
    reason: str = ""
    error: str = ""
    #: What the launcher returned (`Receipt.ref`).
    ref: dict[str, Any] = {}
