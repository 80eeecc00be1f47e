"""The sealer of a gateway, in a process of its own: `python -m spanpost.runtime.sealing`.

Hashing costs processor time that recording should have. A process of its own has the lowest priority and may be killed
at any moment. It reads the database's URL, the key and the settings from its standard input, and ends when that is
closed: when the gateway has ended. Of several gateways on one database, one seals at a time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from spanpost.model.errors import ConfigError
from spanpost.runtime.background import Background
from spanpost.runtime.children import begin, ended
from spanpost.runtime.secret_files import kept_secret
from spanpost.settings import Settings
from spanpost.settings.sealing import SealingSettings
from spanpost.text.sanitise import line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from spanpost.runtime.checkpoint_ways import Way

log = logging.getLogger(__name__)

#: Pause after an error, seconds.
_AFTER_ERROR: Final = 5.0
_TURN: Final = "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))"
#: True when others have signed, and this key never has.
_FOREIGN: Final = "SELECT count(*) > 0 AND NOT coalesce(bool_or(public_key = $1), false) FROM seal_keys"
_DUE: Final = """
SELECT c.tenant, c.size, c.note FROM (
  SELECT DISTINCT ON (tenant) tenant, size, note FROM seal_checkpoints ORDER BY tenant, size DESC
) c LEFT JOIN seal_publications p ON p.tenant = c.tenant AND p.way = $1
WHERE c.size > coalesce(p.size, 0) AND (p.tried_at IS NULL
  OR p.tried_at < clock_timestamp() - CASE WHEN p.failure = '' THEN $2::interval ELSE interval '1 minute' END)
ORDER BY c.tenant"""
_LEFT: Final = """
INSERT INTO seal_publications (tenant, way, size, left_at, receipt) VALUES ($1, $2, $3, clock_timestamp(), $4)
ON CONFLICT (tenant, way) DO UPDATE SET size = excluded.size, left_at = excluded.left_at, tried_at = clock_timestamp(),
  failure = '', receipt = excluded.receipt"""
_FAILED: Final = """
INSERT INTO seal_publications (tenant, way, size, failure) VALUES ($1, $2, 0, $3)
ON CONFLICT (tenant, way) DO UPDATE SET tried_at = clock_timestamp(), failure = excluded.failure"""


def signing_key(settings: Settings) -> tuple[str, bool]:
    """Return the private key of the settings or its file, base64, and whether it is of the file.

    Raises `ConfigError` if the file cannot be used.
    """
    section = settings.sealing
    if section.key is not None:
        return section.key.get_secret_value(), False
    data_dir = settings.database.data_dir.absolute()
    path = section.key_file or data_dir.with_name(f"{data_dir.name}-seal-key")
    try:
        return kept_secret(path, lambda: base64.b64encode(os.urandom(32)).decode()), True
    except OSError as error:
        raise ConfigError(f"sealing.key_file: {error}") from None


def key_of(encoded: str) -> Ed25519PrivateKey:
    """Return the key. Raises `ConfigError`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(encoded, validate=True))
    except ValueError:
        raise ConfigError("sealing.key_file: it does not hold base64 of 32 bytes") from None


class SealingProcess(Background):
    """Keeps the sealer's process running. `dsn` returns the database's URL."""

    _name = "spanpost-sealing"

    def __init__(self, settings: Settings, dsn: Callable[[], str]) -> None:
        self._settings = settings
        self._dsn = dsn

    async def _run(self) -> None:
        while True:
            try:
                await self._once()
            except Exception as error:
                log.error("sealing: %s: %s", type(error).__name__, line(str(error), 500))
            await asyncio.sleep(_AFTER_ERROR)

    async def _once(self) -> None:
        key, is_file = await asyncio.to_thread(signing_key, self._settings)
        given = {"dsn": self._dsn(), "key": key, "is_file": is_file, "sealing": _plain(self._settings.sealing)}
        command = [sys.executable, "-m", "spanpost.runtime.sealing"]
        child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(given).encode() + b"\n")
            await child.stdin.drain()
            while said := await child.stdout.readline():
                log.error("sealing: %s", line(said.decode(errors="replace"), 1000))
            await child.wait()
        finally:
            await ended(child)


def _plain(section: SealingSettings) -> dict[str, Any]:
    """Return the section as JSON, with its secrets: it goes to a pipe of our own process."""
    found = section.model_dump(mode="json", exclude={"key"})
    for name in ("webhook_token", "slack_webhook"):
        secret = getattr(section, name)
        found[name] = secret.get_secret_value() if secret is not None else None
    return found


def main() -> None:
    """Seal until the gateway ends."""
    given = begin()
    asyncio.run(_seal(given["dsn"], given["key"], given["is_file"], SealingSettings.model_validate(given["sealing"])))


async def _seal(dsn: str, key: str, is_file: bool, section: SealingSettings) -> None:
    """Seal, sign and publish, again and again. Errors go to standard output, a line each."""
    from spanpost.model.errors import SpanpostError
    from spanpost.store.connections import DRIVER_ERRORS

    last = ""
    while True:
        try:
            await _with_turn(dsn, key, is_file, section)
        except (SpanpostError, OSError, ValueError, *DRIVER_ERRORS) as error:
            said = line(f"{type(error).__name__}: {error}", 1000)
            if said != last:
                print(said, flush=True)
            last = said
        await asyncio.sleep(_AFTER_ERROR)


async def _with_turn(dsn: str, key: str, is_file: bool, section: SealingSettings) -> None:
    """Seal while this process has the turn; return if another process has it."""
    from spanpost.runtime.checkpoint_ways import ways
    from spanpost.store.connections import Connector
    from spanpost.store.sealing.forgetting import LOCK
    from spanpost.store.sealing.sealer import Sealer

    known = ways(section)
    connection = await Connector(dsn).connect(
        statement_cache_size=0, server_settings={"application_name": "spanpost-sealer"}
    )
    try:
        if not await connection.fetchval(_TURN, LOCK + 1):
            return
        own = key_of(key)
        if is_file and await connection.fetchval(_FOREIGN, own.public_key().public_bytes_raw()):
            raise ConfigError(
                "sealing.key_file: the log was signed with another key. Copy the file of the gateway that signed; to "
                "go on with a new key on purpose, set it in sealing.key"
            )
        sealer = Sealer(connection, section.origin, own)
        while True:
            while (await sealer.step()).has_more:
                await sealer.sign(section.sign_every)
            await sealer.sign(section.sign_every)
            await publish(connection, known, section)
            await asyncio.sleep(section.interval.total_seconds())
    finally:
        await connection.close()


async def publish(connection: Any, known: Mapping[str, Way], section: SealingSettings) -> None:
    """Send the newest checkpoints that have not left by some way, and are due."""
    for way, send in known.items():
        for row in await connection.fetch(_DUE, way, section.publish_every):
            try:
                receipt = await asyncio.to_thread(send, row["note"])
            except (OSError, ValueError) as error:
                await connection.execute(_FAILED, row["tenant"], way, line(str(error), 500))
            else:
                await connection.execute(_LEFT, row["tenant"], way, row["size"], receipt)


if __name__ == "__main__":
    main()
