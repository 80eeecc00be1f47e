"""Who is told at once of what was decided, by whatever process: one connection of a process listens for all who wait in it.

Where a pooler hands connections around nothing can be listened to: then what was written last is looked at, twice a second,
as long as anybody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg

from spanpost.model.errors import StoreUnavailable
from spanpost.store.intervention_rows import CHANNEL
from spanpost.store.protocols import Hears
from spanpost.store.rows import task_of
from spanpost.tasks.approvals import APPROVAL, TASK, topic_of

log = logging.getLogger(__name__)

#: Between two tries to listen again, seconds; and how often a connection is asked whether it lives.
_OUTAGE, _LIVES = (0.2, 5.0), 15.0
#: Between two looks where nothing can be listened to, seconds; and how many acts are looked at.
_LOOK, _NEWEST = 0.5, 500
_CHANGED = """
SELECT i.number, i.tenant, i.approval_id, t.doc FROM human_interventions i LEFT JOIN agent_tasks t ON t.uid = i.task_uid
WHERE i.number > (SELECT max(number) FROM human_interventions) - $1"""


class Listener:
    """Listens while somebody wants to hear. `connect` makes a connection that is nobody else's; None: `run` is used to look."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]] | None, run: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
    ) -> None:
        self._connect = connect
        self._run = run
        self._hears: list[Hears] = []
        self._task: asyncio.Task[None] | None = None
        self._listens = asyncio.Event()

    async def add(self, hears: Hears) -> None:
        """Tell `hears` from now on; returns when it listens, or after a while when it cannot yet."""
        self._hears.append(hears)
        if self._task is None or self._task.done():
            self._listens.clear()
            self._task = asyncio.create_task(self._listen() if self._connect is not None else self._look(), name="spanpost-ear")
        with suppress(TimeoutError):
            async with asyncio.timeout(_OUTAGE[1]):
                await self._listens.wait()

    def remove(self, hears: Hears) -> None:
        """Tell it no more."""
        if hears in self._hears:
            self._hears.remove(hears)

    async def close(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        self._hears.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)

    def _tell(self, topic: bytes) -> None:
        for hears in list(self._hears):
            try:
                hears(topic)
            except Exception:  # who hears must not stop who listens
                log.exception("what was heard could not be told")

    async def _listen(self) -> None:
        assert self._connect is not None
        pause = _OUTAGE[0]
        while True:
            try:
                connection = await self._connect()
                try:
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _, gone=gone: gone.set())
                    await connection.add_listener(CHANNEL, self._heard)
                    self._listens.set()
                    self._tell(b"")  # what was told before it listened was heard by nobody
                    pause = _OUTAGE[0]
                    while not gone.is_set():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_LIVES):
                                await gone.wait()
                        if not gone.is_set():
                            await connection.execute("SELECT 1")
                finally:
                    connection.terminate()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, StoreUnavailable, OSError, TimeoutError) as error:
                log.info("decisions cannot be listened for just now: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _OUTAGE[1])

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        with suppress(ValueError):
            self._tell(bytes.fromhex(payload))

    async def _look(self) -> None:
        seen: set[int] | None = None
        while True:
            try:
                rows = await self._run(lambda c: c.fetch(_CHANGED, _NEWEST))
                new = {row["number"] for row in rows}
                if seen is None:
                    self._listens.set()
                    self._tell(b"")
                else:
                    for row in rows:
                        if row["number"] not in seen:
                            self._changed(row)
                seen = new
            except StoreUnavailable as error:
                log.info("decisions cannot be looked for just now: %s", error)
            await asyncio.sleep(_LOOK)

    def _changed(self, row: Any) -> None:
        if row["approval_id"]:
            self._tell(topic_of(row["tenant"], APPROVAL, row["approval_id"]))
        elif row["doc"] is not None:
            task = task_of(row["doc"])
            for alias in {task.task_id, *task.aliases}:
                self._tell(topic_of(row["tenant"], TASK, alias))
