"""Every benchmark of `bench/` still runs: small, as a process of its own, with the real parts that it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Parts that a benchmark needs, and the option to use them.
PARTS = {
    "postgres": ("archive", "board", "board_pages", "budgets", "cells", "cells_simulation", "control", "deliveries",
                 "erase", "gateway", "hostile", "hostile_bodies", "kafka", "latency", "store", "outage", "overshoot",
                 "peers", "sealing", "shares", "space", "stages", "web_service"),
    "kafka": ("kafka",),
    "chromium": ("board", "board_pages"),
    "otelcol": ("collector",),
}  # fmt: skip
#: Modules that benchmarks share.
SHARED = {"day_world", "loads", "loop_runs", "options", "table"}
NAMES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem not in SHARED)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs(
    name: str, needs: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With `--small` a benchmark ends with 0 before its deadline, and prints figures."""
    for part, names in PARTS.items():
        if name in names:
            needs(part)
    command = [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--small", "--deadline", "240"]
    if name in PARTS["postgres"]:
        command += ["--dsn", request.getfixturevalue("dsn")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert any(character.isdigit() for character in done.stdout), done.stdout


def test_a_benchmark_that_hangs_ends_at_its_deadline(tmp_path: Path) -> None:
    """A benchmark that waits for ever ends with 1 at its deadline, with a message."""
    hangs = (
        "import argparse, threading, options; options.parse(argparse.ArgumentParser(), {}); threading.Event().wait()"
    )
    command = [sys.executable, "-c", hangs, "--deadline", "0.2"]
    environment = {"PYTHONPATH": str(ROOT / "bench")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, "not done within 0.2 seconds" in done.stderr) == (1, True), done.stderr
