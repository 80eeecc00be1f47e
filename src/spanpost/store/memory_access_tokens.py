"""Access tokens in memory. A command line cannot reach this process, so there are none unless a test sets them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.access_tokens import CLOSING, AccessToken, TokenState


class MemoryAccessTokens:
    """The same as `access_tokens`, over a list."""

    def __init__(self) -> None:
        self.rows: list[AccessToken] = []

    async def state(self, seen: str = "") -> TokenState | None:
        """Return the tokens, unless this version was seen."""
        version = str(hash(tuple(msgspec.structs.replace(row, used_at=None) for row in self.rows)))
        if version == seen:
            return None
        is_closed = any(not CLOSING.isdisjoint(row.scopes) for row in self.rows)
        return TokenState(version, tuple(row for row in self.rows if row.revoked_at is None), is_closed)

    async def used(self, uses: Mapping[UUID, datetime]) -> None:
        """Save when tokens were used last."""
        self.rows = [
            msgspec.structs.replace(row, used_at=max(filter(None, (row.used_at, uses.get(row.id))), default=None))
            for row in self.rows
        ]
