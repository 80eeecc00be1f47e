"""Summaries of many tasks in one message: a digest of a period, a board of open tasks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task

#: Prefix of `Order.carrier`; the sink's name follows.
SUMMARY: Final = "summary:"


class Digest(msgspec.Struct, frozen=True, kw_only=True, tag="digest"):
    """Tasks that ended in a period on one route, and those that wait at its end. Root tasks only."""

    #: The route's key (`spanpost.routing.summaries.route_key`).
    route: str
    began_at: datetime
    ends_at: datetime
    #: Number of ended tasks, by status.
    ended: dict[str, int] = {}
    #: Number of open tasks, by `Task.shown_status` at the end of the period.
    living: dict[str, int] = {}
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    #: Model calls whose cost is unknown.
    unpriced: int = 0
    #: Failed tasks, newest first, and tasks that need a person, oldest first; beyond a few only the number.
    failed: tuple[Task, ...] = ()
    needy: tuple[Task, ...] = ()


class Board(msgspec.Struct, frozen=True, kw_only=True, tag="board"):
    """Open tasks of one route, those that need a person first; `more` are not listed."""

    route: str
    tasks: tuple[Task, ...] = ()
    more: int = 0
    #: Number of open tasks, by `Task.shown_status`.
    living: dict[str, int] = {}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A summary that a delivery carries. `key` identifies its message: a board always has the same."""

    id: UUID
    key: str
    content: Digest | Board
