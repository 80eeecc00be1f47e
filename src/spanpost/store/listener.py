"""Notifications of questions and acts from all processes, over one connection per process.

Behind a pooler that pools transactions LISTEN does not work: then the newest acts are polled twice a second,
as long as there are callbacks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from spanpost.model.errors import StoreUnavailable
from spanpost.store.connections import UNREACHABLE
from spanpost.store.intervention_rows import CHANNEL
from spanpost.store.protocols import Hears
from spanpost.store.rows import task_of
from spanpost.tasks.approvals import APPROVAL, TASK, topic_of

log = logging.getLogger(__name__)

#: Seconds between attempts to connect again (first, most); and between checks that the connection works.
_RECONNECT, _CHECK = (0.2, 5.0), 15.0
#: Seconds between polls; and how many of the newest acts are polled.
_POLL, _NEWEST = 0.5, 500
_CHANGED = """
SELECT i.number, i.tenant, i.approval_id, t.doc FROM human_interventions i LEFT JOIN agent_tasks t ON t.uid = i.task_uid
WHERE i.number > (SELECT max(number) FROM human_interventions) - $1"""


class Listener:
    """Calls callbacks when questions or acts change.

    `connect` opens a connection of its own. With `polls` there is none, and `run` asks instead.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        run: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]],
    ) -> None:
        self._connect = connect
        self._run = run
        self.polls = False
        self._hears: list[Hears] = []
        self._task: asyncio.Task[None] | None = None
        self._listens = asyncio.Event()
        self._connection: Any = None

    async def add(self, hears: Hears) -> None:
        """Call `hears` from now on. Return when it listens, or after 5 seconds when it cannot yet."""
        self._hears.append(hears)
        if self._task is None or self._task.done():
            self._listens.clear()
            self._task = asyncio.create_task(self._poll() if self.polls else self._listen(), name="spanpost-listener")
        with suppress(TimeoutError):
            async with asyncio.timeout(_RECONNECT[1]):
                await self._listens.wait()

    def remove(self, hears: Hears) -> None:
        """Stop calling `hears`."""
        if hears in self._hears:
            self._hears.remove(hears)

    def reconnect(self) -> None:
        """Listen through a new connection, and call the callbacks once: a change may have been missed."""
        if self._connection is not None:
            self._connection.terminate()

    async def close(self) -> None:
        """Stop listening and forget all callbacks."""
        task, self._task = self._task, None
        self._hears.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)

    def _notify(self, topic: bytes) -> None:
        for hears in list(self._hears):
            try:
                hears(topic)
            except Exception:  # a callback must not stop the listener
                log.exception("a callback for a changed question or act failed")

    async def _listen(self) -> None:
        pause = _RECONNECT[0]
        while True:
            try:
                connection = self._connection = await self._connect()
                try:
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _, gone=gone: gone.set())
                    await connection.add_listener(CHANNEL, self._received)
                    self._listens.set()
                    self._notify(b"")  # changes before this moment may have been missed
                    pause = _RECONNECT[0]
                    while not gone.is_set():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_CHECK):
                                await gone.wait()
                        if not gone.is_set():
                            await connection.execute("SELECT 1")
                finally:
                    connection.terminate()
            except (*UNREACHABLE, StoreUnavailable) as error:
                log.info("decisions cannot be listened for just now: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RECONNECT[1])

    def _received(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        with suppress(ValueError):
            self._notify(bytes.fromhex(payload))

    async def _poll(self) -> None:
        seen: set[int] | None = None
        while True:
            try:
                rows = await self._run(lambda c: c.fetch(_CHANGED, _NEWEST))
                new = {row["number"] for row in rows}
                if seen is None:
                    self._listens.set()
                    self._notify(b"")
                else:
                    for row in rows:
                        if row["number"] not in seen:
                            self._changed(row)
                seen = new
            except StoreUnavailable as error:
                log.info("decisions cannot be looked for just now: %s", error)
            await asyncio.sleep(_POLL)

    def _changed(self, row: Any) -> None:
        if row["approval_id"]:
            self._notify(topic_of(row["tenant"], APPROVAL, row["approval_id"]))
        elif row["doc"] is not None:
            task = task_of(row["doc"])
            for alias in {task.task_id, *task.aliases}:
                self._notify(topic_of(row["tenant"], TASK, alias))
