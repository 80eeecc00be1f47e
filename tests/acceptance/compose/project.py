"""A Compose project: read by Docker Compose's own library, started in order, looked at from this machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.compose.container import DEFAULT, Container, Mount, Spec
from tests.acceptance.compose.images import Image, built, pulled
from tests.acceptance.compose.network import HERE, Network, network
from tests.conftest import find
from tests.eventually import free_port

#: What is understood of a project and of a service. Anything else is refused.
PROJECT = {"name", "services", "networks", "volumes", "secrets"}
SERVICE = {
    "image", "build", "command", "entrypoint", "environment", "env_file", "user", "network_mode", "networks", "ports",
    "volumes", "secrets", "tmpfs", "read_only", "cap_drop", "cap_add", "security_opt", "depends_on", "healthcheck",
    "restart", "stop_grace_period",
}  # fmt: skip
#: Seconds in which all services must have started.
LIMIT = 240.0
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Refused(Exception):
    """Docker Compose would not start the project: its words."""


def read(directory: Path) -> dict[str, Any]:
    """Return the project of a directory, resolved with its .env and its services' files of variables.

    Raises `Refused` where `docker compose up` would end at once.
    """
    done = subprocess.run(
        [find("compose-config"), str(directory)], capture_output=True, text=True, check=False, timeout=30, env={}
    )
    if done.returncode:
        raise Refused(done.stderr.strip())
    project: dict[str, Any] = json.loads(done.stdout)
    unknown = {key for key in project if not key.startswith("x-")} - PROJECT
    unknown |= {key for service in project["services"].values() for key in service.keys() - SERVICE}
    assert unknown == set(), f"not understood here: {sorted(unknown)}"
    for secret in project.get("secrets", {}).values():
        if not Path(secret["file"]).is_file():
            raise Refused(f"bind source path does not exist: {secret['file']}")
    return project


def _seconds(text: str) -> float:
    unit = "ms" if text.endswith("ms") else text[-1]
    return float(text.removesuffix(unit)) * _SECONDS[unit]


class Project:
    """The running services. `ports`: a published port to the port of this machine's loopback that leads there."""

    def __init__(self, project: Mapping[str, Any], network: Network, directory: Path) -> None:
        self.services: dict[str, dict[str, Any]] = project["services"]
        self.containers: dict[str, Container] = {}
        self.network = network
        self.ports: dict[str, int] = {}
        self._secrets = project.get("secrets", {})
        self._directory = directory
        self._images: dict[str, Image | None] = {name: self._image(one) for name, one in self.services.items()}

    @staticmethod
    def _image(service: Mapping[str, Any]) -> Image | None:
        if "build" in service:
            return built(Path(service["build"]["context"], service["build"]["dockerfile"]))
        return pulled(service["image"])

    @property
    def absent(self) -> list[str]:
        """Services whose programs this system does not have."""
        return [name for name, image in self._images.items() if image is None]

    def published(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each published port with its service."""
        for name, service in self.services.items():
            for port in service.get("ports", ()):
                yield name, port

    def mappings(self) -> list[tuple[str, int, str, str, int]]:
        """Choose a port of this machine for each published one; return what leads there."""
        found = []
        for name, port in self.published():
            assert port["protocol"] == "tcp"
            self.ports[port["published"]] = free_port()
            target = (self.network.namespace(), self.network.addresses[name], port["target"])
            found.append((HERE, self.ports[port["published"]], *target))
        return found

    def url(self, published: int) -> str:
        """Return the address of a published port."""
        return f"http://127.0.0.1:{self.ports[str(published)]}"

    def _spec(self, name: str, image: Image) -> Spec:
        service = self.services[name]
        entrypoint, command = service.get("entrypoint"), service.get("command")
        if command is None:
            command = image.command if entrypoint is None else ()
        mounts = [Mount(source, target) for target, source in image.files.items()]
        directories = dict(image.directories)
        for volume in service.get("volumes", ()):
            source = volume["source"]
            if volume["type"] == "volume":
                source = self._volume(source, image.directories.get(volume["target"], (0, 0)))
            elif not os.path.lexists(source):
                Path(source).mkdir(parents=True)  # as Docker does
            mounts.append(Mount(str(source), volume["target"], volume.get("read_only", False)))
            directories.pop(volume["target"], None)
        for secret in service.get("secrets", ()):
            source = self._secrets[secret["source"]]["file"]
            mounts.append(Mount(source, secret.get("target") or f"/run/secrets/{secret['source']}"))
        user = image.user
        if "user" in service:
            uid, _, gid = service["user"].partition(":")
            user = (int(uid), int(gid or uid))
        dropped = service.get("cap_drop", [])
        assert dropped in ([], ["ALL"])
        assert set(service.get("security_opt", ())) <= {"no-new-privileges:true"}
        added = [capability.lower() for capability in service.get("cap_add", ())]
        health = service.get("healthcheck", {}).get("test") or image.health
        return Spec(
            name=name,
            command=(*(image.entrypoint if entrypoint is None else entrypoint), *command),
            user=user,
            environment={"HOME": "/", **image.environment, **(service.get("environment") or {})},
            mounts=mounts,
            directories=directories,
            tmpfs=service.get("tmpfs", ()),
            working_dir=image.working_dir,
            is_read_only=service.get("read_only", False),
            capabilities=(*(() if dropped else DEFAULT), *added),
            has_no_new_privileges=bool(service.get("security_opt")),
            health=health,
        )

    def _volume(self, name: str, owner: tuple[int, int]) -> Path:
        path = self._directory / "volumes" / name
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, *owner)
        return path

    def start(self) -> None:
        """Start each service after those that it depends on; wait until all serve and are healthy, or ended well."""
        waiting = [name for name, image in self._images.items() if image is not None]
        deadline = time.monotonic() + LIMIT
        healthy: set[str] = set()
        while waiting or self._unready(healthy):
            assert time.monotonic() < deadline, f"not started: {waiting or self._unready(healthy)}\n{self.logs()}"
            for name in list(waiting):
                depends = self.services[name].get("depends_on", {})
                if all(self._is_so(other, one["condition"], healthy) for other, one in depends.items()):
                    image = self._images[name]
                    assert image is not None
                    self.containers[name] = Container(self._spec(name, image), self.network, self._directory)
                    waiting.remove(name)
            for name, container in self.containers.items():
                if self.services[name].get("restart") == "always":
                    assert container.exit_code is None, f"{name} ended:\n{container.log[-4000:]}"
                assert not container.exit_code, f"{name} failed:\n{container.log[-4000:]}"
                if container.spec.health and name not in healthy and container.is_healthy:
                    healthy.add(name)
            time.sleep(0.3)

    def _is_so(self, name: str, condition: str, healthy: set[str]) -> bool:
        container = self.containers.get(name)
        if container is None:
            return False
        if condition == "service_completed_successfully":
            return container.exit_code == 0
        if condition == "service_healthy":
            assert container.spec.health, f"{name} has no test of health"
            return name in healthy
        assert condition == "service_started"
        return True

    def _unready(self, healthy: set[str]) -> list[str]:
        """Return the services that are to stay and are not healthy, and those that are to end and have not."""
        found = []
        for name, container in self.containers.items():
            is_to_stay = self.services[name].get("restart") == "always"
            ports = [port["target"] for port in self.services[name].get("ports", ())]
            serves = (name in healthy or not container.spec.health) and all(map(container.listens, ports))
            is_ready = serves if is_to_stay else container.exit_code == 0
            found += [] if is_ready else [name]
        return found

    def logs(self, services: Sequence[str] = ()) -> str:
        """Return what the services wrote."""
        return "\n".join(f"== {name}\n{self.containers[name].log}" for name in services or self.containers)

    def stop(self) -> dict[str, int | None]:
        """Stop what runs, in the reverse order; return the exit codes, None for what had to be killed."""
        codes = {}
        for name in reversed(self.containers):
            container = self.containers[name]
            if container.exit_code is None:
                codes[name] = container.stop(_seconds(self.services[name].get("stop_grace_period", "10s")))
        return codes


@contextmanager
def up(project: Mapping[str, Any], directory: Path, outside: Sequence[int] = ()) -> Iterator[Project]:
    """Start a project. Its services reach this machine's ports of `outside` at their own loopback, as the internet."""
    services = project["services"]
    with ExitStack() as stack:
        isolated = [name for name, one in services.items() if one.get("network_mode") == "none"]
        net = stack.enter_context(network(list(services), isolated))
        made = Project(project, net, directory)
        mappings = made.mappings()
        mappings += [(net.namespace("spanpost"), port, HERE, "127.0.0.1", port) for port in outside]
        stack.enter_context(net.forwarded(mappings))
        try:
            made.start()
            yield made
        finally:
            for container in made.containers.values():
                container.kill()
