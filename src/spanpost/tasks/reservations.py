"""Reservations: what agents claim from budgets before their calls, and what of it is left.

Rules. A reservation is granted if every budget of the task holds it beside what is spent and what others
reserved. It is used by the calls that the task is seen to make, the oldest first: what is spent is not
reserved any more. One that is given back before its calls were seen holds for `LINGER` longer, so that calls
on their way to spanpost are counted somewhere. A reservation ends by itself when its time is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.budgets import BudgetFigures, Reservation, Spent
from spanpost.model.tasks import Task
from spanpost.tasks.amounts import dollars
from spanpost.tasks.budgets import in_words
from spanpost.text.wording import worded

#: How long a reservation that was given back still holds, if its calls were not seen.
LINGER: Final = timedelta(seconds=30)


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a reservation."""

    #: Why it was refused; empty: granted.
    refusal: str = ""
    expires_at: datetime | None = None
    budgets: list[Spent] = []


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is left of a reservation in one budget."""

    id: UUID
    budget: str
    tenant: str
    ref: str
    scope: tuple[tuple[str, str], ...]
    calls: int
    tokens: int
    usd: Decimal
    made_at: datetime
    expires_at: datetime


def refs_of(task: Task) -> set[str]:
    """Return the names by which agents claim for a task."""
    return {ref for ref in (task.task_id, *task.aliases, task.trace_id.hex()) if ref}


def why_refused(claim: Reservation, standing: Sequence[Spent]) -> str:
    """Return why a reservation is refused; empty: it is granted. `standing`: spent and reserved by others."""
    for spent in standing:
        fits = (
            not spent.is_used_up
            and _fits(spent.left_usd, claim.usd)
            and _fits(spent.left_tokens, claim.tokens)
            and _fits(spent.left_calls, claim.calls)
        )
        if not fits:
            return f"{worded(in_words(spent))[0]}, and {_in_words(spent)} reserved by agents"
    return ""


def _fits(left: Decimal | int | None, asked: Decimal | int) -> bool:
    return left is None or (left > 0 and left >= asked)


def _in_words(spent: Spent) -> str:
    found = [f"{spent.reserved_calls:,} calls"]
    if spent.limit_tokens is not None:
        found.append(f"{spent.reserved_tokens:,} tokens")
    if spent.limit_usd is not None:
        found.append(f"${spent.reserved_usd:,.2f}")
    return " and ".join(found)


def claims_of(claim: Reservation, standing: Sequence[Spent], now: datetime) -> list[Claim]:
    """Return the claims of a reservation that was granted: one on each budget."""
    return [
        Claim(
            id=claim.id, budget=spent.budget, tenant=claim.tenant, ref=claim.ref, scope=spent.scope, calls=claim.calls,
            tokens=claim.tokens, usd=claim.usd, made_at=now, expires_at=now + claim.lasts,
        )
        for spent in standing
    ]  # fmt: skip


def consumed(claims: Sequence[Claim], seen: BudgetFigures) -> list[Claim]:
    """Return a task's claims on one budget that change because it was seen to use this. One without calls ends."""
    calls, tokens, usd = max(seen.calls, 0), max(seen.tokens, 0), max(dollars(seen.cost), Decimal(0))
    changed = []
    for claim in sorted(claims, key=lambda one: (one.made_at, one.id)):
        if not calls:
            break
        taken = min(calls, claim.calls)
        calls -= taken
        left = msgspec.structs.replace(
            claim,
            calls=claim.calls - taken,
            tokens=max(claim.tokens - tokens, 0),
            usd=max(claim.usd - usd, Decimal(0)),
        )
        tokens, usd = max(tokens - claim.tokens, 0), max(usd - claim.usd, Decimal(0))
        changed.append(left)
    return changed


def with_reserved(spent: Spent, claims: Sequence[Claim]) -> Spent:
    """Return a budget with what is reserved from it."""
    if not claims:
        return spent
    return msgspec.structs.replace(
        spent,
        reserved_calls=sum(one.calls for one in claims),
        reserved_tokens=sum(one.tokens for one in claims),
        reserved_usd=sum((one.usd for one in claims), Decimal(0)),
    )
