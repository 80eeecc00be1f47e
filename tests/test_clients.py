"""The clients in other languages: their own tests, their versions, and the names that they emit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from spanpost import semconv
from tests.conftest import ROOT, find

CLIENTS = ROOT / "clients"


def test_the_versions_agree() -> None:
    """npm's package, its lock file and the Go package have the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    package, lock = (
        json.loads((CLIENTS / "typescript" / name).read_text()) for name in ("package.json", "package-lock.json")
    )
    assert {package["version"], lock["version"], lock["packages"][""]["version"]} == {version}
    assert f'const Version = "{version}"' in (CLIENTS / "go" / "doc.go").read_text()


def test_they_emit_names_of_the_conventions() -> None:
    """Every `agent.*` name in the clients is one of `spanpost.semconv`, and both clients have the same."""
    known = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    found = [
        set(re.findall(r'"(agent\.[a-z_.]+)"', (CLIENTS / path).read_text()))
        for path in ("typescript/src/semconv.ts", "go/semconv.go")
    ]
    assert found[0] == found[1]
    assert found[0] - known == set()


def test_they_need_the_api_alone() -> None:
    """The packages need OpenTelemetry's API, and nothing else."""
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text())
    assert (package.get("dependencies"), list(package["peerDependencies"])) == (None, ["@opentelemetry/api"])
    direct = re.findall(r"^\t(\S+) v\S+$", (CLIENTS / "go" / "go.mod").read_text(), re.MULTILINE)
    assert direct == ["go.opentelemetry.io/otel", "go.opentelemetry.io/otel/trace"]


@pytest.mark.slow
@pytest.mark.needs("clients", "node")
def test_the_typescript_client_passes_its_tests() -> None:
    """The tests of the package pass, built by the strict compiler."""
    package = Path(find("clients")) / "typescript"
    tests = [str(path) for path in package.glob("test/*.test.mjs")]
    run([find("node"), "--test", *tests], package)


@pytest.mark.slow
@pytest.mark.needs("go")
def test_the_go_client_passes_its_tests() -> None:
    """The module is vetted, and its tests pass; `SPANPOST_TEST_RACE=1` adds the race detector."""
    run([find("go"), "vet", "./..."], CLIENTS / "go")
    race = ["-race"] if os.environ.get("SPANPOST_TEST_RACE") else []
    run([find("go"), "test", *race, "./..."], CLIENTS / "go", CGO_ENABLED="1" if race else "0")


def run(command: list[str], directory: Path, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=directory, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
