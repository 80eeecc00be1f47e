"""Paging by key, shared by the stores in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from spanpost.model.queries import Page, Stats, Sums, TimelineKey
from spanpost.model.readings import Role

T = TypeVar("T")

#: Ids before and after all others, and a time before all others.
NIL, LAST = UUID(int=0), UUID(int=2**128 - 1)
OLDEST: Final = datetime(1, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
#: Roles of spans that a timeline shows, with their names there.
ROLES: Final = {int(Role.STEP): "step", int(Role.LLM): "llm", int(Role.TOOL): "tool", int(Role.HANDOFF): "handoff"}
#: Most agents that have sums of their own.
AGENTS: Final = 200


def bounds_of(after: TimelineKey | None, source: int, *, is_descending: bool = False) -> tuple[datetime, UUID]:
    """Return the time and id after which a source's entries follow a key in the timeline."""
    if after is None:
        return (LATEST, LAST) if is_descending else (OLDEST, NIL)
    if source == after.source:
        return after.at, after.id
    return after.at, NIL if source > after.source else LAST


def stats_of(total: Sums, agents: Sequence[Sums], days: Sequence[Sums], statuses: Sequence[Sums]) -> Stats:
    """Return sums in the order in which they are shown."""
    return Stats(
        total=total,
        agents=sorted(agents, key=lambda one: (-one.tasks, one.word or ""))[:AGENTS],
        days=sorted(days, key=lambda one: one.word or ""),
        statuses=sorted(statuses, key=lambda one: one.word or ""),
    )


def page_of(found: list[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
    """Return a page of `found`, which was queried with `limit + 1` to see whether more follow."""
    items = found[:limit]
    return Page(items=items, next=key(items[-1]) if len(found) > limit and items else None)


def uuid_of(ref: str) -> UUID | None:
    """Parse a UUID of 36 characters; None if it is none."""
    try:
        return UUID(ref) if len(ref) == 36 else None
    except ValueError:
        return None


def trace_of(ref: str) -> bytes | None:
    """Parse a trace id of 32 hex digits; None if it is none."""
    try:
        return bytes.fromhex(ref) if len(ref) == 32 and ref.isascii() and ref.isalnum() else None
    except ValueError:
        return None
