"""Upkeep of the database's access tokens: made, rotated, revoked and listed by the role that owns the tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from spanpost.http.bearer import digest_of
from spanpost.model.access_tokens import AccessToken
from spanpost.model.errors import ConfigError
from spanpost.runtime.maintenance import as_owner
from spanpost.settings import Settings
from spanpost.store import access_tokens as rows
from spanpost.store.system_user import system_user

T = TypeVar("T")


def make(settings: Settings, token: AccessToken, lasts: timedelta | None) -> AccessToken:
    """Add a token. Raises `ConfigError` where a valid one has its name."""
    detail = f"{token.name}: {', '.join(sorted(token.scopes))}"
    made = as_owner(settings, _whole(lambda connection: rows.add(connection, token, lasts)), ("make_token", detail))
    if made is None:
        raise ConfigError(
            f"token new: there is a valid token {token.name!r}: replace it with `spanpost token rotate`, or choose "
            "another name"
        )
    return made


def rotate(settings: Settings, name: str, token: str, overlap: timedelta) -> AccessToken:
    """Add a token in place of the valid one of that name. Raises `ConfigError` where there is none."""

    async def work(connection: Any) -> AccessToken | None:
        return await rows.rotate(connection, name, uuid4(), digest_of(token), system_user(), overlap)

    made = as_owner(settings, _whole(work), ("rotate_token", f"{name}: overlap {overlap}"))
    if made is None:
        raise _unknown(name)
    return made


def revoke(settings: Settings, name: str) -> int:
    """Revoke the valid tokens of a name; return how many. Raises `ConfigError` where there is none."""
    count = as_owner(settings, _whole(lambda connection: rows.revoke(connection, name)), ("revoke_token", name))
    if not count:
        raise _unknown(name)
    return count


def listed(settings: Settings, *, is_valid: bool) -> list[AccessToken]:
    """List the tokens."""
    return as_owner(settings, lambda connection: rows.listed(connection, is_valid=is_valid))


def _whole(work: Callable[[Any], Awaitable[T]]) -> Callable[[Any], Awaitable[T]]:
    """Return the work as one transaction."""

    async def whole(connection: Any) -> T:
        async with connection.transaction():
            return await work(connection)

    return whole


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"there is no valid token {name[:200]!r} in the database: see `spanpost token list`")
