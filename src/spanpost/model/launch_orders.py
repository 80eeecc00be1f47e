"""An order: work that somebody, or a rule, asked for; a row first, then carried to who does it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

#: How the name of what carries an order begins; the rest is the launcher's, or the provider's, own name.
LAUNCH: Final = "launch:"
HOOK: Final = "hook:"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is asked for. Texts in it are people's and agents': untrusted.

    `id` is what a receiver knows a repeat by: an order is carried at least once. It is made of what asked for it, so that the
    same asking is the same order.
    """

    id: UUID
    tenant: str
    #: Who carries it: ``launch:<launcher>``, ``hook:<provider>`` for a request that came in and is to be understood, or
    #: ``summary:<sink>`` for a digest or a board (`domain.summaries`).
    carrier: str
    #: What is to be done, for who does it.
    text: str = ""
    parameters: dict[str, str] = {}
    #: Public id of the task that is to be done again, or whose end asked for this.
    retry_of: str = ""
    caused_by: str = ""
    #: That task: its uid, and which of its runs.
    task_uid: UUID | None = None
    run: int = 0
    #: How many orders by rules led to this one; 0 where a person or a program asked.
    depth: int = 0
    #: slack, api, cli, rule, hook.
    source: str = ""
    #: Who asked: for people, and for programs (provider, team and id).
    by: str = ""
    by_id: str = ""
    #: Name of the rule that asked.
    rule: str = ""
    #: Of a request that came in: as it came.
    body: bytes = b""
    at: datetime

    @property
    def name(self) -> str:
        """The launcher's or the provider's own name."""
        return self.carrier.partition(":")[2]


class Taken(StrEnum):
    """What became of an order that was handed in."""

    NEW = "new"
    #: The same was handed in before.
    KNOWN = "known"
    #: The very same request was heard within the hour.
    REPLAYED = "replayed"


def order_json(order: Order) -> dict[str, Any]:
    """Return an order as its receivers are told it: texts, without what concerns the house alone. Public."""
    told = {
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
    return told
