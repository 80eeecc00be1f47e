"""The key of the hashes that replace secrets: one per database, so that all processes and restarts agree."""

from __future__ import annotations

import secrets
from typing import Any

SIZE = 32


async def read(connection: Any) -> bytes:
    """Return the database's key; the first process makes it."""
    await connection.execute(
        "INSERT INTO redaction_key (key) VALUES ($1) ON CONFLICT (one) DO NOTHING", secrets.token_bytes(SIZE)
    )
    key: bytes = await connection.fetchval("SELECT key FROM redaction_key")
    return key
