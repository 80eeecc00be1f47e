"""The files in deploy/: run if that is possible here, else checked by rules of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from spanpost.http.guard import AllowedRequest, GuardedRequest
from spanpost.settings import load, variable_names
from spanpost.settings.guards import gateway_guard
from tests.eventually import free_port

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
        if path.is_file()
    }
    assert {name: lists for name, lists in found.items() if lists} == {
        "container/Containerfile": ["server"],
        "deploy": ["server,embedded"],
    }


def test_systemd_takes_the_unit(needs: Callable[[str], str], tmp_path: Path) -> None:
    """systemd finds no fault in the unit file, once its program exists."""
    unit = tmp_path / "spanpost.service"
    unit.write_text(
        (DEPLOY / "systemd" / "spanpost.service").read_text().replace("/opt/spanpost/bin/spanpost", sys.executable)
    )
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
print(urllib.request.urlopen(gateway.http_url + "/health/ready", timeout=20).read().decode())
gateway.stop()
"""


@pytest.mark.slow
def test_it_runs_without_memory_to_write_and_execute(open_dir: Callable[[], Path]) -> None:
    """Gateway, gRPC and the embedded database run without memory that is written and executed."""
    command = [sys.executable, "-c", CONFINED, str(open_dir() / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77:
        pytest.skip("the kernel knows no PR_SET_MDWE")
    assert (done.returncode, "ready" in done.stdout) == (0, True), done.stderr


#: Plays systemctl: starts the program of the unit file in its environment, and stops it by pid.
SYSTEMCTL = """
    [ "$1" = restart ] || exit 0
    if [ -e "$STATE/pid" ]; then kill "$(cat "$STATE/pid")" 2>/dev/null || true; fi
    set -a; . "$ENV_FILE"; set +a
    nohup "$PREFIX/bin/spanpost" run >>"$STATE/log" 2>&1 </dev/null &
    echo $! >"$STATE/pid"
"""


@pytest.fixture
def host(tmp_path: Path, open_dir: Callable[[], Path]) -> Iterator[dict[str, str]]:
    """Return the variables under which the script installs into a directory of its own."""
    ports = [free_port(), free_port()]
    state = open_dir()
    systemctl = state / "systemctl"
    systemctl.write_text("#!/bin/bash\n" + textwrap.dedent(SYSTEMCTL))
    systemctl.chmod(0o755)
    env_file = state / "spanpost.env"
    env_file.write_text(
        f"SPANPOST_GATEWAY__HTTP_PORT={ports[0]}\nSPANPOST_GATEWAY__GRPC_PORT={ports[1]}\n"
        f"SPANPOST_DATABASE__DATA_DIR={state}/data\n"
    )
    yield {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SPANPOST_", "PYTHON", "VIRTUAL_ENV"))
        },
        "PREFIX": str(state / "opt"),
        "ENV_FILE": str(env_file),
        "UNIT_DIR": str(state),
        "STATE": str(state),
        "SYSTEMCTL": str(systemctl),
        "HEALTH_URL": f"http://127.0.0.1:{ports[0]}/health/ready",
        "READY_TIMEOUT": "90",
        # Most of what is installed is never imported here.
        "UV_COMPILE_BYTECODE": "0",
    }
    with suppress(OSError, ValueError):
        os.kill(int((state / "pid").read_text()), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_command_installs_and_falls_back(host: dict[str, str], tmp_path: Path) -> None:
    """The script installs a ready service; if a new version does not get ready the old one runs again."""

    def deploy(what: Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(DEPLOY / "deploy"), str(what)]
        return subprocess.run(command, env=host | more, capture_output=True, text=True, check=False, timeout=300)

    uv = subprocess.run(
        [ROOT / "scripts" / "install-frameworks", "--uv"], capture_output=True, text=True, check=True
    ).stdout.strip()
    without = os.pathsep.join(d for d in host["PATH"].split(os.pathsep) if not Path(d, "uv").exists())
    first = deploy(ROOT, PATH=f"{Path(uv).parent}{os.pathsep}{without}")
    log = Path(host["STATE"], "log")
    assert first.returncode == 0, first.stderr + log.read_text()
    assert "ready" in first.stderr

    broken = tmp_path / "spanpost-9-py3-none-any.whl"
    with zipfile.ZipFile(broken, "w") as wheel:
        wheel.writestr("spanpost/__init__.py", "def main(): raise SystemExit('no')\n")
        wheel.writestr("spanpost-9.dist-info/METADATA", "Metadata-Version: 2.1\nName: spanpost\nVersion: 9\n")
        wheel.writestr(
            "spanpost-9.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("spanpost-9.dist-info/entry_points.txt", "[console_scripts]\nspanpost = spanpost:main\n")
        wheel.writestr("spanpost-9.dist-info/RECORD", "")
    second = deploy(broken, READY_TIMEOUT="3", PATH=without)
    assert second.returncode == 1
    assert "putting the version before back" in second.stderr
    version = subprocess.run(
        [
            Path(host["PREFIX"], "bin", "python"),
            "-c",
            "from importlib.metadata import version; print(version('spanpost'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.strip() != "9"
