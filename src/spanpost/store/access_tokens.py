"""The rows of `access_tokens`: hashes of tokens, never the tokens.

A gateway reads them and notes their last use. Only the role that owns the tables makes, rotates and revokes
tokens: a gateway that was taken over makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from spanpost.model.access_tokens import CLOSING, AccessToken, TokenState, by_tenant, ending
from spanpost.store.transactions import Transact

_COLUMNS: Final = "id, name, tenant, scopes, digest, made_by, made_at, expires_at, revoked_at, used_at"
#: Not the newest time: of two transactions the one with the earlier time may be committed last.
_VERSION: Final = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(id::text, revision)), 0) FROM access_tokens"
_IN_FORCE: Final = f"SELECT {_COLUMNS} FROM access_tokens WHERE revoked_at IS NULL"
_IS_VALID: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
_IS_CLOSED: Final = "SELECT EXISTS (SELECT FROM access_tokens WHERE scopes && $1::text[])"
_USED: Final = """
UPDATE access_tokens t SET used_at = greatest(t.used_at, u.at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at) WHERE t.id = u.id"""
_ADD: Final = f"""
INSERT INTO access_tokens (id, name, tenant, scopes, digest, made_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7) RETURNING {_COLUMNS}"""
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended('spanpost access_tokens', 0))"


class PostgresAccessTokens:
    """`store.directory.AccessTokens` in PostgreSQL; `run` runs a function in a transaction."""

    def __init__(self, run: Transact) -> None:
        self._run = run

    async def state(self, seen: str = "") -> TokenState | None:
        """Return the tokens, unless this version was seen."""

        async def work(connection: Any) -> TokenState | None:
            # The version first: what is committed meanwhile is read now, and once more by the next call.
            version = await connection.fetchval(_VERSION)
            if version == seen:
                return None
            tokens = tuple(map(_token, await connection.fetch(_IN_FORCE)))
            return TokenState(version, tokens, await connection.fetchval(_IS_CLOSED, sorted(CLOSING)))

        return await self._run(work)

    async def used(self, uses: Mapping[UUID, datetime]) -> None:
        """Save when tokens were used last."""
        ordered = sorted(uses.items())
        await self._run(lambda c: c.execute(_USED, [id for id, _ in ordered], [at for _, at in ordered]))


async def add(connection: Any, token: AccessToken, lasts: timedelta | None) -> AccessToken | None:
    """Add a token; None: one of its name is valid. Its times are those of the database's clock."""
    await connection.execute(_ONE_AT_A_TIME)
    if await connection.fetchval(
        f"SELECT EXISTS (SELECT FROM access_tokens WHERE name = $1 AND {_IS_VALID})", token.name
    ):
        return None
    return await _insert(connection, token, lasts)


async def rotate(
    connection: Any, name: str, id: UUID, digest: bytes, by: str, overlap: timedelta
) -> AccessToken | None:
    """Add a token like the newest valid one of that name, which is valid for `overlap` more; None: there is none.

    The new one lasts as long as the old one was to last in all.
    """
    await connection.execute(_ONE_AT_A_TIME)
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM access_tokens WHERE name = $1 AND {_IS_VALID} ORDER BY made_at DESC LIMIT 1", name
    )
    if row is None:
        return None
    old = _token(row)
    await connection.execute(
        "UPDATE access_tokens SET expires_at = least(expires_at, clock_timestamp() + $2), revision = revision + 1 "
        f"WHERE name = $1 AND {_IS_VALID}",
        name,
        overlap,
    )
    lasts = old.expires_at - old.made_at if old.expires_at is not None else None
    new = AccessToken(
        id=id, name=name, tenant=old.tenant, scopes=old.scopes, digest=digest, made_by=by, made_at=old.made_at
    )
    return await _insert(connection, new, lasts)


async def revoke(connection: Any, name: str) -> int:
    """Revoke all valid tokens of that name; return how many."""
    await connection.execute(_ONE_AT_A_TIME)
    rows = await connection.fetch(
        "UPDATE access_tokens SET revoked_at = clock_timestamp(), revision = revision + 1 "
        f"WHERE name = $1 AND {_IS_VALID} RETURNING id",
        name,
    )
    return len(rows)


async def listed(connection: Any, *, is_valid: bool) -> list[AccessToken]:
    """List tokens by name, the newest of each first; with `is_valid` only those that are."""
    where = _IS_VALID if is_valid else "true"
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM access_tokens WHERE {where} ORDER BY name, made_at DESC")
    return list(map(_token, rows))


async def ending_soon(connection: Any) -> dict[str, int]:
    """Return how many names have a newest token that ends soon or has ended lately, by tenant."""
    tokens = map(_token, await connection.fetch(_IN_FORCE))
    return by_tenant(ending(tokens, await connection.fetchval("SELECT clock_timestamp()")))


async def _insert(connection: Any, token: AccessToken, lasts: timedelta | None) -> AccessToken:
    given = (token.id, token.name, token.tenant, sorted(token.scopes), token.digest, token.made_by, lasts)
    return _token(await connection.fetchrow(_ADD, *given))


def _token(row: Any) -> AccessToken:
    return AccessToken(**{**dict(row), "scopes": frozenset(row["scopes"])})
