"""The sealer of a gateway with several workers: killed, its worker killed, turned on, off and changed at SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from spanpost.store.sealing.verifying import verify
from tests.acceptance.gateway_process import Start, spans
from tests.acceptance.test_workers import OPTIONS, has_command, post, workers_of
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]
ON = '[sealing]\nenabled = true\ninterval = "PT{}S"\nsign_every = "PT0S"\n'
_UNSEALED = """
SELECT count(*) FROM audit_rows r WHERE NOT EXISTS (
  SELECT FROM sealed_rows s WHERE s.row_id = r.event_id AND s.row_hash = r.content_hash)"""


def sealers(worker: int) -> list[int]:
    """Return the sealing processes that a worker has started."""
    found = []
    for children in Path(f"/proc/{worker}/task").glob("*/children"):
        with suppress(OSError):
            for pid in children.read_text().split():
                if b"spanpost.runtime.sealing" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


async def ask(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def findings(dsn: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return (await verify(connection)).findings
    finally:
        await connection.close()


@pytest.mark.proves("named", "gateway-killed")
def test_the_sealer_survives_kills_and_follows_the_settings(start: Start, dsn: str) -> None:
    """Two workers have one sealer: at SIGHUP it begins, changes and ends; kill -9 of it, or of the first worker,
    brings another. Every row has one leaf of a valid log afterwards.
    """
    gateway = start("", *OPTIONS).ready()
    gateway.hear("2 workers share")
    toml = gateway.home / "spanpost.toml"
    recorded = 0

    def running() -> list[int]:
        return [pid for worker in workers_of(gateway) for pid in sealers(worker)]

    def record() -> None:
        nonlocal recorded
        post(gateway, encode_spans(spans(recorded, 30)).SerializeToString())
        recorded += 30

    def reread(text: str) -> None:
        toml.write_text(text)
        gateway.process.send_signal(signal.SIGHUP)

    def are_sealed() -> bool:
        return bool(
            asyncio.run(ask(dsn, "SELECT count(*) FROM audit_rows")) == recorded
            and not asyncio.run(ask(dsn, _UNSEALED))
        )

    def another(than: int | None) -> int:
        return eventually(running, lambda found: len(found) == 1 and found[0] != than)[0]

    record()
    assert running() == []
    reread(ON.format(0.2))
    first = another(None)
    eventually(are_sealed)
    os.kill(first, signal.SIGKILL)
    record()
    second = another(first)
    eventually(are_sealed)
    os.kill(workers_of(gateway)[0], signal.SIGKILL)
    record()
    third = another(second)
    eventually(lambda: not has_command(second))
    eventually(are_sealed)
    reread(ON.format(0.1))
    another(third)
    record()
    eventually(are_sealed)
    reread("")
    eventually(running, lambda found: found == [])
    record()
    assert gateway.end() == 0
    assert asyncio.run(ask(dsn, _UNSEALED)) == 30
    assert asyncio.run(ask(dsn, "SELECT count(*) - count(DISTINCT (row_id, row_hash)) FROM sealed_rows")) == 0
    assert asyncio.run(findings(dsn)) == []
