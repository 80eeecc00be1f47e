"""The key of the hashes that stand in the place of secrets: one for a database, so that all processes and restarts agree."""

from __future__ import annotations

import secrets
from typing import Any

SIZE = 32


async def read(connection: Any) -> bytes:
    """Return the database's key; made by the first process that asks."""
    await connection.execute("INSERT INTO redaction_key (key) VALUES ($1) ON CONFLICT (one) DO NOTHING", secrets.token_bytes(SIZE))
    key: bytes = await connection.fetchval("SELECT key FROM redaction_key")
    return key
