"""Each folder of examples/ by the one command of its README, offline, and what its README says that one sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, find

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md") if path.parent.name != "auto_ops")
#: auto_ops has tests of its own.
NEEDS = {"typescript": ("clients", "node"), "go": ("go",)}

pytestmark = [pytest.mark.slow, pytest.mark.acceptance]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_there_are_at_least_twelve() -> None:
    """Twelve examples or more are folders with a README, and each is in the list of examples."""
    listed = (EXAMPLES / "README.md").read_text()
    assert len(FOLDERS) >= 12
    assert [name for name in FOLDERS if f"({name}/README.md)" not in listed] == []


@pytest.mark.parametrize("name", FOLDERS)
def test_the_command_shows_what_the_readme_says(name: str, tmp_path: Path, dsn: str) -> None:
    """The README's command ends with success, and its output has each line that the README shows, in this order."""
    found = {component: find(component) for component in NEEDS.get(name, ())}
    shutil.copytree(EXAMPLES / name, tmp_path / "examples" / name)
    shutil.copy(EXAMPLES / "with_gateway", tmp_path / "examples")
    (tmp_path / "clients").symlink_to(ROOT / "clients")
    if "clients" in found:  # built once for all tests, in place of the script's own npm
        built = Path(found["clients"]) / "typescript"
        modules = tmp_path / "examples" / name / "node_modules"
        (modules / "@spanpost").mkdir(parents=True)
        (modules / "@spanpost" / "agent").symlink_to(built)
        (modules / "@opentelemetry").symlink_to(built / "node_modules" / "@opentelemetry")
    page = (EXAMPLES / name / "README.md").read_text()
    [command], [shown] = _blocks(page, "bash"), _blocks(page, "text")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SPANPOST_", "OTEL_"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    if "run.sh" in command:
        environment["DATABASE_URL"] = dsn
    run = subprocess.run(
        ["bash", "-ec", command], cwd=tmp_path / "examples" / name, env=environment,
        capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    rest = run.stdout
    for line in shown.splitlines():
        _, there, rest = rest.partition(line)
        assert there, f"{line!r} is not there, or too early:\n{run.stdout}\n{run.stderr}"
