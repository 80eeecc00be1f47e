"""The configurations in collector-config/, run by a real OpenTelemetry Collector."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIGS = sorted(path for path in (Path(__file__).parents[2] / "collector-config").glob("*.yaml") if path.stem != "builder")

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_collector_takes_the_configuration(config: Path, needs: Callable[[str], str], tmp_path: Path) -> None:
    """The Collector finds every component of the configuration and no fault in it."""
    said = subprocess.run(
        [needs("otelcol"), "validate", "--config", str(config)],
        env={**os.environ, "QUEUE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
