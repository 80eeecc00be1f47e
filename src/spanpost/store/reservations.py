"""Reservations of agents in PostgreSQL. Their rows are locked after those of the spending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.budgets import Growth, Reservation, Spent
from spanpost.store.rows import json_text
from spanpost.tasks import reservations
from spanpost.tasks.budget_limits import Place
from spanpost.tasks.reservations import LINGER, Claim, Reserved

_COLUMNS = "r.id, r.budget, r.tenant, r.ref, r.scope::text, r.calls, r.tokens, r.usd, r.made_at, r.expires_at"
_OF = f"""
SELECT {_COLUMNS} FROM budget_reservations r
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k(budget, tenant, scope)
  ON r.budget = k.budget AND r.tenant = k.tenant AND r.scope = k.scope::jsonb
WHERE r.expires_at > clock_timestamp()"""
_KNOWN = "SELECT max(expires_at) FROM budget_reservations WHERE tenant = $1 AND id = $2"
_OVER = "DELETE FROM budget_reservations WHERE budget = $1 AND tenant = $2 AND expires_at < clock_timestamp()"
_MAKE = """
INSERT INTO budget_reservations (id, budget, tenant, ref, scope, calls, tokens, usd, made_at, expires_at)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10)"""
_GIVE_BACK = """
UPDATE budget_reservations SET expires_at = least(expires_at, clock_timestamp() + $3::interval)
WHERE tenant = $1 AND id = $2"""
_OF_TASKS = f"""
SELECT {_COLUMNS} FROM budget_reservations r
JOIN unnest($1::text[], $2::text[]) AS k(tenant, ref) ON r.tenant = k.tenant AND r.ref = k.ref
ORDER BY r.tenant, r.id, r.budget FOR UPDATE OF r"""
_CHANGE = (
    "UPDATE budget_reservations SET calls = $4, tokens = $5, usd = $6 WHERE id = $1 AND budget = $2 AND tenant = $3"
)
_END = "DELETE FROM budget_reservations WHERE id = $1 AND budget = $2 AND tenant = $3"


async def beside(connection: Any, standing: Sequence[Spent]) -> list[Spent]:
    """Return these budgets with what is reserved from them."""
    keys = [s.budget for s in standing], [s.tenant for s in standing], [json_text(dict(s.scope)) for s in standing]
    claims = [_claim(row) for row in await connection.fetch(_OF, *keys)] if standing else []
    return [
        reservations.with_reserved(
            s, [c for c in claims if (c.budget, c.tenant, c.scope) == (s.budget, s.tenant, s.scope)]
        )
        for s in standing
    ]


async def reserve(connection: Any, claim: Reservation, standing: Sequence[Spent], now: datetime) -> Reserved:
    """Reserve from budgets whose rows are locked. The same reservation again gets the same answer."""
    until = await connection.fetchval(_KNOWN, claim.tenant, claim.id)
    if until is not None:
        return Reserved(expires_at=until, budgets=list(standing))
    for spent in standing:
        await connection.execute(_OVER, spent.budget, spent.tenant)
    why = reservations.why_refused(claim, standing)
    if why:
        return Reserved(refusal=why, budgets=list(standing))
    rows = [
        (c.id, c.budget, c.tenant, c.ref, json_text(dict(c.scope)), c.calls, c.tokens, c.usd, c.made_at, c.expires_at)
        for c in reservations.claims_of(claim, standing, now)
    ]
    await connection.executemany(_MAKE, rows)
    return Reserved(expires_at=now + claim.lasts, budgets=list(standing))


async def give_back(connection: Any, tenant: str, id: UUID) -> None:
    """End a reservation, after `LINGER` if its calls were not seen yet. Safe to repeat."""
    await connection.execute(_GIVE_BACK, tenant, id, LINGER)


async def consume(connection: Any, places: Mapping[Place, Sequence[Growth]]) -> None:
    """Use up the reservations of tasks whose calls were seen."""
    grown = [g for growths in places.values() for g in growths if g.figures.calls > 0]
    refs = sorted({(g.tenant, ref) for g in grown for ref in reservations.refs_of(g.task)})
    rows = await connection.fetch(_OF_TASKS, [r[0] for r in refs], [r[1] for r in refs]) if refs else []
    claims = [_claim(row) for row in rows]
    for growth in grown if claims else ():
        names = reservations.refs_of(growth.task)
        own = [
            c for c in claims
            if c.budget == growth.budget and c.tenant == growth.tenant and c.ref in names and c.calls
        ]  # fmt: skip
        changed = {c.id: c for c in reservations.consumed(own, growth.figures)}
        claims = [changed.get(c.id, c) if c.budget == growth.budget else c for c in claims]
        for one in changed.values():
            if one.calls:
                await connection.execute(_CHANGE, one.id, one.budget, one.tenant, one.calls, one.tokens, one.usd)
            else:
                await connection.execute(_END, one.id, one.budget, one.tenant)


def _claim(row: Any) -> Claim:
    scope = tuple(sorted(msgspec.json.decode(row["scope"], type=dict[str, str]).items()))
    return Claim(**dict(row) | {"scope": scope})
