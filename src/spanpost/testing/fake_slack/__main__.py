"""Serve the fake Slack: ``python -m spanpost.testing.fake_slack --port 4100 --state slack.json``.

Prints the address once it listens. ``GET /_control`` returns the state, ``POST /_control`` does what people
do. At SIGTERM the state is written to the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from spanpost.testing.fake_slack import FakeSlack, Fault, Faults


def _odds(text: str) -> dict[str, dict[Fault, float]]:
    """Read ``{"posts": {"reset after": 0.07}}``."""
    read: dict[str, dict[str, float]] = json.loads(text)
    return {kind: {Fault(name): share for name, share in each.items()} for kind, each in read.items()}


async def _run(given: argparse.Namespace) -> None:
    limits: Any = {"real": True, "none": False}.get(given.limits)
    slack = FakeSlack(
        faults=Faults(given.odds, seed=given.seed),
        limits=json.loads(given.limits) if limits is None else limits,
        retry_after=given.retry_after,
        port=given.port,
    )
    slack.workspace.stale = given.stale
    for name in given.channel:
        slack.workspace.add_channel(name)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with slack:
        sys.stdout.write(f"{slack.url}\n")
        sys.stdout.flush()
        await ended.wait()
        if given.state is not None:
            slack.save(given.state)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m spanpost.testing.fake_slack", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1; 0 takes a free one")
    parser.add_argument("--state", type=Path, help="file that the state is written to at the end")
    parser.add_argument(
        "--odds", type=_odds, default={}, help='JSON: {"posts": {"reset after": 0.07}, "updates": {}, "lookups": {}}'
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the dice")
    parser.add_argument("--limits", default="none", help="none, real, or JSON of calls a minute by method")
    parser.add_argument("--retry-after", type=int, default=1, help="seconds that a dealt 429 asks for")
    parser.add_argument("--stale", type=float, default=0.0, help="seconds for which posts are invisible to lookups")
    parser.add_argument(
        "--channel", action="append", default=[], help="a channel more, beside #agents; may be repeated"
    )
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
