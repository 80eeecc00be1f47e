"""deploy/deploy on a host without systemd: it installs a service, which is walked, and falls back."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from spanpost.store.embedded_roles import USER, address
from tests.acceptance.features import FEATURES, Deployment, record, settings, surroundings, walk
from tests.conftest import ROOT
from tests.eventually import free_port

DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.acceptance


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
        "GRPC": f"http://127.0.0.1:{ports[1]}",
        "READY_TIMEOUT": "90",
        # Most of what is installed is never imported here.
        "UV_COMPILE_BYTECODE": "0",
    }
    with suppress(OSError, ValueError):
        os.kill(int((state / "pid").read_text()), signal.SIGTERM)


def deploy(host: dict[str, str], what: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [str(DEPLOY / "deploy"), str(what)]
    return subprocess.run(command, env=host | more, capture_output=True, text=True, check=False, timeout=300)


def path_without_uv(host: dict[str, str]) -> str:
    return os.pathsep.join(d for d in host["PATH"].split(os.pathsep) if not Path(d, "uv").exists())


def install(host: dict[str, str], variables: dict[str, str]) -> Path:
    """Install this checkout with these settings; return the directory of its database."""
    command = [ROOT / "scripts" / "install-frameworks", "--uv"]
    uv = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with Path(host["ENV_FILE"]).open("a") as file:
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    done = deploy(host, ROOT, PATH=f"{Path(uv).parent}{os.pathsep}{path_without_uv(host)}")
    log = Path(host["STATE"], "log")
    assert done.returncode == 0, done.stderr + log.read_text()
    assert "ready" in done.stderr
    return Path(host["STATE"], "data")


def dsn_of(data: Path) -> str:
    """Return the address of the embedded database there."""
    return address(USER, (data / "password").read_text().strip(), data / "run")


def fall_back(host: dict[str, str], tmp_path: Path) -> None:
    """Install a version that does not get ready; see that the one before it is back."""
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
    second = deploy(host, broken, READY_TIMEOUT="3", PATH=path_without_uv(host))
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


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.needs("local-slack")
async def test_one_command_installs_and_falls_back(host: dict[str, str], tmp_path: Path) -> None:
    """The script installs a ready service with every feature; if a new version does not get ready the old one
    runs again.
    """
    async with surroundings(tmp_path) as (slack, webhooks):
        data = await asyncio.to_thread(install, host, settings(slack, webhooks))
        results = await walk(
            Deployment(
                gateway=host["HEALTH_URL"].removesuffix("/health/ready"),
                otlp_grpc=host["GRPC"],
                dsn=await asyncio.to_thread(dsn_of, data),
                slack=slack,
                webhooks=webhooks,
                command=(f"{host['PREFIX']}/bin/spanpost",),
            )
        )
    how = (
        "`deploy/deploy` of a checkout, its environment file, the embedded PostgreSQL and local-slack; without systemd."
    )
    record("systemd", how, results)
    assert results == dict.fromkeys(FEATURES, "yes")
    await asyncio.to_thread(fall_back, host, tmp_path)
