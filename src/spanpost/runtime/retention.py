"""Retention on the gateway's schedule, in a process of its own: `python -m spanpost.runtime.retention`.

Copying a month takes minutes of processor time. In the gateway's process it would delay recording; a process of its own
has the lowest priority, gives its memory back, and may be killed at any moment. It reads the database's URL and the
settings from its standard input, and ends when that is closed: when the gateway has ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from typing import Any, Final

from spanpost.model.acts import GATEWAY
from spanpost.model.errors import SpanpostError
from spanpost.model.interventions import Actor
from spanpost.runtime.background import Background
from spanpost.runtime.children import begin, ended
from spanpost.settings.retention import RetentionSettings

log = logging.getLogger(__name__)

#: Longest wait before the first run, and before the next one while something is due. Seconds.
_FIRST: Final = 60.0


class RetentionSchedule(Background):
    """Runs retention again and again. `dsn` returns the database's URL."""

    _name = "spanpost-retention"

    def __init__(self, section: RetentionSettings, dsn: Callable[[], str]) -> None:
        self._section = section
        self._dsn = dsn

    async def _run(self) -> None:
        interval = self._section.interval.total_seconds()
        pause = min(_FIRST, interval) * random.uniform(0.5, 1.0)
        while True:
            await asyncio.sleep(pause)
            has_more = False
            try:
                has_more = await self.run_once()
            except Exception as error:
                log.error("retention: the run could not be started: %s: %s", type(error).__name__, error)
            pause = min(_FIRST, interval) if has_more else interval * random.uniform(0.9, 1.1)

    async def run_once(self) -> bool:
        """Run once; return whether more is due. Errors are logged, and the database holds them for the gauges."""
        given = {"dsn": self._dsn(), "rules": self._section.model_dump(mode="json")}
        command = [sys.executable, "-m", "spanpost.runtime.retention"]
        child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(given).encode() + b"\n")
            await child.stdin.drain()
            said = await child.stdout.read()
            await child.wait()
        finally:
            await ended(child)
        answer: dict[str, Any] = json.loads(said) if said else {"error": f"its process ended with {child.returncode}"}
        if error := answer.get("error"):
            log.error("retention: %s", error)
            return False
        if answer.get("rows") or answer.get("placement"):
            log.info(
                "retention: %d rows archived, %d records of traces that are over deleted",
                answer["rows"],
                answer["placement"],
            )
        return bool(answer.get("left"))


def main() -> None:
    """Run retention once, as the child of a gateway."""
    given = begin()
    print(json.dumps(asyncio.run(_once(given["dsn"], RetentionSettings.model_validate(given["rules"])))), flush=True)


async def _once(dsn: str, rules: RetentionSettings) -> dict[str, Any]:
    from spanpost.runtime.archives import retain
    from spanpost.store.connections import DRIVER_ERRORS
    from spanpost.store.system_user import system_user

    try:
        done = await retain(dsn, rules, is_done=True, actor=Actor(provider=GATEWAY, id=system_user()))
    except (SpanpostError, OSError, *DRIVER_ERRORS) as error:
        return {"error": f"{type(error).__name__}: {error}"[:1000]}
    if done is None:
        return {}
    return {"rows": done.rows, "placement": done.placement, "left": done.left}


if __name__ == "__main__":
    main()
