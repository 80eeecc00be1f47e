"""What pages by key have in common, whatever keeps the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from spanpost.model.queries import Page, Stats, Sums, TimelineKey
from spanpost.model.readings import Role

T = TypeVar("T")

#: Before and after all ids, and before all times, that there are.
NIL, LAST = UUID(int=0), UUID(int=2**128 - 1)
OLDEST: Final = datetime(1, 1, 2, tzinfo=UTC)
#: Spans that stand in a timeline, and what they are called there.
ROLES: Final = {int(Role.STEP): "step", int(Role.LLM): "llm", int(Role.TOOL): "tool", int(Role.HANDOFF): "handoff"}
#: Agents that stand by themselves in sums.
AGENTS: Final = 200


def bounds_of(after: TimelineKey | None, source: int) -> tuple[datetime, UUID]:
    """Return after which time and id what comes from that source stands behind a place in a timeline."""
    if after is None:
        return OLDEST, NIL
    if source == after.source:
        return after.at, after.id
    return after.at, NIL if source > after.source else LAST


def stats_of(total: Sums, agents: Sequence[Sums], days: Sequence[Sums], statuses: Sequence[Sums]) -> Stats:
    """Return sums in their order."""
    return Stats(
        total=total,
        agents=sorted(agents, key=lambda one: (-one.tasks, one.word or ""))[:AGENTS],
        days=sorted(days, key=lambda one: one.word or ""),
        statuses=sorted(statuses, key=lambda one: one.word or ""),
    )


def page_of(found: list[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
    """Return a page of what was found, of which one more than the page holds was asked for."""
    items = found[:limit]
    return Page(items=items, next=key(items[-1]) if len(found) > limit and items else None)


def uuid_of(ref: str) -> UUID | None:
    """Return the UUID that is written there, if it is one."""
    try:
        return UUID(ref) if len(ref) == 36 else None
    except ValueError:
        return None


def trace_of(ref: str) -> bytes | None:
    """Return the trace id that is written there in hex, if it is one."""
    try:
        return bytes.fromhex(ref) if len(ref) == 32 and ref.isascii() and ref.isalnum() else None
    except ValueError:
        return None
