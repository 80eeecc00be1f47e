"""Reading of sealed logs for the command line: verification, proofs and export."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from spanpost.model.errors import ConfigError
from spanpost.runtime.connected import connected
from spanpost.settings import Settings

if TYPE_CHECKING:
    from spanpost.store.sealing.proving import Consistency, Proof
    from spanpost.store.sealing.verified import Show, Verified

T = TypeVar("T")

_LOGS = """
SELECT l.tenant, l.origin, l.size, c.size AS signed, c.signed_at, p.size AS published, p.left_at, p.way,
  coalesce((SELECT max(failure) FROM seal_publications f WHERE f.tenant = l.tenant), '') AS failure
FROM seal_logs l
LEFT JOIN LATERAL (SELECT size, signed_at FROM seal_checkpoints c WHERE c.tenant = l.tenant ORDER BY size DESC LIMIT 1)
  c ON true
LEFT JOIN LATERAL (SELECT size, left_at, way FROM seal_publications p WHERE p.tenant = l.tenant
  ORDER BY left_at DESC NULLS LAST LIMIT 1) p ON true
ORDER BY 1"""
_KEYS = "SELECT public_key, since, until FROM seal_keys ORDER BY since"
_IS_LOG = "SELECT EXISTS (SELECT FROM seal_logs WHERE tenant = $1)"
_NOTES = "SELECT note FROM seal_checkpoints WHERE tenant = $1 ORDER BY size"


def _reading(
    settings: Settings, work: Callable[[Any], Awaitable[T]], begin: Callable[[Any], Awaitable[None]] | None = None
) -> T:
    """Read in one snapshot, after `begin`. Raises `ConfigError` if the database cannot be read."""
    from spanpost.store.embedded_store import reachable

    async def run(dsn: str) -> T:
        async with connected(dsn, "Use the writer's role, or the owner's") as connection:
            if begin is not None:
                await begin(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await work(connection)

    with reachable(settings.dsn, settings.database.data_dir, settings.database.pg_bin) as dsn:
        return asyncio.run(run(dsn))


def verify_logs(
    settings: Settings, tenant: str | None, outside: Sequence[str], trusted: Sequence[bytes], show: Show
) -> Verified:
    """Verify the sealed logs of a database, with the archives in the directory of the settings."""
    from spanpost.store.archiving.running import LOCK
    from spanpost.store.sealing.verifying import verify

    directory, busy = settings.retention.directory, ""

    async def begin(connection: Any) -> None:
        nonlocal busy
        # Until the connection ends, no archive is made, removed or made again.
        if not await connection.fetchval("SELECT pg_try_advisory_lock_shared($1)", LOCK):
            busy = "another process is archiving this database at the moment: repeat it when that has finished"

    async def work(connection: Any) -> Verified:
        return await verify(
            connection, tenant=tenant, outside=outside, trusted=trusted, directory=directory, busy=busy, show=show
        )

    found = _reading(settings, work, begin)
    if not found.findings:
        _of_tenant(found.logs, tenant)
    return found


def list_logs(settings: Settings) -> list[dict[str, Any]]:
    """Return the logs with their last checkpoints."""

    async def work(connection: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await connection.fetch(_LOGS)]

    return _reading(settings, work)


def verifier_keys(settings: Settings) -> list[dict[str, Any]]:
    """Return the public keys that signed, for each log, in the form that verifiers take."""
    from spanpost.store.sealing.checkpoints import verifier_key

    async def work(connection: Any) -> list[dict[str, Any]]:
        logs, keys = await connection.fetch(_LOGS), await connection.fetch(_KEYS)
        return [
            {
                "tenant": log["tenant"],
                "key": verifier_key(log["origin"], key["public_key"]),
                "since": key["since"],
                "until": key["until"],
            }
            for log in logs
            for key in keys
        ]

    return _reading(settings, work)


def list_checkpoints(settings: Settings, tenant: str) -> list[str]:
    """Return the checkpoints of a log, oldest first. Raises `ConfigError` for a tenant without a log."""

    async def work(connection: Any) -> list[str]:
        if not await connection.fetchval(_IS_LOG, tenant):
            raise _no_log(tenant)
        return [row["note"] for row in await connection.fetch(_NOTES, tenant)]

    return _reading(settings, work)


def prove_row(settings: Settings, row: UUID, *, with_content: bool) -> list[Proof]:
    """Return the proofs that a row is in its log."""
    from spanpost.store.sealing.proving import prove

    return _reading(settings, lambda connection: prove(connection, row, with_content=with_content))


def prove_consistency(settings: Settings, tenant: str, old: str | int, new: str | int) -> Consistency:
    """Return the proof that a checkpoint continues another."""
    from spanpost.store.sealing.proving import consistency

    return _reading(settings, lambda connection: consistency(connection, tenant, old, new))


def export_logs(settings: Settings, directory: Path, tenant: str | None) -> dict[str, int]:
    """Export logs into directories, one for each; return their sizes. Raises `ConfigError`."""
    from spanpost.store.archiving.files import directory_of
    from spanpost.store.sealing.exporting import export

    def place(name: str) -> Path:
        # No tenant has the directory `_`, and no name leads out of `directory`.
        own = {"": "_", "_": "%5F"}.get(name, directory_of(name).removeprefix("tenant="))
        return directory / own

    async def work(connection: Any) -> dict[str, int]:
        names = [row["tenant"] for row in await connection.fetch(_LOGS)]
        wanted = [name for name in names if tenant in (None, name)]
        try:
            return {name: await export(connection, name, place(name)) for name in wanted}
        except OSError as error:
            raise ConfigError(f"{directory}: the log cannot be written there: {error}") from None

    return _of_tenant(_reading(settings, work), tenant)


def _of_tenant(found: T, tenant: str | None) -> T:
    """Return what was found. Raises `ConfigError` for a named tenant without a log: its name may be mistyped."""
    if not found and tenant is not None:
        raise _no_log(tenant)
    return found


def _no_log(tenant: str) -> ConfigError:
    return ConfigError(f"tenant {tenant!r} has no sealed log: `spanpost audit logs` lists them")
