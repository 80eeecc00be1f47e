"""The script that compares recordings of two versions of a library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tasks.recorded_runs import COMMITTED, ROOT

SCRIPT = ROOT / "scripts" / "compare_recordings.py"


def compare(*arguments: Path | str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.slow
def test_it_names_what_a_newer_version_says_otherwise() -> None:
    """It names what is gone and what is added between two versions; of the same recording nothing."""
    old, new = COMMITTED / "pydantic-ai-1.0.0" / "ok", COMMITTED / "pydantic-ai" / "ok"
    assert compare(old, old) == (0, ["the same names"])
    code, lines = compare(old, new, "--values")
    assert code == 1
    assert "- span agent run  [pydantic-ai]" in lines
    assert "+ attribute of a span gen_ai.tool.call.arguments  [pydantic-ai]" in lines
    assert "+ value gen_ai.operation.name = invoke_agent  [pydantic-ai]" in lines
    assert [line.translate({43: 45, 45: 43}) for line in compare(new, old, "--values")[1]] != lines


@pytest.mark.slow
def test_ids_within_names_are_no_difference(tmp_path: Path) -> None:
    """Two runs of the same program differ in ids and numbers alone, and a directory without recordings is an error."""
    runs = COMMITTED / "vercel-ai-7"
    _, lines = compare(runs / "ok", runs / "conv")
    assert not [line for line in lines if "call_" in line or "0" in line]
    assert compare(runs / "ok", tmp_path)[0] == 2
