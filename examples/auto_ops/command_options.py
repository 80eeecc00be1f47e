"""The options of auto_ops, with their environment variables."""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents import ROUNDS, Action

HERE = Path(__file__).parent


def read(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; end the process with 2 where they are wrong."""
    said = os.environ
    parser = argparse.ArgumentParser(
        prog="auto_ops", description="Handles alerts with agents, within the limits that a person sets."
    )
    add = parser.add_argument
    _switch(add, "--once", "look after what fires now, and end; else a daemon")
    _switch(
        add, "--dry-run", "run the agents and print what they would say; no person is asked, nothing is done or kept"
    )
    add(
        "--since",
        type=_since,
        default=said.get("AUTO_OPS_SINCE") or None,
        help="alerts that began since: 2h, 3d or 2026-03-01T12:00Z (AUTO_OPS_SINCE; default: where it left off, "
        "at first 1h)",
    )
    add(
        "--every",
        type=_seconds,
        default=said.get("POLL_INTERVAL") or "10",
        metavar="SECONDS",
        help="how often the daemon looks (POLL_INTERVAL, 10)",
    )
    add(
        "--wait",
        type=_seconds,
        default=said.get("AUTO_OPS_WAIT") or None,
        metavar="SECONDS",
        help="for how long people are asked (AUTO_OPS_WAIT, 3600; with --once 300)",
    )
    add("--url", default=said.get("SPANPOST_URL") or "http://127.0.0.1:4318", help="the gateway (SPANPOST_URL)")
    add(
        "--database",
        default=said.get("DATABASE_URL"),
        help="a PostgreSQL for the watermark: spanpost's own (DATABASE_URL)",
    )
    add(
        "--actions",
        type=_actions,
        default=said.get("AUTO_OPS_ACTIONS") or str(HERE / "actions.toml"),
        help="what may be done (AUTO_OPS_ACTIONS, actions.toml)",
    )
    add(
        "--rounds",
        type=_rounds,
        default=said.get("MAX_ITERATIONS") or str(ROUNDS),
        help="plans that are made at most, 1 to 10 (MAX_ITERATIONS, 3)",
    )
    add(
        "--repository",
        type=_directory,
        default=said.get("REPOSITORY_ROOT") or None,
        help="a directory whose file names the models receive (REPOSITORY_ROOT)",
    )
    add(
        "--runbooks",
        type=_directory,
        default=said.get("RUNBOOKS") or None,
        help="a directory of runbooks: the models receive <name>.md of an alert's runbook_url (RUNBOOKS)",
    )
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default=said.get("LOG_LEVEL", "").lower() or "info",
        help="what is logged (LOG_LEVEL, info)",
    )
    _switch(add, "--stub", "a model that answers by heart, instead of OPENAI_BASE_URL's")
    options = parser.parse_args(arguments)
    if options.log_level not in ("debug", "info", "warning", "error"):  # of the environment: choices are not checked
        parser.error(f"LOG_LEVEL: there is no {options.log_level!r}")
    options.token = said.get("SPANPOST_TOKEN", "")
    options.wait = options.wait or (300.0 if options.once else 3600.0)
    if not options.database:
        parser.error("no database: set DATABASE_URL to spanpost's, or give --database")
    return options


def _switch(add: Callable[..., object], option: str, says: str) -> None:
    """Add an option without a value, which its variable turns on by `1` or `true`."""
    name = "AUTO_OPS_" + option.strip("-").replace("-", "_").upper()
    is_on = os.environ.get(name, "").lower() in ("1", "true", "yes")
    add(option, action="store_true", default=is_on, help=f"{says} ({name})")


def _since(text: str) -> datetime:
    if found := re.fullmatch(r"(\d{1,6})([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
        ago = timedelta(**{unit: int(found[1])})
        return max(datetime.now(UTC) - min(ago, timedelta(days=3650)), datetime(1970, 1, 1, tzinfo=UTC))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 2h nor a time such as 2026-03-01T12:00Z") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 30 * 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, more than 0 and at most 30 days")
    return seconds


def _rounds(text: str) -> int:
    if not re.fullmatch(r"[1-9]|10", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 10")
    return int(text)


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no directory")
    return path


def _actions(path: str) -> dict[str, Action]:
    try:
        listed = tomllib.loads(Path(path).read_text())
        actions = {name: Action(name, str(one["says"]), tuple(map(str, one["run"]))) for name, one in listed.items()}
        if not actions or not all(action.run for action in actions.values()):
            raise ValueError("it needs at least one action, and each a command")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{path}: {type(error).__name__}: {error}; see the actions.toml beside auto_ops.py"
        ) from None
    return actions
