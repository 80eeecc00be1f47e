"""The files in deploy/: run if that is possible here, else checked by rules of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from spanpost.http.guard import AllowedRequest, GuardedRequest
from spanpost.settings import load, variable_names
from spanpost.settings.guards import gateway_guard
from tests.acceptance.features import FEATURES, RECORDED

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.acceptance


def documents(path: Path) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(path.read_text()))


def test_every_variable_exists() -> None:
    """Each variable in a deployment file is an existing setting."""
    said = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bSPANPOST_[A-Z]+__[A-Z_]+\b", path.read_text())
    }
    assert said - set(variable_names()) == set()
    assert "SPANPOST_GATEWAY__HOST" in said


def passes(url: str, method: str = "GET") -> bool:
    """Return whether a gateway without settings accepts a request from its own machine to an address."""
    parts, settings = urlsplit(url), load(gateway={})
    assert settings.gateway is not None
    headers = {"host": [parts.netloc], "content-type": ["application/json"]}
    asked = GuardedRequest(method=method, path=parts.path, target=parts.path, peer="127.0.0.1", headers=headers)
    return isinstance(gateway_guard(settings, settings.gateway).judge(asked), AllowedRequest)


def test_the_guard_accepts_the_health_checks(clean_environment: Path) -> None:
    """The health checks of the image and of the script pass the guard without settings; a foreign page does not."""
    [image] = re.findall(r"http://[^'\s]+", (DEPLOY / "container" / "Containerfile").read_text())
    [script] = re.findall(r"HEALTH_URL:-([^}]+)", (DEPLOY / "deploy").read_text())
    for url in (image, script):
        assert passes(url)
    assert not passes("http://evil.example:4318/v1/traces", "POST")
    assert not passes("http://evil.example:4318/metrics")


def test_every_deployment_installs_the_same() -> None:
    """The files of deploy/ install the extra `server`; only a host's own script adds a PostgreSQL."""
    found = {
        str(path.relative_to(DEPLOY)): re.findall(r"(?:'\.\[|\bextras=|spanpost\[)([a-z,-]+)", path.read_text())
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix != ".md"
    }
    assert {name: lists for name, lists in found.items() if lists} == {
        "container/Containerfile": ["server"],
        "deploy": ["server,embedded"],
    }


@pytest.mark.parametrize("path", ["deploy/systemd/spanpost.service", "examples/auto_ops/auto_ops.service"])
def test_systemd_takes_the_unit(needs: Callable[[str], str], tmp_path: Path, path: str) -> None:
    """systemd finds no fault in the unit file, once its program exists."""
    unit = tmp_path / Path(path).name
    unit.write_text(re.sub(r"/opt/spanpost/bin/\w+", sys.executable, (ROOT / path).read_text()))
    said = subprocess.run([needs("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_the_unit_is_confined(needs: Callable[[str], str], tmp_path: Path) -> None:
    """systemd's exposure level of the unit file is below 2 of 10, where an ordinary service has 9."""
    unit = tmp_path / "spanpost.service"
    unit.write_text(
        (DEPLOY / "systemd" / "spanpost.service").read_text().replace("/opt/spanpost/bin/spanpost", sys.executable)
    )
    command = [needs("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=20", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr


#: Makes the kernel refuse memory that is both written and executed, as MemoryDenyWriteExecute does, and runs a
#: gateway on the embedded database.
CONFINED = """
import ctypes, sys, urllib.request
from pathlib import Path
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
database = {"embedded": True, "data_dir": Path(sys.argv[1])}
gateway = Gateway(load(database=database, gateway={"http_port": 0, "grpc_port": 0}))
gateway.start()
print(urllib.request.urlopen(gateway.http_url + "/health/ready", timeout=60).read().decode())
gateway.stop()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('A=[{"tenant": "default", "sha256": ["00"]}]', '[{"tenant": "default", "sha256": ["00"]}]'),
        ("A=postgresql://u:$p`w@h/db?x=1&touch=2;y #z", "postgresql://u:$p`w@h/db?x=1&touch=2;y #z"),
        ('A="a \\"b\\" \\$c $d"', 'a "b" $c $d'),
        ("A='$(id) \\n' ", "$(id) \\n"),
        ("# A=1\n; A=2\nA=a\\\nb", "ab"),
    ],
)
def test_settings_are_read_as_systemd_reads_them(tmp_path: Path, line: str, value: str) -> None:
    """What deploy/deploy gives to the upgrade of the tables is what the service gets: no shell reads the file."""
    (tmp_path / "spanpost.env").write_text(line + "\n")
    command = [ROOT / "deploy/systemd/with-environment", tmp_path / "spanpost.env", "printenv", "A"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == value + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["spanpost.env"]


def test_it_runs_without_memory_to_write_and_execute(open_dir: Callable[[], Path]) -> None:
    """Gateway, gRPC and the embedded database run without memory that is written and executed."""
    command = [sys.executable, "-c", CONFINED, str(open_dir() / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77:
        pytest.skip("the kernel knows no PR_SET_MDWE")
    assert (done.returncode, "ready" in done.stdout) == (0, True), done.stderr


def test_every_walk_tried_every_feature() -> None:
    """Each recorded walk is of a deployment of deploy/, or of the package alone, and has every feature."""
    walks = {path.stem: json.loads(path.read_text()) for path in RECORDED.glob("*.json")}
    deployments = {"package", *(path.name for path in DEPLOY.iterdir() if path.is_dir())}
    assert "package" in walks
    assert {name: set(FEATURES) - set(walk["features"]) for name, walk in walks.items()} == {
        name: set() for name in walks
    }
    assert set(walks) - deployments == set()
