"""The installed wheels in fresh environments: another Python, and both ends of OpenTelemetry's range."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "test-pythons"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script as a module."""
    spec = spec_from_loader("test_pythons_script", SourceFileLoader("test_pythons_script", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> list[str]:
    """Run the script; return its last output. Without a package index skip, but not in CI."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SPANPOST_"))}
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    if "could not be installed" in done.stdout and os.environ.get("CI") != "true":
        pytest.skip(f"no packages are to be had: {said[-1]}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return said


def test_another_python_runs_the_wheels(script: ModuleType) -> None:
    """The wheels work when installed under the newest other Python on the machine, if there is one."""
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = [version for version in script.VERSIONS if version != mine and script.find(version)]
    if not others:
        pytest.skip(f"no Python of {', '.join(script.VERSIONS)} is here beside {mine}")
    said = run("--quick", others[-1])
    assert said[-1].startswith(f"Python {others[-1]}: passed")


def test_the_ends_of_the_range_of_opentelemetry() -> None:
    """The agent's side works with the oldest allowed OpenTelemetry, and with the newest."""
    oldest, newest = [line for line in run("--opentelemetry") if line.startswith("OpenTelemetry ")]
    assert (oldest.endswith(": passed"), newest.endswith(": passed")) == (True, True)
    assert oldest != newest
