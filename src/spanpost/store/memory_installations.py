"""Slack installations in memory: gone with the process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from spanpost.model.installations import Installed


class MemoryInstallations:
    """The same as `installations`, over a dictionary."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._rows: dict[tuple[str, str], Installed] = {}
        self._refreshing: dict[tuple[str, str], datetime] = {}

    async def save(self, installed: Installed) -> Installed:
        """Store an installation, replacing the workspace's previous one; return it as stored."""
        key = (installed.client, installed.team)
        before = self._rows.get(key)
        revision = before.revision + 1 if before is not None else 1
        kept = replace(installed, installed_at=self._clock(), removed_at=None, why="", revision=revision)
        self._rows[key] = kept
        self._refreshing.pop(key, None)
        return kept

    async def find(self, client: str, team: str) -> Installed | None:
        """Return an installation, even a removed one."""
        return self._rows.get((client, team))

    async def listed(self, client: str) -> list[Installed]:
        """List an app's installations by team, removed ones included."""
        return sorted((row for row in self._rows.values() if row.client == client), key=lambda row: row.team)

    async def remove(self, client: str, team: str, why: str, revision: int | None = None) -> bool:
        """Delete the workspace's tokens (only that revision, if given). False: there were none."""
        row = self._rows.get((client, team))
        if row is None or not row.is_there or revision not in (None, row.revision):
            return False
        gone = replace(
            row, encrypted=b"", expires_at=None, removed_at=self._clock(), why=why, revision=row.revision + 1
        )
        self._rows[client, team] = gone
        return True

    async def claim(self, installed: Installed, lease: timedelta) -> bool:
        """Claim the token refresh; False if another process has it, or the row has changed."""
        key, now = (installed.client, installed.team), self._clock()
        if not self._is_newest(installed) or self._refreshing.get(key, now) > now:
            return False
        self._refreshing[key] = now + lease
        return True

    async def renew(self, installed: Installed, encrypted: bytes, expires_at: datetime | None) -> bool:
        """Store newly encrypted tokens; False if the row has changed since it was read."""
        if not self._is_newest(installed):
            return False
        key = (installed.client, installed.team)
        self._rows[key] = replace(
            self._rows[key], encrypted=encrypted, expires_at=expires_at, revision=installed.revision + 1
        )
        self._refreshing.pop(key, None)
        return True

    def _is_newest(self, installed: Installed) -> bool:
        row = self._rows.get((installed.client, installed.team))
        return row is not None and row.is_there and row.revision == installed.revision
