"""Rows of rate limits (`routing.rate_limiting`): read without locks to choose, locked by key to draw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from spanpost.model.deliveries import RateLimit, RateLimitRow
from spanpost.routing import rate_limiting
from spanpost.routing.rate_limiting import Bucket
from spanpost.text.repair import mend_text

_FIELDS = {
    "key": "text", "tokens": "float8", "at": "timestamptz", "blocked_until": "timestamptz", "reason": "text",
    "error": "text", "failures": "int4", "window_at": "timestamptz", "calls": "int4", "failed": "int4",
    "opened": "int4", "refused": "boolean", "probe_at": "timestamptz", "probe_until": "timestamptz",
}  # fmt: skip
_OF = {"refused": "is_refused"}
_NAMES = ", ".join(_FIELDS)
_READ = f"SELECT {_NAMES} FROM rate_limits WHERE key = ANY($1::text[])"
_LOCK = f"{_READ} ORDER BY key FOR UPDATE"
_INSERT = """
INSERT INTO rate_limits (key, tokens, cap, rate, reserve, at)
SELECT key, cap, cap, rate, reserve, clock_timestamp()
FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[]) AS g(key, cap, rate, reserve) ORDER BY key
ON CONFLICT (key) DO NOTHING"""
_UPDATE = f"""
UPDATE rate_limits SET {", ".join(f"{name} = g.{name}" for name in list(_FIELDS)[1:])},
  cap = g.cap, rate = g.rate, reserve = g.reserve
FROM unnest({", ".join(f"${i}::{kind}[]" for i, kind in enumerate([*_FIELDS.values(), *["float8"] * 3], 1))})
  AS g({_NAMES}, cap, rate, reserve)
WHERE rate_limits.key = g.key"""
#: Rate limits with failures or a stopped circuit, which a sink's answer may end.
TROUBLED = "failures > 0 OR opened > 0 OR window_at IS NOT NULL"
_LIST = f"""
SELECT {_NAMES}, cap, rate, reserve, clock_timestamp() AS now FROM rate_limits
WHERE NOT $1::boolean OR blocked_until > clock_timestamp() OR opened > 0 ORDER BY blocked_until DESC NULLS LAST, key"""


async def read(connection: Any, keys: Collection[str]) -> dict[str, Bucket]:
    """Return the buckets of these rate limits that exist, without locks."""
    return _buckets(await connection.fetch(_READ, list(keys))) if keys else {}


async def lock(
    connection: Any, rate_limits: Mapping[str, RateLimit], known: Collection[str]
) -> tuple[dict[str, Bucket], datetime]:
    """Lock the buckets of these rate limits, after making those not in `known`.

    Return them and the database's time.
    """
    missing = sorted(rate_limits.keys() - set(known))
    if missing:
        caps, rates, reserves = _figures([rate_limits[key] for key in missing])
        await connection.execute(_INSERT, missing, caps, rates, reserves)
    buckets = _buckets(await connection.fetch(_LOCK, sorted(rate_limits)))
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return buckets, now


async def write(connection: Any, changed: Mapping[str, Bucket], rate_limits: Mapping[str, RateLimit]) -> None:
    """Write locked buckets."""
    if not changed:
        return
    ordered = [changed[key] for key in sorted(changed)]
    columns = [[_value(bucket, name) for bucket in ordered] for name in _FIELDS]
    await connection.execute(
        _UPDATE, *columns, *_figures([rate_limits.get(b.key) or RateLimit(key=b.key) for b in ordered])
    )


async def listed(connection: Any, *, is_closed: bool) -> list[RateLimitRow]:
    """List rate limits: closed ones or all."""
    return [row_of(_bucket(row), _rate_limit(row), row["now"]) for row in await connection.fetch(_LIST, is_closed)]


async def reopen(connection: Any, keys: Collection[str]) -> int:
    """Open closed rate limits; return how many were closed."""
    rows = [row for row in await connection.fetch(_LIST, True) if row["key"] in keys]
    locked = _buckets(await connection.fetch(_LOCK, [row["key"] for row in rows]))
    opened = {key: rate_limiting.reopened(bucket) for key, bucket in locked.items()}
    await write(connection, opened, {row["key"]: _rate_limit(row) for row in rows})
    return len(opened)


def _figures(rate_limits: Iterable[RateLimit]) -> tuple[list[float], list[float], list[float]]:
    found = [(max(b.burst, 1.0), b.rate if b.rate is not None else float("inf"), b.reserve) for b in rate_limits]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _buckets(rows: Iterable[Any]) -> dict[str, Bucket]:
    return {row["key"]: _bucket(row) for row in rows}


def _bucket(row: Any) -> Bucket:
    return Bucket(**{_OF.get(name, name): row[name] for name in _FIELDS})


def _rate_limit(row: Any) -> RateLimit:
    rate = row["rate"] if row["rate"] != float("inf") else None
    return RateLimit(key=row["key"], rate=rate, burst=row["cap"], reserve=row["reserve"])


def _value(bucket: Bucket, name: str) -> Any:
    value = getattr(bucket, _OF.get(name, name))
    return mend_text(value, 2000)[0] if name in ("reason", "error") else value


def row_of(bucket: Bucket, rate_limit: RateLimit, now: datetime) -> RateLimitRow:
    """Return a bucket as an operator lists it."""
    is_blocked = bucket.blocked_until is not None and bucket.blocked_until > now
    state = "closed" if is_blocked else "probing" if bucket.opened else "open"
    return RateLimitRow(
        key=bucket.key,
        state=state,
        why=rate_limiting.why_closed(bucket) if state != "open" else "",
        until=bucket.blocked_until if is_blocked else bucket.probe_until if bucket.opened else None,
        reason=bucket.reason if state != "open" else "",
        error=bucket.error if state != "open" else "",
        rate=rate_limit.rate,
        burst=rate_limit.burst,
        reserve=rate_limit.reserve,
    )
