"""The contract of the part of the hall that keeps installations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from spanpost.model.installations import Installed


class Installations(Protocol):
    """**Protocol:** keeps the apps that people installed in workspaces, their tokens sealed. It raises `LedgerUnavailable`."""

    async def save(self, installed: Installed) -> Installed:
        """Keep an installation, in place of what was known of the workspace; return it as it is kept."""
        ...

    async def find(self, client: str, team: str) -> Installed | None:
        """Return an installation, a removed one too."""
        ...

    async def listed(self, client: str) -> list[Installed]:
        """List an app's installations by team, removed ones too."""
        ...

    async def remove(self, client: str, team: str, why: str, revision: int | None = None) -> bool:
        """Let go of its tokens, of that writing alone where one is named; False where there were none."""
        ...

    async def claim(self, installed: Installed, lease: timedelta) -> bool:
        """Take it upon oneself to fetch the next token; False where another process does, or the row has changed."""
        ...

    async def renew(self, installed: Installed, encrypted: bytes, expires_at: datetime | None) -> bool:
        """Keep tokens sealed anew; False where the row has changed since it was read."""
        ...
