"""Child processes of a gateway that work on its tables."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["sealing", "retention"])
@pytest.mark.parametrize("given", [b"", b'{"half": '], ids=["nothing", "half a line"])
def test_a_child_whose_gateway_was_killed_at_its_start_says_nothing(module: str, given: bytes) -> None:
    """A child that never gets its whole line of settings ends with 1, without a traceback."""
    command = [sys.executable, "-m", f"spanpost.runtime.{module}"]
    ended = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
