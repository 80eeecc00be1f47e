"""Handles alerts with agents, within the limits that a person sets.

Run ``python auto_ops.py --once``, or without it as a daemon.

It asks a spanpost gateway for firing alerts, and three agents handle each (`agents.py`). Verdict, plan and
the request for approval appear in the alert's thread. Each alert is handled once, however many processes run
(`watermark.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import stub_model
from agents import Action, Alert, handle, rehearse
from command_options import read
from model import Model
from watermark import LATE, TRIES, Watermark, Work

import spanpost

log = logging.getLogger("auto_ops")
#: Alerts that are handled at once; and the daemon's wait before it tries a failed one again, seconds.
MOST, AGAIN = 4, 60.0
#: Characters of a runbook, and files of a repository, that a model receives at most.
MOST_TEXT, MOST_FILES = 20_000, 200
#: What the database may raise while it is down.
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class GatewayFailed(Exception):
    """The gateway does not answer, or refuses."""


class Gateway:
    """The HTTP API of ``spanpost run``."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    async def firing(self, since: datetime) -> list[tuple[Alert, datetime]]:
        """Return the alerts that fire and began since, the oldest first."""
        found: list[dict[str, Any]] = []
        asked = {"type": "alert", "since": since.isoformat(), "limit": "200"}
        while True:
            page = await asyncio.to_thread(self._get, f"/api/tasks?{urllib.parse.urlencode(asked)}")
            found += page["items"]
            if page["next"] is None:
                break
            asked["cursor"] = page["next"]
        fire = [one for one in found if one["ended_at"] is None and one["traceparent"] and one["started_at"]]
        listed = (await asyncio.to_thread(self._get, "/api/alerts?state=firing&limit=500"))["items"] if fire else []
        # An alert with a message of its own is the trace of its task.
        known = {one["id"].replace("-", ""): one for one in listed}
        alerts = [
            (
                self._alert(one, known.get(one["traceparent"].split("-")[1], {})),
                datetime.fromisoformat(one["started_at"]),
            )
            for one in fire
        ]
        return sorted(alerts, key=lambda pair: pair[1])

    @staticmethod
    def _alert(task: dict[str, Any], said: dict[str, Any]) -> Alert:
        return Alert(
            task["task_id"],
            task["name"] or "alert",
            task["action"] or "",
            task["traceparent"],
            description=said.get("description", ""),
            labels=said.get("labels", {}),
            runbook_url=said.get("links", {}).get("Runbook", ""),
        )

    async def is_over(self, alert: Alert) -> bool:
        """Return whether an alert no longer fires."""
        task = await asyncio.to_thread(self._get, f"/api/tasks/{urllib.parse.quote(alert.id)}")
        return task["ended_at"] is not None

    def _get(self, path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self._url + path, headers=headers), timeout=30
            ) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            what = (
                "set SPANPOST_TOKEN to a token of interactions.tokens, or to what `spanpost token local` prints"
                if error.code in (401, 403)
                else "look at its log"
            )
            raise GatewayFailed(f"the gateway answers {error.code}: {what}") from None
        except (OSError, ValueError) as error:
            raise GatewayFailed(f"the gateway at {self._url} does not answer: {error}") from None


@dataclass(frozen=True)
class Hints:
    """What the models receive beside the alert: runbooks by the name in an alert's link, files of a repository."""

    runbooks: Path | None = None
    repository: Path | None = None

    def with_hints(self, alert: Alert) -> Alert:
        """Return the alert with its runbook's text and the repository's files."""
        name = Path(urllib.parse.urlsplit(alert.runbook_url).path).stem
        runbook, files = "", ()
        # The link is untrusted: only a plain name below the directory is read.
        if self.runbooks is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
            path = self.runbooks / f"{name}.md"
            if path.is_file():
                with path.open(errors="replace") as file:
                    runbook = file.read(MOST_TEXT)
        if self.repository is not None:
            files = tuple(sorted(path.name for path in self.repository.iterdir() if path.name[0] != "."))[:MOST_FILES]
        return replace(alert, runbook=runbook, repository=files)


@dataclass(frozen=True)
class Shift:
    """Settings and clients of the alert handler."""

    gateway: Gateway
    watermark: Watermark
    model: Model
    actions: Mapping[str, Action]
    hints: Hints
    #: How many plans are made at most, and how long people have to answer, seconds.
    rounds: int
    wait: float
    since: datetime | None
    is_dry: bool = False

    async def alerts(self) -> list[tuple[Alert, datetime]]:
        """Return the alerts to handle, the oldest first."""
        since = self.since or await self.watermark.since() or datetime.now(UTC) - LATE
        firing = await self.gateway.firing(since)
        if not self.is_dry:
            await self.watermark.over(since, [alert.id for alert, _ in firing])
        return [
            (self.hints.with_hints(alert), at) for alert, at in firing if not await self.watermark.is_done(alert.id)
        ]

    async def handle(self, alert: Alert, fired_at: datetime) -> bool:
        """Handle one alert unless it is done. Return False when it failed and is to be tried again."""
        async with self.watermark.take(alert.id, fired_at) as work:
            if work is None:
                return True
            if work.was_acting:
                await work.done("stopped while acting: look what became of it")
                log.error("%s: stopped while acting, which is not done twice: look what became of it", alert.id)
                return True
            log.info("%s: looked after (%s)", alert.id, alert.name)
            return await self._work(alert, work)

    async def _work(self, alert: Alert, work: Work) -> bool:
        did = False

        async def acting() -> None:
            nonlocal did
            await work.acting()
            did = True

        async def is_over() -> bool:
            return await self.gateway.is_over(alert)

        try:
            outcome = await handle(
                alert, self.model, self.actions, wait=self.wait, rounds=self.rounds, is_over=is_over, acting=acting
            )
        except Exception as error:  # one alert's failure does not stop the others
            log.error("%s: %s: %s", alert.id, type(error).__name__, error)
            if not did and work.tries < TRIES:
                return False
            outcome = f"failed: {type(error).__name__}"
        await work.done(outcome)
        log.info("%s: %s", alert.id, outcome)
        return not outcome.startswith("failed")


async def once(shift: Shift) -> bool:
    """Handle all alerts that fire now. Return False when something failed."""
    few = asyncio.Semaphore(MOST)

    async def one(alert: Alert, fired_at: datetime) -> bool:
        async with few:
            return await shift.handle(alert, fired_at)

    return all(await asyncio.gather(*(one(*found) for found in await shift.alerts())))


async def forever(shift: Shift, every: float) -> None:
    """Handle firing alerts until it is stopped."""
    under_way: set[str] = set()
    running: set[asyncio.Task[None]] = set()
    not_before: dict[str, float] = {}

    async def one(alert: Alert, fired_at: datetime) -> None:
        try:
            if not await shift.handle(alert, fired_at):
                not_before[alert.id] = time.monotonic() + AGAIN
        except AWAY as error:
            log.warning("%s: the database cannot be used, it is taken up again: %s", alert.id, error)
        finally:
            under_way.discard(alert.id)

    while True:
        try:
            for alert, fired_at in await shift.alerts():
                is_due = time.monotonic() >= not_before.get(alert.id, 0.0)
                if is_due and alert.id not in under_way and len(under_way) < MOST:
                    under_way.add(alert.id)
                    running.add(task := asyncio.create_task(one(alert, fired_at)))
                    task.add_done_callback(running.discard)
        except (GatewayFailed, *AWAY) as error:
            log.warning("looked in vain, and will again: %s", error)
        await asyncio.sleep(every)


async def rehearsed(shift: Shift) -> int:
    """Run the agents for each firing alert, and print what they would say in its thread; return the exit code."""
    is_well = True
    for alert, fired_at in await shift.alerts():
        said = [f"{alert.id}  {fired_at:%Y-%m-%d %H:%M:%S}  {alert.name}: {alert.summary}"]
        try:
            said += [f"  {text}" for text in await rehearse(alert, shift.model, shift.actions, rounds=shift.rounds)]
        except Exception as error:  # one alert's failure does not stop the others
            said.append(f"  failed: {type(error).__name__}: {error}")
            is_well = False
        for text in said:
            print(text.replace("\n", " ").encode("ascii", "replace").decode())
    return 0 if is_well else 1


async def work(options: argparse.Namespace, model: Model, actions: Mapping[str, Action]) -> int:
    """Run as the options say; return the exit code."""
    watermark = await Watermark.open(options.database, makes_table=not options.dry_run)
    try:
        hints = Hints(options.runbooks, options.repository)
        shift = Shift(
            Gateway(options.url, options.token),
            watermark,
            model,
            actions,
            hints,
            options.rounds,
            options.wait,
            options.since,
            options.dry_run,
        )
        if options.dry_run:
            return await rehearsed(shift)
        if options.once:
            return 0 if await once(shift) else 1
        log.info("looking every %g s", options.every)
        daemon = asyncio.create_task(forever(shift, options.every))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, daemon.cancel)
        try:
            await daemon
        except asyncio.CancelledError:
            under_way = asyncio.all_tasks() - {asyncio.current_task()}
            for task in under_way:  # the next process that starts takes up the rest
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return 0
    finally:
        await watermark.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = read(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(message)s", stream=sys.stderr)
    if not options.dry_run:
        try:
            # The pipeline sends what the agents emit, live, and brings people's answers. The agents do not
            # know it.
            spanpost.attach(endpoint=options.url)
        except spanpost.ConfigError as error:
            print(f"auto_ops: {error}", file=sys.stderr)
            return 2
    with ExitStack() as stack:
        model = Model(stack.enter_context(stub_model.serving()), "stub") if options.stub else Model.of_environment()
        try:
            return asyncio.run(work(options, model, options.actions))
        except GatewayFailed as error:
            print(f"auto_ops: {error}", file=sys.stderr)
        except (*AWAY, ValueError) as error:
            print(f"auto_ops: the database cannot be used: {error}", file=sys.stderr)
        finally:
            spanpost.flush(10)
    return 1


if __name__ == "__main__":
    sys.exit(main())
