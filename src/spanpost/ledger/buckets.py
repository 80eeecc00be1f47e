"""The rows of `fold.paces`: read without a lock to choose, locked in the order of their keys to draw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from spanpost.domain.deliveries import Budget
from spanpost.fold import paces
from spanpost.fold.mend import mend_text
from spanpost.fold.paces import Bucket
from spanpost.ledger.base import BudgetRow, row_of

_FIELDS = {
    "key": "text", "tokens": "float8", "at": "timestamptz", "blocked_until": "timestamptz", "reason": "text", "error": "text",
    "failures": "int4", "window_at": "timestamptz", "calls": "int4", "failed": "int4", "opened": "int4", "refused": "boolean",
    "probe_at": "timestamptz", "probe_until": "timestamptz",
}  # fmt: skip
_OF = {"refused": "is_refused"}
_NAMES = ", ".join(_FIELDS)
_READ = f"SELECT {_NAMES} FROM buckets WHERE key = ANY($1::text[])"
_LOCK = f"{_READ} ORDER BY key FOR UPDATE"
_INSERT = """
INSERT INTO buckets (key, tokens, cap, rate, reserve, at)
SELECT key, cap, cap, rate, reserve, clock_timestamp()
FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[]) AS g(key, cap, rate, reserve) ORDER BY key
ON CONFLICT (key) DO NOTHING"""
_UPDATE = f"""
UPDATE buckets SET {", ".join(f"{name} = g.{name}" for name in list(_FIELDS)[1:])}, cap = g.cap, rate = g.rate, reserve = g.reserve
FROM unnest({", ".join(f"${i}::{kind}[]" for i, kind in enumerate([*_FIELDS.values(), "float8", "float8", "float8"], 1))})
  AS g({_NAMES}, cap, rate, reserve)
WHERE buckets.key = g.key"""
#: In these something is remembered that an answer of the far side may end.
TROUBLED = "failures > 0 OR opened > 0 OR window_at IS NOT NULL"
_LIST = f"""
SELECT {_NAMES}, cap, rate, reserve, clock_timestamp() AS now FROM buckets
WHERE NOT $1::boolean OR blocked_until > clock_timestamp() OR opened > 0 ORDER BY blocked_until DESC NULLS LAST, key"""


async def read(connection: Any, keys: Collection[str]) -> dict[str, Bucket]:
    """Return what is known of these budgets, unlocked."""
    return _buckets(await connection.fetch(_READ, list(keys))) if keys else {}


async def lock(connection: Any, budgets: Mapping[str, Budget], known: Collection[str]) -> tuple[dict[str, Bucket], datetime]:
    """Lock these budgets' buckets, made where they are not `known` yet; return them and the database's time after that."""
    missing = sorted(budgets.keys() - set(known))
    if missing:
        caps, rates, reserves = _figures([budgets[key] for key in missing])
        await connection.execute(_INSERT, missing, caps, rates, reserves)
    buckets = _buckets(await connection.fetch(_LOCK, sorted(budgets)))
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return buckets, now


async def write(connection: Any, changed: Mapping[str, Bucket], budgets: Mapping[str, Budget]) -> None:
    """Write locked buckets."""
    if not changed:
        return
    ordered = [changed[key] for key in sorted(changed)]
    columns = [[_value(bucket, name) for bucket in ordered] for name in _FIELDS]
    await connection.execute(_UPDATE, *columns, *_figures([budgets.get(b.key) or Budget(key=b.key) for b in ordered]))


async def listed(connection: Any, *, is_closed: bool) -> list[BudgetRow]:
    """List budgets, closed ones or all."""
    return [row_of(_bucket(row), _budget(row), row["now"]) for row in await connection.fetch(_LIST, is_closed)]


async def reopen(connection: Any, keys: Collection[str]) -> int:
    """Open closed budgets by hand; return how many were."""
    rows = [row for row in await connection.fetch(_LIST, True) if row["key"] in keys]
    locked = _buckets(await connection.fetch(_LOCK, [row["key"] for row in rows]))
    opened = {key: paces.reopened(bucket) for key, bucket in locked.items()}
    await write(connection, opened, {row["key"]: _budget(row) for row in rows})
    return len(opened)


def _figures(budgets: Iterable[Budget]) -> tuple[list[float], list[float], list[float]]:
    found = [(max(b.burst, 1.0), b.rate if b.rate is not None else float("inf"), b.reserve) for b in budgets]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _buckets(rows: Iterable[Any]) -> dict[str, Bucket]:
    return {row["key"]: _bucket(row) for row in rows}


def _bucket(row: Any) -> Bucket:
    return Bucket(**{_OF.get(name, name): row[name] for name in _FIELDS})


def _budget(row: Any) -> Budget:
    rate = row["rate"] if row["rate"] != float("inf") else None
    return Budget(key=row["key"], rate=rate, burst=row["cap"], reserve=row["reserve"])


def _value(bucket: Bucket, name: str) -> Any:
    value = getattr(bucket, _OF.get(name, name))
    return mend_text(value, 2000)[0] if name in ("reason", "error") else value
