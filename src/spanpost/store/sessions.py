"""The rows of `session_secret` and `ended_sessions`."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

from spanpost.model.sessions import SessionState
from spanpost.store.transactions import Transact

_BYTES: Final = 32
_SECRET: Final = "SELECT secret FROM session_secret"
_MAKE: Final = "INSERT INTO session_secret (secret) VALUES ($1) ON CONFLICT DO NOTHING"
_REPLACE: Final = """
INSERT INTO session_secret (secret) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET secret = excluded.secret, made_at = clock_timestamp()"""
_ENDED: Final = "SELECT id FROM ended_sessions WHERE until > clock_timestamp()"
_END: Final = "INSERT INTO ended_sessions (id, until) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGET: Final = "DELETE FROM ended_sessions WHERE until < clock_timestamp() - interval '1 min'"


class PostgresSessions:
    """`store.directory.LoginSessions` in PostgreSQL; `run` runs a function in a transaction."""

    def __init__(self, run: Transact) -> None:
        self._run = run

    async def state(self) -> SessionState:
        """Return the secret and the ended sessions; the first call makes the secret."""

        async def work(connection: Any) -> SessionState:
            secret = await connection.fetchval(_SECRET)
            if secret is None:
                await connection.execute(_MAKE, secrets.token_bytes(_BYTES))
                secret = await connection.fetchval(_SECRET)  # another gateway may have been first
            return SessionState(secret, frozenset(row[0] for row in await connection.fetch(_ENDED)))

        found: SessionState = await self._run(work)
        return found

    async def end(self, id: str, until: datetime) -> None:
        """End a session, and forget ended sessions that have expired by now."""

        async def work(connection: Any) -> None:
            await connection.execute(_END, id, until)
            await connection.execute(_FORGET)

        await self._run(work)


async def end_all(connection: Any) -> None:
    """End all sessions by replacing the secret."""
    await connection.execute(_REPLACE, secrets.token_bytes(_BYTES))
    await connection.execute("DELETE FROM ended_sessions")
