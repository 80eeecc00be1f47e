"""One message for many tasks: a digest of what a period came to, a board of what is under way."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task

#: How the name of what carries one begins; the rest is the sink's name.
SUMMARY: Final = "summary:"


class Digest(msgspec.Struct, frozen=True, kw_only=True, tag="digest"):
    """What ended in a period on one route, and what waits at its end. Tasks are roots: sub-agents are part of them."""

    #: What the route is known by (`fold.summaries.route_key`).
    route: str
    began_at: datetime
    ends_at: datetime
    #: How many ended, by status.
    ended: dict[str, int] = {}
    #: How many are under way, by status as it was at the end of the period.
    living: dict[str, int] = {}
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    #: Model calls of which no cost is known.
    unpriced: int = 0
    #: Those that failed and those that need a person, the newest and the oldest first; of more than a few the number alone.
    failed: tuple[Task, ...] = ()
    needy: tuple[Task, ...] = ()


class Board(msgspec.Struct, frozen=True, kw_only=True, tag="board"):
    """What is under way on one route, the neediest first; `more` are not listed."""

    route: str
    tasks: tuple[Task, ...] = ()
    more: int = 0
    #: How many, by status.
    living: dict[str, int] = {}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery carries that tells of many tasks. `key` is what its message is known by: one for good of a board."""

    id: UUID
    key: str
    told: Digest | Board
