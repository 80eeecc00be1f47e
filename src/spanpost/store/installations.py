"""The rows of `slack_installations`. Tokens are read and written encrypted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from spanpost.model.installations import Installed
from spanpost.store.rows import json_text
from spanpost.store.transactions import Transact
from spanpost.text.repair import mend_text

_GIVEN: Final = (
    "client",
    "team",
    "enterprise",
    "team_name",
    "app_id",
    "bot",
    "bot_user",
    "scopes",
    "by",
    "encrypted",
    "expires_at",
)
_READ: Final = (
    "client", "team", "enterprise", "team_name", "app_id", "bot", "bot_user", "scopes::text", '"by"',
    "encrypted", "expires_at", "installed_at", "removed_at", "why", "revision",
)  # fmt: skip
_SELECT: Final = f"SELECT {', '.join(_READ)} FROM slack_installations"
_VALUES: Final = ", ".join(f"${i}::text::jsonb" if name == "scopes" else f"${i}" for i, name in enumerate(_GIVEN, 1))
_SAVE: Final = f"""
INSERT INTO slack_installations ({", ".join(f'"{name}"' for name in _GIVEN)}) VALUES ({_VALUES})
ON CONFLICT (client, team) DO UPDATE SET {", ".join(f'"{name}" = excluded."{name}"' for name in _GIVEN[2:])},
  refreshing_until = NULL, installed_at = clock_timestamp(), removed_at = NULL, why = '',
  revision = slack_installations.revision + 1
RETURNING {", ".join(_READ)}"""
_REMOVE: Final = """
UPDATE slack_installations SET encrypted = NULL, expires_at = NULL, refreshing_until = NULL,
  removed_at = clock_timestamp(), why = $3,
  revision = revision + 1
WHERE client = $1 AND team = $2 AND removed_at IS NULL AND ($4::bigint IS NULL OR revision = $4) RETURNING true"""
_CLAIM: Final = """
UPDATE slack_installations SET refreshing_until = clock_timestamp() + $4::interval
WHERE client = $1 AND team = $2 AND revision = $3 AND removed_at IS NULL
  AND (refreshing_until IS NULL OR refreshing_until < clock_timestamp()) RETURNING true"""
_RENEW: Final = """
UPDATE slack_installations SET encrypted = $4, expires_at = $5, refreshing_until = NULL, revision = revision + 1
WHERE client = $1 AND team = $2 AND revision = $3 AND removed_at IS NULL RETURNING true"""
#: Most installations that are listed.
_MOST: Final = 10_000


class PostgresInstallations:
    """`Installations` in PostgreSQL; `run` runs a function in a transaction.

    All methods raise `StoreUnavailable`.
    """

    def __init__(self, run: Transact) -> None:
        self._run = run

    async def save(self, installed: Installed) -> Installed:
        """Save an installation in place of the workspace's older one; return it as saved."""
        values: list[Any] = [getattr(installed, name) for name in _GIVEN]
        values = [mend_text(value, 500)[0] if isinstance(value, str) else value for value in values]
        values[_GIVEN.index("scopes")] = json_text(installed.scopes)
        return _of(await self._run(lambda c: c.fetchrow(_SAVE, *values)))

    async def find(self, client: str, team: str) -> Installed | None:
        """Return an installation, also a removed one."""
        row = await self._run(lambda c: c.fetchrow(f"{_SELECT} WHERE client = $1 AND team = $2", client, team))
        return _of(row) if row is not None else None

    async def listed(self, client: str) -> list[Installed]:
        """List an app's installations by team, including removed ones."""
        rows = await self._run(lambda c: c.fetch(f"{_SELECT} WHERE client = $1 ORDER BY team LIMIT {_MOST}", client))
        return [_of(row) for row in rows]

    async def remove(self, client: str, team: str, why: str, revision: int | None = None) -> bool:
        """Delete the workspace's tokens (only that revision, if given); False: there were none."""
        return bool(await self._run(lambda c: c.fetchval(_REMOVE, client, team, why, revision)))

    async def claim(self, installed: Installed, lease: timedelta) -> bool:
        """Lease the right to fetch the next token.

        False when another process has it or the row has changed.
        """
        key = (installed.client, installed.team, installed.revision)
        return bool(await self._run(lambda c: c.fetchval(_CLAIM, *key, lease)))

    async def renew(self, installed: Installed, encrypted: bytes, expires_at: datetime | None) -> bool:
        """Save renewed encrypted tokens; False when the row has changed since it was read."""
        key = (installed.client, installed.team, installed.revision)
        return bool(await self._run(lambda c: c.fetchval(_RENEW, *key, encrypted, expires_at)))


def _of(row: Any) -> Installed:
    values = dict(row)
    values["scopes"] = tuple(msgspec.json.decode(values["scopes"]))
    values["encrypted"] = values["encrypted"] or b""
    return Installed(**values)
