"""From a person's decision to the agent's wake-up, through a gateway, while others wait.

    python bench/control.py [--waiting 1000] [--rounds 200] [--system] [--click]

A gateway (`spanpost run`) before a PostgreSQL that writes to disk. So many agents wait at it, and are
answered one after the other by another process (`interventions.intervene`, as a second replica does).
Measured is from the call of `intervene` to the agent's next line: the commit, the notification, the query of
the row and the answer of the long poll are included. Printed as well: `intervene` alone, and the gateway's
processor time in ten seconds without an answer.

With `--click` people answer in Slack: what Slack sends when a button is pressed, signed, to the gateway's
`/slack/events`. Measured is from the first byte of that request; signature, replay, workspace, person,
rules, decision and row are included. Printed as well: the time until Slack is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID, uuid4

import aiohttp
from aiohttp import web
from options import parse, postgres

from spanpost.agent import gateway
from spanpost.agent.control import approval, install
from spanpost.model.interventions import Verb
from spanpost.model.queries import ApprovalQuery
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.testing.exercise_people import an_act

SECRET, TEAM, USER, BOT = "bench", "T0BENCH", "U0ALICE", "B0BENCH"
RULES = f'[[interactions.rules]]\nactions = ["decide"]\nusers = ["{USER}"]\n'
#: Seconds that a gateway may take to be ready, and all agents to ask.
_READY, _ASKED = 60.0, 120.0
Answers = Callable[[UUID, int], Awaitable[None]]


async def _slack(request: web.Request) -> web.Response:
    """Answer like Slack's Web API."""
    fields: dict[str, object] = {"team_id": TEAM, "user_id": "U0BOT", "bot_id": BOT}
    if request.path.endswith("users.info"):
        fields = {"user": {"id": USER, "team_id": TEAM, "name": "alice", "profile": {"display_name": "alice"}}}
    return web.json_response({"ok": True, **fields})


@asynccontextmanager
async def slack(port: int) -> AsyncIterator[None]:
    """Stand in for Slack."""
    application = web.Application()
    application.router.add_route("*", "/api/{method}", _slack)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def clicking(url: str) -> AsyncIterator[Answers]:
    """Lend a function that presses a button: it sends what Slack would, and returns when it was answered."""
    async with aiohttp.ClientSession() as session:

        async def click(key: UUID, number: int) -> None:
            action = {"action_id": "spanpost:approve", "block_id": "b", "type": "button", "value": str(key)}
            payload = {
                "type": "block_actions",
                "team": {"id": TEAM},
                "user": {"id": USER, "team_id": TEAM},
                "container": {"type": "message", "channel_id": "C0BENCH", "message_ts": f"{number}.5"},
                "message": {"bot_id": BOT, "ts": f"{number}.5"},
                "actions": [action | {"action_ts": f"{time.time():.6f}"}],
            }
            body = urlencode({"payload": json.dumps(payload)}).encode()
            stamp = str(int(time.time()))
            made = hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, sha256).hexdigest()
            headers = {
                "content-type": "application/x-www-form-urlencoded",
                "x-slack-request-timestamp": stamp,
                "x-slack-signature": f"v0={made}",
            }
            async with session.post(f"{url}/slack/events", data=body, headers=headers) as answer:
                assert answer.status == 200, (answer.status, await answer.text())

        yield click


def start(dsn: str, port: int, waiting: int) -> subprocess.Popen[bytes]:
    """Start a gateway, and wait until it is ready. Slack's stand-in listens on the next port."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))},
        "DATABASE_URL": dsn,
        "SPANPOST_METRICS__PORT": "0",
        "SPANPOST_GATEWAY__HTTP_PORT": str(port),
        "SPANPOST_GATEWAY__GRPC_PORT": "-1",
        "SPANPOST_GATEWAY__MAX_WAITERS": str(waiting + 10),
        "SPANPOST_LOG__LEVEL": "WARNING",
        "SPANPOST_SLACK__TOKEN": "xoxb-bench",
        "SPANPOST_SLACK__BASE_URL": f"http://127.0.0.1:{port + 1}/api/",
        "SPANPOST_SLACK__DRY_RUN": "true",
        "SPANPOST_INTERACTIONS__SIGNING_SECRET": SECRET,
        "SPANPOST_INTERACTIONS__JOIN_CHANNELS": "false",
    }
    directory = Path(tempfile.mkdtemp())
    (directory / "spanpost.toml").write_text(RULES)
    process = subprocess.Popen(
        [sys.executable, "-c", "from spanpost.cli import main; main()", "run"],
        env=environment,
        cwd=directory,
        stderr=subprocess.DEVNULL,  # where the dry run writes what it would post
    )
    until = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit(f"the gateway ended, or was not ready within {_READY:g} seconds")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process took so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    dsn: str, port: int, pid: int, waiting: int, rounds: int, idle: float, *, is_click: bool
) -> dict[str, float]:
    """Return the measured times, in milliseconds."""
    store = PostgresStore(dsn, pool_size=2)
    await store.open()
    async with slack(port + 1), clicking(f"http://127.0.0.1:{port}") as click:

        async def decide(key: UUID, number: int) -> None:
            await store.interventions.intervene(an_act(Verb.APPROVE, key))

        return await _measure(store, pid, waiting, rounds, idle, click if is_click else decide)


async def _measure(
    store: PostgresStore, pid: int, waiting: int, rounds: int, idle: float, answer: Answers
) -> dict[str, float]:
    woken: dict[str, float] = {}
    done = asyncio.Event()

    async def agent(id: str) -> None:
        await approval("Deploy?", id=id)
        woken[id] = time.perf_counter()
        done.set()

    ids = [f"{uuid4()}" for _ in range(waiting)]
    agents = []
    for id in ids:
        agents.append(asyncio.create_task(agent(id)))
        await asyncio.sleep(0.002)  # Agents begin spread over time, so that the start does not disturb the measurement.
    async with asyncio.timeout(_ASKED):
        while len(rows := await store.interventions.approvals(ApprovalQuery(state="open", limit=waiting))) < waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await asyncio.sleep(0.3 * idle)
    began = processor_seconds(pid)
    await asyncio.sleep(idle)
    idle_share = (processor_seconds(pid) - began) / idle
    took, alone = [], []
    for number, row in enumerate(rows[:rounds]):
        done.clear()
        clicked = time.perf_counter()
        await answer(row.key, number)
        alone.append((time.perf_counter() - clicked) * 1e3)
        async with asyncio.timeout(30):
            while row.approval_id not in woken:
                done.clear()
                await done.wait()
        took.append((woken[row.approval_id] - clicked) * 1e3)
    for each in agents:
        each.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
    await store.close()
    took.sort()
    return {
        "median_ms": statistics.median(took),
        "p99_ms": took[min(len(took) - 1, int(len(took) * 0.99))],
        "most_ms": took[-1],
        "answered_median_ms": statistics.median(alone),
        "gateway_idle_percent_of_a_core": idle_share * 100,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--port", type=int, default=14318)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    parser.add_argument("--click", action="store_true", help="people press buttons in Slack")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds in which nobody is answered")
    options = parse(parser, {"waiting": 20, "rounds": 5, "idle": 0.5})
    with postgres(options) as dsn:
        asyncio.run(upgrade(dsn))
        process = start(dsn, options.port, options.waiting)
        install(gateway.GatewayClient(f"http://127.0.0.1:{options.port}"))
        try:
            rounds = min(options.rounds, options.waiting)
            measuring = measure(
                dsn, options.port, process.pid, options.waiting, rounds, options.idle, is_click=options.click
            )
            figures = asyncio.run(measuring)
        finally:
            process.terminate()
            process.wait(15)
    print(json.dumps({"waiting": options.waiting} | {name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
