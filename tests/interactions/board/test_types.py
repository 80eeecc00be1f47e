"""The types of the board's scripts, as the TypeScript compiler reads them out of plain JavaScript."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, find

STATIC = ROOT / "src" / "spanpost" / "interactions" / "board" / "static"
#: Plain JavaScript says no type of a member that is assigned later, nor of what an element is.
OPTIONS = [
    "--checkJs", "--allowJs", "--noEmit", "--target", "es2024", "--module", "es2022",
    "--lib", "es2024,esnext,dom,dom.iterable",
    "--moduleResolution", "bundler", "--noImplicitAny", "false", "--strict", "false",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.needs("typescript")
def test_types_of_the_scripts(tmp_path: Path) -> None:
    """Names, imports and numbers of arguments fit; a wrong one would fail only when somebody opens the page."""
    files = sorted(map(str, STATIC.glob("*.js")))
    compiler = find("typescript")
    done = subprocess.run(
        ["node", compiler, *OPTIONS, *files], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.stdout == ""
    assert done.returncode == 0
