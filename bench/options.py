"""Options of every benchmark: `--small`, a run of a few seconds, and `--deadline`, which ends one that hangs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any

#: Seconds that a run may take, and a small one.
LONGEST, SMALL = 2 * 3600.0, 60.0


def parse(parser: argparse.ArgumentParser, small: Mapping[str, Any]) -> argparse.Namespace:
    """Return the options, and set the deadline.

    `small` are the defaults with `--small`; an option that is given wins.
    """
    parser.add_argument("--small", action="store_true", help="a run of a few seconds, whose figures say little")
    parser.add_argument("--dsn", help="an empty database of a superuser's, instead of a PostgreSQL of its own")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", default=LONGEST, help="end the run then")
    asked = parser.parse_args()
    if asked.small:
        for name, value in {"deadline": SMALL, **small}.items():
            if getattr(asked, name) == parser.get_default(name):
                setattr(asked, name, value)
    end_after(asked.deadline)
    return asked


def postgres(asked: argparse.Namespace) -> AbstractContextManager[str]:
    """Lend the database `--dsn`, or that of a new PostgreSQL, the system's with `--system`; a small run need
    not wait for the disk.
    """
    if asked.dsn:
        return nullcontext(asked.dsn)
    from spanpost.testing.postgres import system_binaries, throwaway_postgres

    return throwaway_postgres(pg_bin=system_binaries() if asked.system else None, durable=not asked.small)


def end_after(seconds: float) -> None:
    """End the process with 1 after so many seconds, whatever it waits for: by SystemExit, ten seconds later
    at once.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        killer = threading.Timer(10.0, signal.raise_signal, (signal.SIGKILL,))
        killer.daemon = True
        killer.start()
        raise SystemExit(f"{sys.argv[0]}: not done within {seconds:g} seconds (--deadline)")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
