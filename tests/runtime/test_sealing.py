"""The sealer's process: whose key signs, and what happens to checkpoints that cannot leave."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.model.errors import ConfigError
from spanpost.runtime import sealing
from spanpost.settings.sealing import SealingSettings
from tests.conftest import fresh_database
from tests.store.sealing.sealed import act, seal

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def sealed_dsn(server: str) -> Any:
    """A database whose log was signed by `KEY`."""
    with fresh_database(server) as dsn:
        yield dsn


async def test_a_key_file_of_another_gateway_does_not_sign(sealed_dsn: str) -> None:
    """A gateway whose file holds a key that never signed stops with the next step; the same key in a setting signs."""
    database = await asyncpg.connect(sealed_dsn)
    await act(database, "t")
    await seal(database, KEY)
    other = base64.b64encode(bytes(range(32))).decode()
    with pytest.raises(ConfigError, match="Copy the file of the gateway that signed"):
        await sealing._with_turn(sealed_dsn, other, True, SealingSettings())
    await database.close()


async def test_checkpoints_that_cannot_leave_are_sent_again(sealed_dsn: str) -> None:
    """A way that fails keeps its reason and is tried again; once it works the checkpoint has left, and only once."""
    database = await asyncpg.connect(sealed_dsn)
    await act(database, "t")
    await seal(database, KEY)
    left: list[str] = []

    def broken(note: str) -> None:
        raise OSError("HTTP status 500")

    section = SealingSettings()
    await sealing.publish(database, {"webhook": broken}, section)
    row = await database.fetchrow("SELECT size, failure FROM seal_publications")
    assert tuple(row) == (0, "HTTP status 500")
    await database.execute("UPDATE seal_publications SET tried_at = tried_at - interval '2 minutes'")
    for _ in range(2):
        await sealing.publish(database, {"webhook": left.append}, section)
    row = await database.fetchrow("SELECT size, failure FROM seal_publications")
    assert (row["size"] > 0, row["failure"], len(left)) == (True, "", 1)
    await database.close()


async def test_a_connection_that_is_lost_in_a_statement_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What asyncpg raises where the connection is lost in a COMMIT is a line, and the sealer goes on."""
    tries = iter([asyncpg.InternalClientError("cannot switch to state 15"), asyncio.CancelledError()])

    async def fail(*_: object) -> None:
        raise next(tries)

    monkeypatch.setattr(sealing, "_with_turn", fail)
    monkeypatch.setattr(sealing, "_AFTER_ERROR", 0)
    with pytest.raises(asyncio.CancelledError):
        await sealing._seal("", "", False, SealingSettings())
    assert capsys.readouterr().out == "InternalClientError: cannot switch to state 15\n"
