"""Where a result comes from: the commit, the versions, the machine and the time of a run."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from typing import Any

from tests.conftest import ROOT
from tests.faults.soak.world import World


def origin(world: World) -> dict[str, Any]:
    """Return what a published result says of its run beside the seed."""
    return {
        "on": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {
            "Python": platform.python_version(),
            "PostgreSQL": world.database.rows("SHOW server_version")[0][0].split()[0],
        },
        "cores": os.cpu_count(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def commit() -> str:
    """Return the short name of the commit, with `+` if the tree has other changes than results; empty: no checkout."""
    name = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/*.json", ":!tests/*.jsonl")
    return f"{name}+" if name and changed else name


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
