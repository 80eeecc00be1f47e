"""A connection to PostgreSQL that is cut between a COMMIT and its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from spanpost.model.errors import StoreUnavailable
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


class Cutter:
    """Proxy in front of PostgreSQL that passes each `every`-th COMMIT on, and cuts the connection for its answer."""

    def __init__(self, socket: str, every: int) -> None:
        self._socket = socket
        self._every = every
        self._commits = 0
        self.cut = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        is_cut = asyncio.Event()

        async def down() -> None:
            while answer := await from_server.read(65536):
                if is_cut.is_set():  # the commit has been made: its answer is read, and goes nowhere
                    break
                writer.write(answer)
            writer.close()

        answers = asyncio.create_task(down())
        with suppress(ConnectionError):
            while sent := await reader.read(65536):
                if sent.startswith(b"Q") and b"COMMIT" in sent:
                    self._commits += 1
                    if self._commits % self._every == 0:
                        is_cut.set()
                        self.cut += 1
                to_server.write(sent)
        to_server.close()
        await answers


@pytest.mark.proves("one-row", "commit-answer-lost")
@pytest.mark.proves("one-transaction", "commit-answer-lost")
async def test_a_commit_whose_answer_is_lost_is_repeated_and_recorded_once(dsn: str, record_property: Any) -> None:
    """With every third answer to a COMMIT lost, each batch that is sent until it is acknowledged is there once."""
    direct = await asyncpg.connect(dsn)
    parts = urlsplit(dsn)
    cutter = Cutter(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{await direct.fetchval('SHOW port')}", every=3)
    proxy = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    host, own_port = proxy.sockets[0].getsockname()
    store = PostgresStore(
        f"postgresql://{parts.netloc.rpartition('@')[0]}@{host}:{own_port}{parts.path}", rules=ROUTED_RULES
    )
    await store.open()
    refused = 0
    for number in range(1, 31):
        batch = a_run(f"run {number}", trace=number)
        while True:
            try:
                await store.record(batch)
                break
            except StoreUnavailable:  # the gateway answers 503, and the sender repeats
                refused += 1
                assert refused < 200
    await store.close()
    proxy.close()
    found = await direct.fetchrow(
        "SELECT (SELECT count(*) FROM agent_events), count(*), sum(input_tokens),"
        " (SELECT count(*) FROM agent_checkpoints), (SELECT count(*) FROM deliveries) FROM agent_tasks"
    )
    await direct.close()
    assert cutter.cut >= 10
    assert tuple(found) == (4 * 30, 30, 100 * 30, 3 * 30, 4 * 30)
    record_property("size", f"30 batches, {cutter.cut} answers lost")
