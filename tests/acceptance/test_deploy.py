"""What stands in deploy/: run where it can run here, held to its own rules where it cannot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spanpost.settings import variable_names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.acceptance


def documents(path: Path) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(path.read_text()))


def test_every_variable_exists() -> None:
    """Whatever a deployment file tells spanpost is a setting that there is."""
    said = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bSPANPOST_[A-Z]+__[A-Z_]+\b", path.read_text())
    }
    assert said - set(variable_names()) == set()
    assert "SPANPOST_GATEWAY__HOST" in said


def test_kubernetes_takes_the_objects() -> None:
    """Each object is what the API's own schema asks for, unknown fields refused."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    objects = documents(DEPLOY / "kubernetes" / "spanpost.yaml")
    for each in objects:
        kubernetes_validate.validate(each, "1.33", strict=True)
    assert [each["kind"] for each in objects] == ["Job", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"]


def test_kubernetes_objects_find_one_another() -> None:
    """The service, the budget and the policy select the pods of the deployment, and ports go by names that it has."""
    _, deployment, *others = documents(DEPLOY / "kubernetes" / "spanpost.yaml")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    service, budget, policy = others
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [budget["spec"]["selector"]["matchLabels"], policy["spec"]["podSelector"]["matchLabels"]]
    assert all(selector == labels for selector in selectors)
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports


def test_the_compose_file_mounts_what_is_there() -> None:
    """Each file that a service mounts or is built from exists, and each dependency is a service."""
    [compose] = documents(DEPLOY / "compose" / "compose.yaml")
    services = compose["services"]
    mounted = [
        DEPLOY / "compose" / source
        for service in services.values()
        for source in (volume.split(":")[0] for volume in service.get("volumes", ()))
        if source.startswith(".")
    ]
    built = [service["build"] for service in services.values() if "build" in service]
    mounted += [DEPLOY / "compose" / build["context"] / build["dockerfile"] for build in built]
    assert mounted
    assert [path for path in mounted if not path.is_file()] == []
    assert {name for service in services.values() for name in service.get("depends_on", ())} <= set(services)


def test_the_image_copies_what_is_there() -> None:
    """What the container file copies from the checkout exists, and pip is asked for extras that there are."""
    import tomllib

    text = (DEPLOY / "container" / "Containerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for path in (DEPLOY / "container" / "Containerfile", DEPLOY / "deploy"):
        [asked] = re.findall(r"(?:'\.\[|extras=)([a-z,]+)", path.read_text())
        assert set(asked.split(",")) <= extras


def test_systemd_takes_the_unit(needs: Callable[[str], str], tmp_path: Path) -> None:
    """The unit has no fault that systemd finds, once its program is there."""
    unit = tmp_path / "spanpost.service"
    unit.write_text((DEPLOY / "systemd" / "spanpost.service").read_text().replace("/opt/spanpost/bin/spanpost", sys.executable))
    said = subprocess.run([needs("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


#: Plays systemctl: starts the program of the unit in the environment that the unit names, and stops it by pid.
SYSTEMCTL = """
    [ "$1" = restart ] || exit 0
    if [ -e "$STATE/pid" ]; then kill "$(cat "$STATE/pid")" 2>/dev/null || true; fi
    set -a; . "$ENV_FILE"; set +a
    nohup "$PREFIX/bin/spanpost" run >>"$STATE/log" 2>&1 </dev/null &
    echo $! >"$STATE/pid"
"""


@pytest.fixture
def host(tmp_path: Path, open_dir: Callable[[], Path]) -> Iterator[dict[str, str]]:
    """Lend the variables under which the script installs into a directory of its own."""
    with socket.socket() as http, socket.socket() as grpc:
        for each in (http, grpc):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (http, grpc)]
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
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "PYTHON", "VIRTUAL_ENV"))},
        "PREFIX": str(state / "opt"),
        "ENV_FILE": str(env_file),
        "UNIT_DIR": str(state),
        "STATE": str(state),
        "SYSTEMCTL": str(systemctl),
        "HEALTH_URL": f"http://127.0.0.1:{ports[0]}/health/ready",
        "PATIENCE": "90",
        # Most of what is installed is never imported here.
        "UV_COMPILE_BYTECODE": "0",
    }
    with suppress(OSError, ValueError):
        os.kill(int((state / "pid").read_text()), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_command_installs_and_falls_back(host: dict[str, str], tmp_path: Path) -> None:
    """The script leaves a service that is ready, installed by uv; a version that does not get ready, by pip, is taken back, and the
    one before runs."""

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
            "spanpost-9.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("spanpost-9.dist-info/entry_points.txt", "[console_scripts]\nspanpost = spanpost:main\n")
        wheel.writestr("spanpost-9.dist-info/RECORD", "")
    second = deploy(broken, PATIENCE="3", PATH=without)
    assert second.returncode == 1
    assert "putting the version before back" in second.stderr
    version = subprocess.run(
        [Path(host["PREFIX"], "bin", "python"), "-c", "from importlib.metadata import version; print(version('spanpost'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.strip() != "9"
